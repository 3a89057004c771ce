"""The gate: may this challenger replace the champion?

`pass` needs proof that the challenger is better over all, proof on every slice that is large enough for one that it is
at most a margin worse there, no slice on which it is provably worse, and no broken guardrail metric. `fail` needs proof
of a loss: over all, on a slice, or of a guardrail metric. Everything else is `insufficient_evidence`, which never
promotes and says how many examples would be needed.

A challenger that is no better passes with a chance of at most alpha, whatever else is asked. One that is no worse fails
with a chance of at most alpha over all, alpha on any slice, and alpha by any guardrail metric.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mangaassist_assets.evaluation.gate.decision import (
    GateConfig,
    GateDecision,
    GuardrailFigures,
    SliceFigures,
    Verdict,
)
from mangaassist_assets.evaluation.gate.guardrail_metrics import judge_guardrails
from mangaassist_assets.evaluation.gate.input_validation import checked
from mangaassist_assets.evaluation.gate.paired_groups import resampled_difference
from mangaassist_assets.evaluation.gate.slices import judge_slices
from mangaassist_assets.evaluation.non_inferiority import proportion_bounds
from mangaassist_assets.evaluation.results import GateInput
from mangaassist_assets.evaluation.significance import (
    mcnemar_p_value,
    mcnemar_sample_size,
    mean_difference_sample_size,
)

_LISTED_NAMES = 10
_LONGEST_NAME = 60


def judge(results: GateInput, *, config: GateConfig | None = None) -> GateDecision:
    """Judge two models by what they did on the same examples; the order of the examples does not matter.

    Overall, right or wrong is judged by McNemar's exact test, figures on a scale by the paired bootstrap. Slices and
    guardrail metrics are judged by `slices` and `guardrail_metrics`. The verdict on an empty test set is
    `insufficient_evidence`.

    Raises:
        ValueError: The results are not about the same examples, or hold NaN.
    """
    settings = config or GateConfig()
    results = checked(results)
    if not len(results.champion.outcomes):
        return GateDecision(
            metric=results.metric,
            verdict="insufficient_evidence",
            reasons=(f"there are no test examples: at least {settings.minimum_examples} are needed",),
            figures={"examples": 0.0},
            needed_examples=settings.minimum_examples,
            champion_version=results.champion.version,
            challenger_version=results.challenger.version,
            config=settings,
        )
    figures, needed = _overall(results, settings)
    slices = judge_slices(
        results.champion.outcomes,
        results.challenger.outcomes,
        results.slices,
        binary=results.binary,
        config=settings,
    )
    guardrails = judge_guardrails(results, config=settings)
    losses = proven_losses(results.metric, figures, slices, guardrails, settings)
    missing, wanted = missing_proofs(results.metric, figures, needed, slices, guardrails, settings)
    verdict: Verdict = "fail" if losses else "insufficient_evidence" if missing else "pass"
    better = gain_proven(results.metric, figures, slices, settings)
    counts = [count for count in wanted if count is not None]
    return GateDecision(
        metric=results.metric,
        verdict=verdict,
        reasons=(*(losses or missing or [better]), *remarks(slices, guardrails)),
        figures=figures,
        slices=slices,
        guardrails=guardrails,
        needed_examples=max(counts) if verdict == "insufficient_evidence" and len(counts) == len(wanted) else None,
        champion_version=results.champion.version,
        challenger_version=results.challenger.version,
        config=settings,
    )


def _overall(results: GateInput, config: GateConfig) -> tuple[dict[str, float], int | None]:
    """Return the overall figures, and how many examples would show a gain that these do not, where there is one."""
    champion, challenger = results.champion.outcomes, results.challenger.outcomes
    size = len(champion)
    gained, lost = int((challenger > champion).sum()), int((challenger < champion).sum())
    if results.binary:
        bounds = proportion_bounds(
            *(np.array([float(count)]) for count in (gained, lost, size)),
            margin=config.slice_margin,
            confidence=config.confidence,
        )
        low, high = float(bounds.low[0]), float(bounds.high[0])
        p_better = mcnemar_p_value(gained, lost, alternative="greater")
        p_worse = mcnemar_p_value(gained, lost, alternative="less")
        needed = None
        if p_better > config.alpha:
            needed = mcnemar_sample_size(
                gain_rate=gained / size, loss_rate=lost / size, alpha=config.alpha, power=config.power
            )
    else:
        result = resampled_difference(champion, challenger, config=config)
        low, high, p_better, p_worse = result.low, result.high, result.p_better, result.p_worse
        needed = mean_difference_sample_size(
            difference=result.difference,
            deviation=float((challenger - champion).std()),
            alpha=config.alpha,
            power=config.power,
        )
    figures = {
        "examples": float(size),
        "champion": float(champion.mean()),
        "challenger": float(challenger.mean()),
        "difference": float(challenger.mean() - champion.mean()),
        "difference_low": low,
        "difference_high": high,
        "gained": float(gained),
        "lost": float(lost),
        "p_better": p_better,
        "p_worse": p_worse,
    }
    for name in sorted(results.champion.other_figures):
        figures[f"champion_{name}"] = float(results.champion.other_figures[name].mean())
        figures[f"challenger_{name}"] = float(results.challenger.other_figures[name].mean())
    unknown = results.unknown_to_champion
    if unknown is not None and bool(unknown.any()):
        figures["unknown_to_champion"] = float(unknown.sum())
        figures["challenger_on_unknown"] = float(challenger[unknown].mean())
        if not bool(unknown.all()):
            figures["champion_on_known"] = float(champion[~unknown].mean())
            figures["challenger_on_known"] = float(challenger[~unknown].mean())
    return figures, needed


def proven_losses(
    metric: str,
    figures: Mapping[str, float],
    slices: Sequence[SliceFigures],
    guardrails: Sequence[GuardrailFigures],
    config: GateConfig,
) -> list[str]:
    """Return each loss that is proven: any of them fails the challenger."""
    reasons = []
    if figures["p_worse"] <= config.alpha:
        reasons.append(
            f"the challenger is significantly worse: {_change(metric, figures)}, p = {figures['p_worse']:.3g}"
        )
    worse = sorted((item for item in slices if item.judgement == "worse"), key=lambda item: item.p_worse_corrected)
    reasons += [
        f"significantly worse on {_slice_name(item)}: {item.champion:.3f} → {item.challenger:.3f} on {item.examples} "
        f"examples, p = {item.p_worse_corrected:.3g} after Holm's correction"
        for item in worse[:_LISTED_NAMES]
    ]
    if len(worse) > _LISTED_NAMES:
        reasons.append(f"significantly worse on {len(worse) - _LISTED_NAMES} more slices")
    reasons += [
        f"{one.name}: {one.champion:.4g} → {one.challenger:.4g} breaks the limit ({one.limit}); {one.why}"
        for one in guardrails
        if one.judgement == "broken"
    ]
    return reasons


def missing_proofs(
    metric: str,
    figures: Mapping[str, float],
    needed: int | None,
    slices: Sequence[SliceFigures],
    guardrails: Sequence[GuardrailFigures],
    config: GateConfig,
) -> tuple[list[str], list[int | None]]:
    """Return what keeps the challenger from passing, and how large a test set would settle each, None if none would."""
    size = int(figures["examples"])
    reasons: list[str] = []
    wanted: list[int | None] = []
    if figures["p_better"] > config.alpha:
        wanted.append(None if needed is None else max(needed, size + 1, config.minimum_examples))
        reasons.append(f"no significant difference: {_change(metric, figures)}, p better = {figures['p_better']:.3g}")
        reasons.append(
            "there is no gain that more examples could confirm"
            if needed is None
            else f"to see this difference with {config.power:.0%} power takes about {wanted[-1]} test examples"
        )
    elif size < config.minimum_examples:
        wanted.append(config.minimum_examples)
        reasons.append(f"better, but {size} test examples are too few: at least {config.minimum_examples} are needed")
    undecided = sorted(
        (item for item in slices if item.judgement == "undecided"),
        key=lambda item: (item.low, item.dimension, item.name),
    )
    wanted += [_scaled(item.needed_examples, item.examples, size) for item in undecided]
    reasons += [
        f"not proven to be at most {config.slice_margin:g} worse on {_slice_name(item)}: {item.champion:.3f} → "
        f"{item.challenger:.3f}, {item.difference:+.3f} ({item.low:+.3f} to {item.high:+.3f}) on {item.examples} "
        f"examples{_takes(item.needed_examples)}"
        for item in undecided[:_LISTED_NAMES]
    ]
    if len(undecided) > _LISTED_NAMES:
        reasons.append(f"not proven on {len(undecided) - _LISTED_NAMES} more slices")
    for one in guardrails:
        if one.required and one.judgement != "held":
            reasons.append(f"{one.name}: not proven ({one.limit}); {one.why}{_takes(one.needed_examples)}")
            known = size - int(figures.get("unknown_to_champion", 0.0))
            wanted.append(_scaled(one.needed_examples, known, size))
    return reasons, wanted


def gain_proven(metric: str, figures: Mapping[str, float], slices: Sequence[SliceFigures], config: GateConfig) -> str:
    """Return why a challenger passes."""
    proven = sum(item.judgement == "non_inferior" for item in slices)
    parts = f", at most {config.slice_margin:g} worse on each of {proven} slices that can be judged" if proven else ""
    gain = f"the challenger is significantly better: {_change(metric, figures)}, p = {figures['p_better']:.3g}"
    return f"{gain}{parts}, and no loss on a slice or of a guardrail metric is proven"


def remarks(slices: Sequence[SliceFigures], guardrails: Sequence[GuardrailFigures]) -> list[str]:
    """Return what was not judged, which a reader of any verdict must know."""
    said = []
    small = [item for item in slices if item.judgement == "too_small"]
    if small:
        listed = ", ".join(_short(item.label) for item in small[:_LISTED_NAMES])
        wanted = max(item.needed_examples or 0 for item in small)
        said.append(
            f"{len(small)} of {sum(not item.pooled for item in slices)} slices are too small to prove that each is not "
            f"worse (about {wanted} examples needed): {listed}{', …' if len(small) > _LISTED_NAMES else ''}"
        )
    for judgement, words in (
        ("undecided", "neither held nor broken by proof"),
        ("not_judged", "not judged"),
        ("not_measured", "not measured"),
    ):
        named = [one.name for one in guardrails if one.judgement == judgement and not one.required]
        if named:
            said.append(f"{words}: {', '.join(named)}")
    return said


def _change(metric: str, figures: Mapping[str, float]) -> str:
    return f"{metric} {figures['champion']:.4f} → {figures['challenger']:.4f} on {int(figures['examples'])} examples"


def _slice_name(item: SliceFigures) -> str:
    return f"{item.dimension} {_short(item.label)!r}"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _takes(examples: int | None) -> str:
    return "; more examples would not prove it" if examples is None else f"; about {examples} would be needed"


def _scaled(needed: int | None, part: int, size: int) -> int | None:
    """Return how large the whole test set must be for a part of it to have the needed size."""
    return None if needed is None or not part else math.ceil(needed / part * size)
