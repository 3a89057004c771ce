"""Does the champion still answer as well as it did? Judged on reviews that it never learned from.

Reviewed messages are no sample of the traffic: people are asked about turns that failed. So a champion's accuracy on
them lies far below the one it was promoted with although nothing decayed, and a comparison of the two would cry wolf
every week. Reviews are therefore compared with reviews that came about in the same way (`selection`):

- messages that *another* model answered, with the reviewed ones of the test side at its promotion, which another model
  had answered too;
- messages that *it* answered, with the first of those after its promotion. The failures of a model itself are chosen by
  that model, so its figure at promotion says nothing about them.

What this can show: that among complaints of one kind the champion is right less often than among earlier complaints of
that kind. What it cannot: the accuracy on all traffic; a loss in messages nobody complains about; a loss that was there
before the first reviews; a loss that hides behind more complaints about other stages, or one that only seems so because
there are fewer of them. The score at promotion is drawn and never tested against.

The reviewed part of the test side flatters a champion a little, for it was promoted by doing well there. In simulations
(400 reviews on each side) one that passed its gate by luck, no better than its predecessor, is called decayed in one
evaluation of ten; one that is truly two points or more better no more often than the level says.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.core.intervals import wilson_interval
from mangaassist_assets.evaluation.metrics import expected_calibration_error
from mangaassist_assets.evaluation.significance import holm
from mangaassist_assets.evaluation.unpaired import (
    Stratum,
    Trend,
    UnpairedDifference,
    compare_means,
    compare_rates,
    earlier_sample_size,
    falling_trend,
    later_sample_size,
)
from mangaassist_assets.monitoring.decay_report import (
    BundleFigures,
    ConfidenceCalibration,
    DecayConfig,
    DecayReport,
    Outcome,
    Reviews,
)


def with_references(
    promotion: Sequence[Reviews], later: Sequence[Reviews], *, config: DecayConfig | None = None
) -> list[Reviews]:
    """Say of all reviews what they are for: to be compared with, or to be judged.

    A selection of which promotion has enough reviews is compared with those; of any other the first bundles become the
    reference, as many as it takes.

    `later` has the oldest bundle first.
    """
    settings = config or DecayConfig()
    counts = Counter[str]()
    for one in promotion:
        counts[one.selection] += len(one.outcomes)
    enough = {name for name, count in counts.items() if count >= settings.minimum_reviews}
    marked = [replace(one, role="promotion") for one in promotion if one.selection in enough]
    first = Counter[str]()
    for one in later:
        is_first = one.selection not in enough and first[one.selection] < settings.reference_reviews
        first[one.selection] += len(one.outcomes)
        marked.append(replace(one, role="first" if is_first else "fresh"))
    return marked


def judge_decay(
    reviews: Sequence[Reviews],
    *,
    metric: str,
    binary: bool,
    promotion_score: float | None = None,
    config: DecayConfig | None = None,
) -> DecayReport:
    """Judge the champion.

    `reviews` have the oldest bundle first, those of role `promotion` in any place. `promotion_score` is only shown.

    Raises:
        ValueError: an outcome is not finite, or neither 0 nor 1 though `binary`.
    """
    settings = config or DecayConfig()
    known = [one for one in reviews if len(one.outcomes)]
    reference = {
        name: figures
        for name, figures in _by_selection(known, reference=True).items()
        if len(figures) >= settings.minimum_reviews
    }
    strata = _strata(reference, _by_selection(known, reference=False))
    compared = sum(len(one.later) for one in strata)
    whole = _compare(strata, binary=binary, config=settings) if compared >= settings.minimum_reviews else None
    trend = _trend(known) if whole is not None else None
    bundles = _bundles(known, reference, trend, binary=binary, config=settings, judged=whole is not None)
    # Before anything is compared, how many reviews it takes follows from what there is to compare with.
    earlier = np.concatenate([np.zeros(0), *([one.earlier for one in strata] or reference.values())])
    needed, needed_reference = _needed(earlier, binary=binary, config=settings)
    in_words = _in_words(needed, needed_reference, len(earlier), settings)
    outcome, reasons = _decide(whole, trend, bundles, compared, len(earlier), in_words, settings)
    later = [one for one in known if one.role == "fresh"]
    return DecayReport(
        metric=metric,
        outcome=outcome,
        reasons=reasons,
        promotion_score=promotion_score,
        fresh_reviews=sum(len(one.outcomes) for one in later),
        compared_reviews=compared,
        fresh_score=_mean(np.concatenate([one.later for one in strata])) if strata else None,
        reference_reviews=len(earlier),
        reference_score=_mean(earlier) if len(earlier) else None,
        difference=whole,
        trend=trend,
        bundles=bundles,
        needed_reviews=needed,
        needed_reference=needed_reference,
        calibration=_calibration(later) if binary else None,
        reference_calibration=_calibration([one for one in known if one.role != "fresh"]) if binary else None,
        by_selection=_counts(known),
        config=settings,
    )


def _by_selection(reviews: Sequence[Reviews], *, reference: bool) -> dict[str, Floats]:
    names = sorted({one.selection for one in reviews})
    chosen = {
        name: [one.outcomes for one in reviews if one.selection == name and (one.role != "fresh") == reference]
        for name in names
    }
    return {name: np.concatenate(parts) for name, parts in chosen.items() if parts}


def _strata(reference: Mapping[str, Floats], fresh: Mapping[str, Floats]) -> list[Stratum]:
    return [Stratum(reference[name], fresh[name]) for name in sorted(reference.keys() & fresh.keys())]


def _compare(strata: Sequence[Stratum], *, binary: bool, config: DecayConfig) -> UnpairedDifference:
    if binary:
        return compare_rates(strata, confidence=config.confidence)
    return compare_means(strata, confidence=config.confidence, resamples=config.resamples, seed=config.seed)


def _trend(reviews: Sequence[Reviews]) -> Trend | None:
    timeline = [one for one in reviews if one.role != "promotion"]
    periods = list(dict.fromkeys(one.release_bundle for one in timeline))
    strata = [
        [
            np.concatenate(
                [np.zeros(0)]
                + [one.outcomes for one in timeline if (one.selection, one.release_bundle) == (selection, bundle)]
            )
            for bundle in periods
        ]
        for selection in sorted({one.selection for one in timeline})
    ]
    return falling_trend(strata)


def _bundles(
    reviews: Sequence[Reviews],
    reference: dict[str, Floats],
    trend: Trend | None,
    *,
    binary: bool,
    config: DecayConfig,
    judged: bool,
) -> tuple[BundleFigures, ...]:
    """Return the figures of each bundle after promotion. Which are tested follows from sizes alone, so Holm holds."""
    timeline = [one for one in reviews if one.role != "promotion"]
    figures: list[BundleFigures] = []
    for bundle in dict.fromkeys(one.release_bundle for one in timeline):
        own = [one for one in timeline if one.release_bundle == bundle]
        fresh = _by_selection([one for one in own if one.role == "fresh"], reference=False)
        strata = _strata(reference, fresh)
        compared = sum(len(one.later) for one in strata)
        testable = judged and compared >= config.minimum_bundle
        found = _compare(strata, binary=binary, config=config) if testable else None
        outcomes = np.concatenate([one.outcomes for one in own])
        low, high = _interval(outcomes, binary=binary, confidence=config.confidence)
        figures.append(
            BundleFigures(
                release_bundle=bundle,
                reviews=len(outcomes),
                score=_mean(outcomes),
                low=low,
                high=high,
                compared=compared,
                difference=found.difference if found else None,
                p_lower=found.p_lower if found else None,
                p_lower_corrected=None,
                judgement="reference" if not fresh else "too_few",
            )
        )
    tested = [one for one in figures if one.p_lower is not None]
    family = [one.p_lower for one in tested if one.p_lower is not None] + ([trend.p_falling] if trend else [])
    corrected = dict(zip((one.release_bundle for one in tested), holm(family), strict=False))
    return tuple(
        replace(
            one,
            p_lower_corrected=corrected[one.release_bundle],
            judgement="lower" if corrected[one.release_bundle] <= config.parts_alpha else "not_lower",
        )
        if one.release_bundle in corrected
        else one
        for one in figures
    )


def _decide(
    whole: UnpairedDifference | None,
    trend: Trend | None,
    bundles: Sequence[BundleFigures],
    compared: int,
    reference: int,
    in_words: str,
    config: DecayConfig,
) -> tuple[Outcome, tuple[str, ...]]:
    if whole is None:
        what = f"{compared} fresh reviews can be compared, and {reference} earlier ones are there to compare with"
        return "too_few", (f"{what}: at least {config.minimum_reviews} of each are needed", in_words)
    change = (
        f"{100 * whole.difference:+.1f} points on {compared} fresh reviews against {reference} earlier ones "
        f"({config.confidence:.0%} interval {100 * whole.low:+.1f} to {100 * whole.high:+.1f})"
    )
    reasons: list[str] = []
    if whole.p_lower <= config.whole_alpha:
        reasons.append(f"lower than on earlier reviews: {change}, p = {whole.p_lower:.3g}")
    tested = [one.p_lower for one in bundles if one.p_lower is not None]
    falling = holm([*tested, trend.p_falling])[-1] if trend else 1.0
    if trend is not None and falling <= config.parts_alpha:
        reasons.append(
            f"falling from bundle to bundle by {-100 * trend.slope:.1f} points each, p = {falling:.3g} after Holm's "
            "correction"
        )
    reasons += [
        f"lower in {one.release_bundle}: {100 * one.difference:+.1f} points, p = {one.p_lower_corrected:.3g} after "
        "Holm's correction"
        for one in bundles
        if one.judgement == "lower" and one.difference is not None and one.p_lower_corrected is not None
    ]
    if reasons:
        return "decayed", tuple(reasons)
    if whole.low > -config.loss:
        return "holding", (f"a loss of {100 * config.loss:.0f} points is ruled out: {change}",)
    return "too_few", (
        f"no loss is proven, and one of {100 * config.loss:.0f} points is not ruled out: {change}",
        in_words,
    )


def _in_words(needed: int | None, needed_reference: int | None, reference: int, config: DecayConfig) -> str:
    loss = f"a loss of {100 * config.loss:.0f} points with {config.power:.0%} power"
    if needed is not None:
        return f"about {needed} comparable fresh reviews would show {loss}"
    return (
        f"with {reference} reviews to compare with, no number of fresh ones shows {loss}; {needed_reference} would be "
        "enough"
        if needed_reference is not None
        else f"how many reviews would show {loss} is not known before there is something to compare with"
    )


def _needed(earlier: Floats, *, binary: bool, config: DecayConfig) -> tuple[int | None, int | None]:
    if len(earlier) < 2:
        return None, None
    variance = later = float(earlier.var(ddof=1))
    if binary:
        # An accuracy of 0 or 1 has a variance of 0 by chance only: Agresti and Coull's two more of each.
        right = (float(earlier.sum()) + 2) / (len(earlier) + 4)
        lower = max(right - config.loss, 0.0)
        variance, later = right * (1 - right), lower * (1 - lower)
    aim = {"loss": config.loss, "alpha": config.whole_alpha, "power": config.power}
    needed = later_sample_size(variance=variance, later_variance=later, earlier=len(earlier), **aim)
    return needed, earlier_sample_size(variance=variance, **aim) if needed is None else None


def _calibration(reviews: Sequence[Reviews]) -> ConfidenceCalibration | None:
    stated = [one for one in reviews if one.confidences is not None]
    if not stated:
        return None
    confidences = np.concatenate([one.confidences for one in stated if one.confidences is not None])
    right = np.concatenate([one.outcomes for one in stated])
    return ConfidenceCalibration(
        reviews=len(right),
        mean_confidence=_mean(confidences),
        accuracy=_mean(right),
        expected_error=expected_calibration_error(confidences, right > 0.5),
    )


def _interval(outcomes: Floats, *, binary: bool, confidence: float) -> tuple[float, float]:
    if binary:
        found = wilson_interval(round(float(outcomes.sum())), len(outcomes), confidence=confidence)
        return (found.low, found.high) if found else (0.0, 1.0)
    if len(outcomes) < 2:
        return 0.0, 1.0
    from scipy.special import stdtrit

    reach = float(stdtrit(len(outcomes) - 1, 0.5 + confidence / 2) * outcomes.std(ddof=1) / math.sqrt(len(outcomes)))
    return max(0.0, _mean(outcomes) - reach), min(1.0, _mean(outcomes) + reach)


def _counts(reviews: Sequence[Reviews]) -> tuple[tuple[str, int, int], ...]:
    """Return by selection how many reviews are reference and how many fresh."""
    earlier, later = Counter[str](), Counter[str]()
    for one in reviews:
        (later if one.role == "fresh" else earlier)[one.selection] += len(one.outcomes)
    return tuple((name, earlier[name], later[name]) for name in sorted(earlier.keys() | later.keys()))


def _mean(figures: Floats) -> float:
    return float(figures.mean())
