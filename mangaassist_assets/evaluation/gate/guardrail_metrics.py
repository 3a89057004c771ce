"""What a better challenger must not have paid with: what the champion knows, fixed sets, calibration, scope, costs.

A guardrail metric is `broken` where the data prove a loss of more than its margin; `held` where they prove that the
loss stays within it; `undecided` where they prove neither. What was not measured is reported, and never held. The
proofs of a loss are one family of tests, with Holm's correction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mangaassist_assets.core.arrays import Flags, Floats
from mangaassist_assets.evaluation.gate.decision import GateConfig, GuardrailFigures, GuardrailJudgement
from mangaassist_assets.evaluation.metrics import expected_calibration_error
from mangaassist_assets.evaluation.results import GateInput, ModelResults
from mangaassist_assets.evaluation.significance import holm
from mangaassist_assets.evaluation.weighted_difference import Weighted, weighted, weighted_difference

KNOWN = "known to the champion"
CALIBRATION = "calibration (Brier score)"
REFUSED = "out-of-scope refused"
ACCEPTED = "in-scope accepted"
LATENCY = "p95 latency (ms)"
SIZE = "artifact size (bytes)"

_LEAST_EXAMPLES = 10
_LATENCY_CELLS = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A guardrail metric before Holm's correction.

    `p_broken` is None where nothing is tested. `within` is the proof that it holds.
    """

    figures: GuardrailFigures
    p_broken: float | None = None
    within: bool = False

    def changed(self, **changes: Any) -> _Draft:  # noqa: ANN401 - fields of the figures
        return replace(self, figures=replace(self.figures, **changes))

    def settled(self, p_broken: float, config: GateConfig) -> GuardrailFigures:
        figures = replace(self.figures, p_broken=p_broken)
        if p_broken <= config.alpha:
            return replace(figures, judgement="broken")
        return replace(figures, judgement="held") if self.within else figures


def judge_guardrails(results: GateInput, *, how: Weighted, config: GateConfig) -> tuple[GuardrailFigures, ...]:
    """Judge all guardrail metrics; the order is that of the report. `how` is what the examples stand for."""
    drafts = [
        *_other_figures(results, how, config),
        *_known(results, how, config),
        *_fixed_sets(results, config),
        _calibration(results, how, config),
        *_scope(results, how, config),
        _latency(results.champion, results.challenger, config),
        _size(results.champion, results.challenger, config),
    ]
    corrected = iter(holm([draft.p_broken for draft in drafts if draft.p_broken is not None]))
    return tuple(
        draft.figures if draft.p_broken is None else draft.settled(next(corrected), config) for draft in drafts
    )


def _compared(
    name: str, both: Sequence[Floats], how: Weighted, *, margin: float, limit: str, config: GateConfig
) -> _Draft:
    """Compare one figure per example, of champion and challenger, higher is better, over all of them."""
    champion, challenger = both
    size = len(champion)
    if size < _LEAST_EXAMPLES:
        figures = GuardrailFigures(
            name=name,
            judgement="not_judged",
            limit=limit,
            why=f"{size} examples: at least {_LEAST_EXAMPLES} are needed",
            champion=float(champion.mean()) if size else None,
            challenger=float(challenger.mean()) if size else None,
        )
        return _Draft(figures=figures)
    item = weighted_difference(champion, challenger, how)
    low, high = item.interval(config.confidence)
    figures = GuardrailFigures(
        name=name,
        judgement="undecided",
        limit=limit,
        why=f"paired on {size} examples",
        champion=item.champion,
        challenger=item.challenger,
        low=low,
        high=high,
    )
    return _Draft(figures=figures, p_broken=item.p_worse(margin), within=item.p_better(-margin) <= config.alpha)


def _other_figures(results: GateInput, how: Weighted, config: GateConfig) -> list[_Draft]:
    """Judge figures beside the deciding one, by the margin of a slice."""
    return [
        _compared(
            name,
            (results.champion.other_figures[name], results.challenger.other_figures[name]),
            how,
            margin=config.slice_margin,
            limit=f"at most {config.slice_margin:g} lower",
            config=config,
        )
        for name in sorted(results.champion.other_figures)
    ]


