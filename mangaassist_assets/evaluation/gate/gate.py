"""The gate: may this challenger replace the champion?

`pass` needs proof that the challenger is better on the traffic, at the level that the budget of false promotions leaves
for this look. `fail` needs proof of a loss: on the traffic, or of more than the margin on something that is protected
(a slice, what the champion knows, a fixed set, another guardrail metric). Where a gain is proven and a slice looks bad
without a proof, a person decides (`needs_sign_off`). Everything else is `insufficient_evidence`: it never promotes, and
says how many examples a gain worth seeing would need. Examples that are no sample of the traffic prove nothing about
it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mangaassist_assets.evaluation.gate.decision import (
    GateConfig,
    GateDecision,
    GuardrailFigures,
    PromotionLevel,
    SliceFigures,
    Verdict,
)
from mangaassist_assets.evaluation.gate.guardrail_metrics import judge_guardrails
from mangaassist_assets.evaluation.gate.input_validation import checked
from mangaassist_assets.evaluation.gate.slices import judge_slices
from mangaassist_assets.evaluation.results import GateInput
from mangaassist_assets.evaluation.weighted_difference import (
    Weighted,
    WeightedDifference,
    weighted,
    weighted_difference,
)

_LISTED_NAMES = 10
_LONGEST_NAME = 60


def judge(
    results: GateInput, *, promotion: PromotionLevel | None = None, config: GateConfig | None = None
) -> GateDecision:
    """Judge two models by what they did on the same examples; the order of the examples does not matter.

    Args:
        results: What both did. The verdict on an empty test set is `insufficient_evidence`.
        promotion: At what level a gain must be proven, see `budget.promotion_level`; None for a look that is the only
            one, at the level `alpha`.
        config: What counts as proof.

    Raises:
        ValueError: The results are not about the same examples, or hold NaN.
    """
    settings = config or GateConfig()
    promotion = promotion or PromotionLevel(
        level=settings.alpha, look=1, budget=settings.false_promotions_a_year, spent=0.0
    )
    results = checked(results)
    size = len(results.champion.outcomes)
    if not size:
        return GateDecision(
            metric=results.metric,
            verdict="insufficient_evidence",
            reasons=(f"there are no test examples: at least {settings.minimum_examples} are needed",),
            figures={"examples": 0.0},
            promotion=promotion,
            needed_examples=settings.minimum_examples,
            champion_version=results.champion.version,
            challenger_version=results.challenger.version,
            config=settings,
        )
    how = weighted(size, sample=results.sample, shoppers=results.shoppers)
    overall = weighted_difference(results.champion.outcomes, results.challenger.outcomes, how)
    slices = judge_slices(
        results.champion.outcomes,
        results.challenger.outcomes,
        results.slices,
        how=how,
        overall=overall.difference,
        config=settings,
    )
    guardrails = judge_guardrails(results, how=how, config=settings)
    losses = proven_losses(results.metric, overall, slices, guardrails, settings)
    missing, needed = missing_proofs(results, overall, promotion, settings)
    suspicious = suspicions(slices, settings)
    verdict: Verdict = (
        "fail" if losses else "insufficient_evidence" if missing else "needs_sign_off" if suspicious else "pass"
    )
    better = gain_proven(results.metric, overall, promotion)
    said = {
        "fail": losses,
        "insufficient_evidence": [*missing, *suspicious],
        "needs_sign_off": [better, *suspicious],
        "pass": [f"{better}, and no loss beyond a margin is proven of anything that is protected"],
    }[verdict]
    return GateDecision(
        metric=results.metric,
        verdict=verdict,
        reasons=(*said, *remarks(slices, guardrails, promotion, settings)),
        figures=_figures(results, overall, how, settings),
        promotion=promotion,
        slices=slices,
        guardrails=guardrails,
        needed_examples=needed if verdict == "insufficient_evidence" else None,
        champion_version=results.champion.version,
        challenger_version=results.challenger.version,
        config=settings,
    )


def _figures(results: GateInput, overall: WeightedDifference, how: Weighted, config: GateConfig) -> dict[str, float]:
    champion, challenger = results.champion.outcomes, results.challenger.outcomes
    low, high = overall.interval(config.confidence)
    figures = {
        "examples": float(overall.examples),
        "shoppers": float(overall.shoppers),
        "champion": overall.champion,
        "challenger": overall.challenger,
        "difference": overall.difference,
        "difference_low": low,
        "difference_high": high,
        "gained": float((challenger > champion).sum()),
        "lost": float((challenger < champion).sum()),
        "p_better": overall.p_better(),
        "p_worse": overall.p_worse(),
    }
    if results.sample is not None:
        others = ~how.drawn
        figures["turns"] = float(results.sample.turns)
        figures["audited"] = float(how.drawn.sum())
        for name, outcomes in (("champion", champion), ("challenger", challenger)):
            if others.any():
                figures[f"{name}_on_other_reviews"] = float(outcomes[others].mean())
    for name in sorted(results.champion.other_figures):
        for who, model in (("champion", results.champion), ("challenger", results.challenger)):
            figures[f"{who}_{name}"] = float(np.average(model.other_figures[name], weights=how.weights))
    unknown = results.unknown_to_champion
    if unknown is not None and bool(unknown.any()):
        figures["unknown_to_champion"] = float(unknown.sum())
        figures["share_unknown_to_champion"] = float(how.weights[unknown].sum() / how.weights.sum())
        figures["challenger_on_unknown"] = float(np.average(challenger[unknown], weights=how.weights[unknown]))
        if not bool(unknown.all()):
            known = ~unknown
            figures["champion_on_known"] = float(np.average(champion[known], weights=how.weights[known]))
            figures["challenger_on_known"] = float(np.average(challenger[known], weights=how.weights[known]))
    return figures


def proven_losses(
    metric: str,
    overall: WeightedDifference,
    slices: Sequence[SliceFigures],
    guardrails: Sequence[GuardrailFigures],
    config: GateConfig,
) -> list[str]:
    """Return each loss that is proven: any of them fails the challenger."""
    reasons = []
    if overall.p_worse() <= config.alpha:
        reasons.append(f"the challenger is worse: {_change(metric, overall)}, p = {overall.p_worse():.3g}")
    worse = sorted((item for item in slices if item.judgement == "worse"), key=lambda item: item.p_worse_corrected)
    reasons += [
        f"more than {config.slice_margin:g} worse on {_slice_name(item)}: {item.champion:.3f} → {item.challenger:.3f} "
        f"on {item.examples} examples, p = {item.p_worse_corrected:.3g} after Holm's correction"
        for item in worse[:_LISTED_NAMES]
    ]
    if len(worse) > _LISTED_NAMES:
        reasons.append(f"worse on {len(worse) - _LISTED_NAMES} more slices")
    reasons += [
        f"{one.name}: {one.champion:.4g} → {one.challenger:.4g} breaks the limit ({one.limit}); {one.why}"
        for one in guardrails
        if one.judgement == "broken"
    ]
    return reasons


def missing_proofs(
    results: GateInput, overall: WeightedDifference, promotion: PromotionLevel, config: GateConfig
) -> tuple[list[str], int | None]:
    """Return what keeps the challenger from passing, and about how many examples would show a gain worth seeing."""
    reasons: list[str] = []
    if results.sample is None:
        reasons.append(
            "the examples are no probability sample of the traffic: nothing is proven about it. Review the audit "
            "sample of the queue, or declare that a file of labelled traffic is one"
        )
    elif not np.isfinite(results.sample.inclusion_probabilities).any():
        reasons.append("no message of the audit sample is reviewed yet: reviews of failures say nothing of the traffic")
    if overall.examples < config.minimum_examples:
        reasons.append(f"{overall.examples} test examples are too few: at least {config.minimum_examples} are needed")
    needed = None
    if overall.p_better() > promotion.level:
        level = min(promotion.level, config.alpha) or config.alpha
        needed = max(
            overall.needed_examples(config.worth_seeing, alpha=level, power=config.power), config.minimum_examples
        )
        reasons.append(
            f"no gain is proven: {_change(results.metric, overall)}, p = {overall.p_better():.3g}, at the level "
            f"{promotion.level:.2g}. To see a gain of {config.worth_seeing:g} with {config.power:.0%} power takes "
            f"about {needed:,} such examples"
        )
    elif overall.examples < config.minimum_examples:
        needed = config.minimum_examples
    return reasons, needed


def suspicions(slices: Sequence[SliceFigures], config: GateConfig) -> list[str]:
    """Return the slices that a person should see before this challenger goes on."""
    found = sorted((item for item in slices if item.judgement == "suspicious"), key=lambda item: -item.loss_probability)
    return [
        f"{_slice_name(item)} looks bad: {item.champion:.3f} → {item.challenger:.3f} on {item.examples} examples, a "
        f"loss of more than {config.slice_margin:g} with a probability of {item.loss_probability:.0%}"
        for item in found[:_LISTED_NAMES]
    ] + ([f"and {len(found) - _LISTED_NAMES} more slices look bad"] if len(found) > _LISTED_NAMES else [])


def gain_proven(metric: str, overall: WeightedDifference, promotion: PromotionLevel) -> str:
    """Return why a challenger passes."""
    return (
        f"the challenger is better: {_change(metric, overall)}, p = {overall.p_better():.3g} at the level "
        f"{promotion.level:.2g}"
    )


def remarks(
    slices: Sequence[SliceFigures],
    guardrails: Sequence[GuardrailFigures],
    promotion: PromotionLevel,
    config: GateConfig,
) -> list[str]:
    """Return what a reader of any verdict must know: what was not judged, and what is left of the budget."""
    said = []
    undecided = sum(item.judgement == "undecided" for item in slices)
    if undecided:
        said.append(
            f"{undecided} of {len(slices)} slices have too few reviews to tell whether they lost more than "
            f"{config.slice_margin:g}; none of them looks bad enough to ask a person"
        )
    for judgement, words in (
        ("undecided", "neither held nor broken by proof"),
        ("not_judged", "not judged"),
        ("not_measured", "not measured"),
    ):
        named = [one.name for one in guardrails if one.judgement == judgement]
        if named:
            said.append(f"{words}: {', '.join(named)}")
    said.append(
        f"look {promotion.look} at this champion within a year: level {promotion.level:.2g}, {promotion.spent:.2g} of "
        f"the budget of {promotion.budget:g} false promotions was spent before, {promotion.left:.2g} is left"
    )
    return said


def _change(metric: str, overall: WeightedDifference) -> str:
    return f"{metric} {overall.champion:.4f} → {overall.challenger:.4f} on {overall.examples} examples"


def _slice_name(item: SliceFigures) -> str:
    return f"{item.dimension} {_short(item.name)!r}"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
