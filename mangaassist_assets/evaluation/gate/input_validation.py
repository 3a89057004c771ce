"""What the gate refuses to judge: evaluation results that are not about the same examples, or hold NaN."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mangaassist_assets.core.arrays import Flags, Floats
from mangaassist_assets.evaluation.results import GateInput, ModelResults, ScopeResults, TrafficSample


def checked(results: GateInput) -> GateInput:
    """Return the results with arrays of float64 and bool.

    Raises:
        ValueError: Something is of the wrong length, not finite, out of range, or there for one model only that both
            should have; the message names it.
    """
    size = len(results.champion.outcomes)
    champion = _model("champion", results.champion, size, binary=results.binary)
    challenger = _model("challenger", results.challenger, size, binary=results.binary)
    if champion.other_figures.keys() != challenger.other_figures.keys():
        both = f"{sorted(champion.other_figures)} and {sorted(challenger.other_figures)}"
        raise ValueError(f"gate: champion and challenger need the same other figures, got {both}")
    for dimension, names in results.slices.items():
        _check_length(f"slices of {dimension!r}", len(names), size)
    if champion.scope is not None and challenger.scope is not None:
        refused = [len(scope.out_of_scope_refused) for scope in (challenger.scope, champion.scope)]
        _check_length("the challenger's out_of_scope_refused", *refused)
    if results.shoppers:
        _check_length("shoppers", len(results.shoppers), size)
    for name, fixed in results.fixed.items():
        _floats(f"the champion's outcomes on the {name}", fixed.champion)
        _floats(f"the challenger's outcomes on the {name}", fixed.challenger, len(fixed.champion))
    unknown = results.unknown_to_champion
    return replace(
        results,
        champion=champion,
        challenger=challenger,
        unknown_to_champion=None if unknown is None else _flags("unknown_to_champion", unknown, size),
        sample=None if results.sample is None else _sample(results.sample, size),
    )


def _sample(sample: TrafficSample, size: int) -> TrafficSample:
    probabilities = np.asarray(sample.inclusion_probabilities, dtype=np.float64)
    _check_length("inclusion_probabilities", len(probabilities), size)
    drawn = probabilities[~np.isnan(probabilities)]
    if not bool(np.all((drawn > 0) & (drawn <= 1))):
        raise ValueError("gate: inclusion probabilities must lie in (0, 1], or be NaN for what was not drawn")
    if sample.turns < size:
        raise ValueError(f"gate: a sample of {size} examples cannot be of {sample.turns} turns")
    return TrafficSample(inclusion_probabilities=probabilities, turns=sample.turns)


def _model(who: str, model: ModelResults, size: int, *, binary: bool) -> ModelResults:
    outcomes = _floats(f"the {who}'s outcomes", model.outcomes, size)
    if binary and not bool(np.isin(outcomes, (0.0, 1.0)).all()):
        raise ValueError(f"gate: the {who}'s outcomes are said to be binary and must be 0 or 1")
    confidences, latencies = model.confidences, model.latencies_ms
    if confidences is not None:
        confidences = _floats(f"the {who}'s confidences", confidences, size)
        if not bool(np.all((confidences >= 0) & (confidences <= 1 + 1e-6))):
            raise ValueError(f"gate: the {who}'s confidences must lie in [0, 1]")
    if latencies is not None:
        latencies = _floats(f"the {who}'s latencies_ms", latencies)
        if bool(np.any(latencies < 0)):
            raise ValueError(f"gate: the {who}'s latencies_ms must not be negative")
    if model.size_bytes is not None and model.size_bytes <= 0:
        raise ValueError(f"gate: the {who}'s size_bytes must be positive, got {model.size_bytes}")
    return replace(
        model,
        outcomes=outcomes,
        other_figures={
            name: _floats(f"the {who}'s {name!r}", values, size) for name, values in model.other_figures.items()
        },
        confidences=confidences,
        scope=None if model.scope is None else _scope(who, model.scope, size),
        latencies_ms=latencies,
    )


def _scope(who: str, scope: ScopeResults, size: int) -> ScopeResults:
    inside = None if scope.in_scope is None else _flags(f"the {who}'s in_scope", scope.in_scope, size)
    outside = None if scope.out_of_scope is None else _flags(f"the {who}'s out_of_scope", scope.out_of_scope, size)
    accepted, refused = (None if flags is None else int(flags.sum()) for flags in (inside, outside))
    return ScopeResults(
        in_scope_accepted=_flags(f"the {who}'s in_scope_accepted", scope.in_scope_accepted, accepted),
        out_of_scope_refused=_flags(f"the {who}'s out_of_scope_refused", scope.out_of_scope_refused, refused),
        in_scope=inside,
        out_of_scope=outside,
    )


def _floats(what: str, values: Floats, size: int | None = None) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"gate: {what} must have one value an example, got shape {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise ValueError(f"gate: {what} must be finite; {len(bad)} are not, the first at place {int(bad[0])}")
    _check_length(what, len(array), size)
    return array


def _flags(what: str, values: Flags, size: int | None = None) -> Flags:
    array = np.asarray(values)
    if array.ndim != 1 or not bool(np.isin(array, (0, 1)).all()):
        raise ValueError(f"gate: {what} must be one flag an example")
    _check_length(what, len(array), size)
    return array.astype(np.bool_)


def _check_length(what: str, length: int, size: int | None) -> None:
    if size is not None and length != size:
        raise ValueError(f"gate: {what} must have one entry for each of {size} examples, got {length}")