def _known(results: GateInput, how: Weighted, config: GateConfig) -> list[_Draft]:
    """Protect what the champion had a chance at: what new intents take from old ones is weighed by traffic."""
    unknown = results.unknown_to_champion
    if unknown is None or not bool(np.any(unknown)):
        return []
    known = np.flatnonzero(~unknown)
    return [
        _compared(
            f"{results.metric} on examples {KNOWN}",
            (results.champion.outcomes[known], results.challenger.outcomes[known]),
            how.at(known),
            margin=config.known_margin,
            limit=f"at most {config.known_margin:g} lower",
            config=config,
        )
    ]


def _fixed_sets(results: GateInput, config: GateConfig) -> list[_Draft]:
    """Protect what is asked again at every gate, whatever the traffic asks."""
    return [
        _compared(
            f"{results.metric} on the {name}",
            (fixed.champion, fixed.challenger),
            weighted(len(fixed.champion), sample=None, shoppers=()),
            margin=config.known_margin,
            limit=f"at most {config.known_margin:g} lower",
            config=config,
        )
        for name, fixed in sorted(results.fixed.items())
    ]


def _calibration(results: GateInput, how: Weighted, config: GateConfig) -> _Draft:
    """Compare squared errors of the stated confidence, a proper score with a value per example; ECE has none."""
    champion, challenger = results.champion.confidences, results.challenger.confidences
    limit = f"at most {config.calibration_margin:g} higher"
    if champion is None or challenger is None:
        return _not_measured(CALIBRATION, limit, _missing(champion, challenger, "confidences"))
    if not results.binary:
        return _not_measured(CALIBRATION, limit, "confidence is about right and wrong answers, outcomes are on a scale")
    answered = ((champion, results.champion.outcomes), (challenger, results.challenger.outcomes))
    scores = [-((np.clip(confidences, 0.0, 1.0) - outcomes) ** 2) for confidences, outcomes in answered]
    before, after = (expected_calibration_error(confidences, outcomes > 0.5) for confidences, outcomes in answered)
    draft = _compared(CALIBRATION, scores, how, margin=config.calibration_margin, limit=limit, config=config)
    figures = draft.figures
    # Lower is better here, so it was compared with its sign changed.
    return draft.changed(
        why=f"{figures.why}; expected calibration error {before:.4f} → {after:.4f}",
        champion=None if figures.champion is None else -figures.champion,
        challenger=None if figures.challenger is None else -figures.challenger,
        low=None if figures.high is None else -figures.high,
        high=None if figures.low is None else -figures.low,
    )


def _scope(results: GateInput, how: Weighted, config: GateConfig) -> list[_Draft]:
    champion, challenger = results.champion.scope, results.challenger.scope
    limit = f"at most {config.scope_margin:g} lower"
    if champion is None or challenger is None:
        why = _missing(champion, challenger, "decisions on scope")
        return [_not_measured(name, limit, why) for name in (REFUSED, ACCEPTED)]
    # Where it is not told which examples are of no intent, each counts alike.
    outside = champion.out_of_scope
    refused = _compared(
        REFUSED,
        [one.out_of_scope_refused.astype(float) for one in (champion, challenger)],
        weighted(len(champion.out_of_scope_refused), sample=None, shoppers=())
        if outside is None
        else how.at(np.flatnonzero(outside)),
        margin=config.scope_margin,
        limit=limit,
        config=config,
    )
    if champion.in_scope is None or challenger.in_scope is None:
        if len(champion.in_scope_accepted) != len(challenger.in_scope_accepted):
            return [refused, _not_measured(ACCEPTED, limit, "the models report on different in-scope examples")]
        both = [one.in_scope_accepted.astype(float) for one in (champion, challenger)]
        accepted = _compared(
            ACCEPTED,
            both,
            weighted(len(both[0]), sample=None, shoppers=()),
            margin=config.scope_margin,
            limit=limit,
            config=config,
        )
        return [refused, accepted]
    # Two models that know different intents are compared on the examples of both.
    shared: Flags = champion.in_scope & challenger.in_scope
    both = [
        one.in_scope_accepted[shared[one.in_scope]].astype(float)
        for one in (champion, challenger)
        if one.in_scope is not None
    ]
    accepted = _compared(
        ACCEPTED, both, how.at(np.flatnonzero(shared)), margin=config.scope_margin, limit=limit, config=config
    )
    return [refused, accepted]


