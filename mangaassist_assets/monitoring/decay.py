"""Does the champion still answer as well as it did? Judged on reviews it never learned from, at any number of looks.

The audit sample decides: its messages stand for the traffic, each for one over its inclusion probability. They are
compared with those at promotion and right after it, shopper by shopper, by evidence that is valid at every look
(`evaluation/sequential.py`): while nothing changes, it reaches 1 / alpha once in a champion's life with a chance of at
most alpha. A loss may begin with any bundle.

Other reviewed messages are no sample of the traffic: people are asked about turns that failed. They are compared only
with reviews that came about in the same way (`selection`):

- messages that *another* model answered, with the reviewed ones that the champion was tested by at its promotion, which
  another model had answered too;
- messages that *it* answered, with the first of those after its promotion. The failures of a model itself are chosen by
  that model, so its figure at promotion says nothing about them.

The same evidence of those is a hint to look, never an alarm: it would be valid if complaints came about alike for ever,
and more or fewer complaints about other stages change what is among them.

What this cannot show: a loss that was there before the first reviews to compare with. The score at promotion is drawn
and never tested against. The reviews at promotion flatter a champion a little, for it was promoted by doing well there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.evaluation.sequential import (
    Evidence,
    Figures,
    even_worth,
    evidence_of_loss,
    mean_interval,
    needed_examples,
)
from mangaassist_assets.monitoring.decay_report import (
    AUDITED,
    BundleFigures,
    Comparison,
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

    Compared with are, of each selection, the reviews at promotion and the first bundles after it, until there are
    enough. `later` has the oldest bundle first.
    """
    settings = config or DecayConfig()
    marked = [replace(one, role="promotion") for one in promotion]
    known = Counter[str]()
    for one in promotion:
        known[one.selection] += len(one.outcomes)
    for one in later:
        is_first = known[one.selection] < settings.reference_reviews
        known[one.selection] += len(one.outcomes)
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
        ValueError: an outcome is not between 0 and 1.
    """
    settings = config or DecayConfig()
    known = [one for one in reviews if len(one.outcomes)]
    if any(not bool(((one.outcomes >= 0) & (one.outcomes <= 1)).all()) for one in known):
        raise ValueError(f"{metric}: every outcome must lie between 0 and 1")
    names = sorted({one.selection for one in known} - {AUDITED})
    audited, *others = (_compare(known, name, settings) for name in (AUDITED, *names))
    outcome, reasons = _decide(audited, settings)
    of_audit = [one for one in known if one.selection == AUDITED] if binary else []
    return DecayReport(
        metric=metric,
        outcome=outcome,
        reasons=(*reasons, *(_hint(one, settings) for one in others if one.evidence >= settings.needed_evidence)),
        promotion_score=promotion_score,
        fresh_reviews=sum(len(one.outcomes) for one in known if one.role == "fresh"),
        audited=audited,
        others=tuple(others),
        calibration=_calibration([one for one in of_audit if one.role == "fresh"]),
        reference_calibration=_calibration([one for one in of_audit if one.role != "fresh"]),
        config=settings,
    )


def _compare(reviews: Sequence[Reviews], selection: str, config: DecayConfig) -> Comparison:
    own = [one for one in reviews if one.selection == selection]
    reference, fresh = ([one for one in own if (one.role == "fresh") == is_fresh] for is_fresh in (False, True))
    sizes = [sum(len(one.outcomes) for one in side) for side in (reference, fresh)]
    bundles = list(dict.fromkeys(one.release_bundle for one in fresh))
    path, needed = [], None
    if sizes[0] >= config.minimum_reviews:
        figures = _figures(own, bundles)
        path = _evidence_by_bundle(figures, bundles, config)
        # Before anything is compared, how many reviews it takes follows from what there is to compare with.
        needed = _needed(figures, sizes[0], path[-1], config)
    found = path[-1] if path and sizes[1] >= config.minimum_reviews else None
    low, high = _interval(found, config) if found is not None else (None, None)
    return Comparison(
        selection=selection,
        reference_reviews=sizes[0],
        reference_score=_score(reference),
        fresh_reviews=sizes[1],
        fresh_score=_score(fresh),
        difference=None if found is None else found.difference,
        low=low,
        high=high,
        evidence=1.0 if found is None else found.evidence,
        since=None if found is None or found.since is None else bundles[found.since - 1],
        change=None if found is None else found.change,
        needed_reviews=needed,
        bundles=_bundle_figures(own, dict(zip(bundles, (one.evidence for one in path[1:]), strict=False)), config),
    )


def _figures(reviews: Sequence[Reviews], bundles: Sequence[str]) -> Figures:
    """Return all figures of a selection; period 0 is what is compared with, the others are the bundles in order."""
    place = {bundle: number for number, bundle in enumerate(bundles, start=1)}
    names = [
        name or f"\0{part} {row}"
        for part, one in enumerate(reviews)
        for row, name in enumerate(one.shoppers or [""] * len(one.outcomes))
    ]
    return Figures(
        values=np.concatenate([one.outcomes for one in reviews]),
        weights=np.concatenate([_weights(one) for one in reviews]),
        shoppers=np.unique(np.array(names, dtype=object), return_inverse=True)[1],
        periods=np.concatenate(
            [np.full(len(one.outcomes), place[one.release_bundle] if one.role == "fresh" else 0) for one in reviews]
        ),
    )


def _weights(reviews: Reviews) -> Floats:
    return np.ones(len(reviews.outcomes)) if reviews.weights is None else even_worth(reviews.weights)


def _evidence_by_bundle(figures: Figures, bundles: Sequence[str], config: DecayConfig) -> list[Evidence]:
    """Return the evidence of the reference alone, and of all up to each bundle."""
    return [evidence_of_loss(figures.until(period), loss=config.loss) for period in range(len(bundles) + 1)]


def _interval(found: Evidence, config: DecayConfig) -> tuple[float, float]:
    reach = NormalDist().inv_cdf(0.5 + config.confidence / 2) * found.deviation
    return max(-1.0, found.difference - reach), min(1.0, found.difference + reach)


def _needed(figures: Figures, reference: int, found: Evidence, config: DecayConfig) -> int | None:
    worth = float(figures.weights[figures.periods == 0].sum())
    needed = needed_examples(found, reference=worth, loss=config.loss, alpha=config.alpha, power=config.power)
    return None if needed is None else math.ceil(needed * reference / worth)


def _bundle_figures(
    reviews: Sequence[Reviews], evidence: Mapping[str, float], config: DecayConfig
) -> tuple[BundleFigures, ...]:
    figures: list[BundleFigures] = []
    timeline = [one for one in reviews if one.role != "promotion"]
    for bundle in dict.fromkeys(one.release_bundle for one in timeline):
        own = [one for one in timeline if one.release_bundle == bundle]
        outcomes = np.concatenate([one.outcomes for one in own])
        weights = np.concatenate([_weights(one) for one in own])
        score, low, high = mean_interval(outcomes, weights, confidence=config.confidence)
        figures.append(
            BundleFigures(
                release_bundle=bundle,
                reviews=len(outcomes),
                score=score,
                low=low,
                high=high,
                evidence=evidence.get(bundle),
            )
        )
    return tuple(figures)


def _decide(audited: Comparison, config: DecayConfig) -> tuple[Outcome, tuple[str, ...]]:
    if audited.difference is None or audited.low is None or audited.high is None:
        sizes = (
            f"{audited.fresh_reviews} fresh reviews of the audit sample, and {audited.reference_reviews} to compare "
            f"with: at least {config.minimum_reviews} of each are needed"
        )
        return "too_few", (sizes, *_needed_in_words(audited, config))
    change = (
        f"{100 * audited.difference:+.1f} points on {audited.fresh_reviews} fresh reviews against "
        f"{audited.reference_reviews} earlier ones ({config.confidence:.0%} interval of this look "
        f"{100 * audited.low:+.1f} to {100 * audited.high:+.1f})"
    )
    loss = f"{100 * config.loss:.0f} points"
    found = f"evidence for a loss of {loss} is {audited.evidence:.3g} of {config.needed_evidence:.3g}: {change}"
    if audited.evidence >= config.needed_evidence:
        return "decayed", (found, _since(audited))
    if audited.low > -config.loss:
        return "holding", (f"a loss of {loss} is ruled out: {change}",)
    return "too_few", (f"{found}, so a loss of {loss} is not ruled out", *_needed_in_words(audited, config))


def _since(found: Comparison) -> str:
    return f"most likely since {found.since}, {100 * (found.change or 0.0):+.1f} points from before it"


def _hint(found: Comparison, config: DecayConfig) -> str:
    evidence = f"{found.evidence:.3g} of {config.needed_evidence:.3g}"
    return (
        f"a hint to look, no proof: evidence {evidence} on {found.selection}, which are no sample of the traffic, "
        f"{_since(found)}"
    )


def _needed_in_words(audited: Comparison, config: DecayConfig) -> tuple[str, ...]:
    loss = f"a loss of {100 * config.loss:.0f} points with {config.power:.0%} power"
    if audited.needed_reviews is not None:
        return (f"about {audited.needed_reviews} fresh ones would show {loss}",)
    if audited.reference_reviews < config.minimum_reviews:
        return ()
    few = f"{audited.reference_reviews} to compare with are too few to show {loss} that was there from the first"
    return (f"{few}: one that comes later is compared with all before it",)


def _calibration(reviews: Sequence[Reviews]) -> ConfidenceCalibration | None:
    stated = [one for one in reviews if one.confidences is not None]
    if not stated:
        return None
    weights = np.concatenate([_weights(one) for one in stated])
    confidences = np.concatenate([one.confidences for one in stated if one.confidences is not None])
    return ConfidenceCalibration(
        reviews=len(weights),
        mean_confidence=float(np.average(confidences, weights=weights)),
        accuracy=float(np.average(np.concatenate([one.outcomes for one in stated]), weights=weights)),
    )


def _score(reviews: Sequence[Reviews]) -> float | None:
    if not reviews:
        return None
    weights = np.concatenate([_weights(one) for one in reviews])
    return float(np.average(np.concatenate([one.outcomes for one in reviews]), weights=weights))