def _latency(champion: ModelResults, challenger: ModelResults, config: GateConfig) -> _Draft:
    limit = f"at most {config.max_latency_ratio:g} times"
    ours, theirs = challenger.latencies_ms, champion.latencies_ms
    if ours is None or theirs is None:
        return _not_measured(LATENCY, limit, _missing(theirs, ours, "timed requests"))
    requests = min(len(ours), len(theirs))
    if requests < config.minimum_requests:
        why = f"{requests} requests: at least {config.minimum_requests} are needed"
        return _not_measured(LATENCY, limit, why, judgement="not_judged")
    slow, fast = float(_p95(ours)), float(_p95(theirs))
    if fast <= 0:
        why = "the champion's p95 is 0: the clock was too coarse"
        return _not_measured(LATENCY, limit, why, judgement="not_judged")
    ratios = _resampled_ratios(ours, theirs, config)
    low, high = np.quantile(ratios, [config.alpha, 1 - config.alpha])
    figures = GuardrailFigures(
        name=LATENCY,
        judgement="undecided",
        limit=limit,
        why=f"ratio {slow / fast:.3f} on {requests} requests",
        champion=fast,
        challenger=slow,
        low=float(low),
        high=float(high),
    )
    p_broken = (1 + int((ratios <= config.max_latency_ratio).sum())) / (len(ratios) + 1)
    return _Draft(figures=figures, p_broken=p_broken, within=float(high) <= config.max_latency_ratio)


def _resampled_ratios(ours: Floats, theirs: Floats, config: GateConfig) -> Floats:
    """Return ratios of p95 in resamples of the requests, drawn in pairs where both models answered them in turns."""
    paired = len(ours) == len(theirs)
    order = np.lexsort((ours, theirs)) if paired else np.argsort(theirs)
    theirs, ours = theirs[order], ours[order] if paired else np.sort(ours)
    generator = np.random.default_rng(config.seed)
    step = max(1, _LATENCY_CELLS // max(len(ours), len(theirs)))
    parts = []
    for start in range(0, config.resamples, step):
        rows = min(step, config.resamples - start)
        drawn = generator.integers(0, len(theirs), size=(rows, len(theirs)))
        again = drawn if paired else generator.integers(0, len(ours), size=(rows, len(ours)))
        parts.append(_p95(ours[again]) / np.maximum(_p95(theirs[drawn]), 1e-9))
    return np.concatenate(parts)


def _p95(latencies: Floats) -> Floats:
    """Return the smallest latency that 95 % of the requests do not exceed, along the last axis."""
    place = math.ceil(0.95 * latencies.shape[-1]) - 1
    return np.asarray(np.partition(latencies, place, axis=-1)[..., place], dtype=np.float64)


def _size(champion: ModelResults, challenger: ModelResults, config: GateConfig) -> _Draft:
    limit = f"at most {config.max_size_ratio:g} times"
    if champion.size_bytes is None or challenger.size_bytes is None:
        why = _missing(champion.size_bytes, challenger.size_bytes, "artifact's size")
        return _not_measured(SIZE, limit, why)
    ratio = challenger.size_bytes / champion.size_bytes
    figures = GuardrailFigures(
        name=SIZE,
        judgement="held" if ratio <= config.max_size_ratio else "broken",
        limit=limit,
        why=f"ratio {ratio:.3f}",
        champion=float(champion.size_bytes),
        challenger=float(challenger.size_bytes),
    )
    return _Draft(figures=figures)


def _not_measured(name: str, limit: str, why: str, *, judgement: GuardrailJudgement = "not_measured") -> _Draft:
    return _Draft(figures=GuardrailFigures(name=name, judgement=judgement, limit=limit, why=why))


def _missing(champion: object, challenger: object, what: str) -> str:
    who = [name for name, value in (("champion", champion), ("challenger", challenger)) if value is None]
    return f"no {what} of the {' and the '.join(who)}"
