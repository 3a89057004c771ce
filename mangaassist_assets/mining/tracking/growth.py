"""Growth of failure clusters: is the rate of this bundle higher than before by more than chance?

A cluster's count in this bundle and in up to three bundles before are Poisson counts with exposure in turns. Given
their sum, this bundle's share of it is binomial, which gives a test and an interval (Przyborowski & Wilenski 1940;
Clopper & Pearson 1934). Rates of failures nobody touched vary between bundles all the same (weekdays, campaigns), more
than Poisson: that variation is estimated over all clusters together, from the earlier bundles and from the clusters
of this one, and every pair of counts is scaled down to the effective counts that carry as much information. Over the
clusters of a bundle the rate of false discoveries is controlled (Benjamini & Hochberg 1995); clusters so small that no
outcome could be significant are left out of that family (Tarone 1990).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mangaassist_assets.core.arrays import Floats

_TELLING_COUNT = 8  # of both sides together; below it the logarithm of a ratio is mostly noise
_ENOUGH_CLUSTERS = 8
_LARGEST_DISPERSION = 4.0
_MEDIAN_CHI_SQUARE = 0.4549  # of one degree of freedom

Verdict = Literal["growing", "shrinking", "steady", "new", "too_few"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterCounts:
    """How often a cluster was seen: in this bundle, and in each earlier one, oldest first.

    What is counted must happen independently, so count distinct shoppers rather than turns where they are known: one
    shopper who asks ten times is no growth. An earlier count need not be whole: of a merged cluster it is the sum over
    its parents, of a part of a split one its share (`Identities.inherits`).
    """

    cluster_id: str
    count: int
    earlier: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthConfig:
    """How growth is tested.

    `false_discovery_rate` bounds the expected share of false verdicts among the clusters called growing or shrinking.
    `rate_variation` is the coefficient of variation of a steady rate between bundles that is assumed as long as there
    is little to estimate it from; it weighs as much as `assumed_comparisons` comparisons of a count with its rate.
    """

    bundles: int = 3
    false_discovery_rate: float = 0.05
    confidence: float = 0.95
    rate_variation: float = 0.15
    assumed_comparisons: float = 5.0

    def __post_init__(self) -> None:
        """Refuse settings that test nothing."""
        shares = (self.false_discovery_rate, self.confidence)
        if not all(0 < share < 1 for share in shares) or self.bundles < 1:
            raise ValueError(f"rates and confidence must lie between 0 and 1, bundles be positive: {self}")
        if not (self.rate_variation >= 0 and self.assumed_comparisons > 0):
            raise ValueError(f"rate_variation cannot be negative, assumed_comparisons must be positive: {self}")


DEFAULT_GROWTH = GrowthConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """The verdict on one cluster.

    `ratio` is its rate in this bundle / its rate in the earlier ones, with the interval `low` to `high`; None where
    there was nothing earlier (`high` also where the interval has no upper end). `p_value` is two-sided,
    `adjusted_p_value` after Benjamini and Hochberg; None where nothing was tested.
    """

    cluster_id: str
    verdict: Verdict
    count: int
    expected: float
    ratio: float | None
    low: float | None
    high: float | None
    p_value: float | None
    adjusted_p_value: float | None


def judge_growth(
    clusters: Sequence[ClusterCounts],
    *,
    turns: int,
    earlier_turns: Sequence[int],
    config: GrowthConfig = DEFAULT_GROWTH,
) -> tuple[Growth, ...]:
    """Return a verdict for each cluster, in the order given.

    Args:
        clusters: counts; each with as many earlier ones as `earlier_turns` has.
        turns: all turns of this bundle, failed or not.
        earlier_turns: those of the earlier bundles, oldest first; only the last `config.bundles` are used.
        config: of the test.

    Raises:
        ValueError: counts do not fit the bundles, are negative or not finite, exceed the turns, or an id stands twice.
    """
    _check(clusters, turns, earlier_turns)
    used = slice(-config.bundles, None)
    exposures = np.array(earlier_turns[used], dtype=np.float64)
    counts = np.array([cluster.count for cluster in clusters], dtype=np.float64)
    earlier = np.array([cluster.earlier[used] for cluster in clusters], dtype=np.float64)
    earlier = earlier.reshape(len(clusters), len(exposures))
    before = earlier.sum(axis=1)
    exposure = float(exposures.sum())
    share = turns / (turns + exposure)
    spread = 1.0 + float(((exposures / exposure) ** 2).sum()) if exposure > 0 else 2.0
    dispersion = max(
        rate_dispersion(earlier, exposures, config=config),
        present_dispersion(counts, before, share=share, spread=spread),
    )
    # Sums over the clusters hang on their order in the last digits; verdicts must not.
    dispersion = round(dispersion, 9)

    p_values: list[float | None] = []
    intervals: list[tuple[float, float | None]] = []
    for count, past in zip(counts, before, strict=True):
        if past <= 0:
            p_values.append(None)
            intervals.append((0.0, None))
            continue
        scale = _information(float(count), float(past), share, dispersion * spread)
        hopeless = min(share, 1 - share) ** (scale * (count + past)) > config.false_discovery_rate / 2
        p_values.append(None if hopeless else _p_value(scale * count, scale * past, share))
        low, high = _interval(scale * count, scale * past, config.confidence)
        odds = share / (1 - share)
        intervals.append((low / (1 - low) / odds, high / (1 - high) / odds if high < 1 else None))
    adjusted = _adjusted(p_values)
    return tuple(
        _growth(cluster, float(past), turns / exposure if exposure else 0.0, interval, p_value, corrected, config)
        for cluster, past, interval, p_value, corrected in zip(
            clusters, before, intervals, p_values, adjusted, strict=True
        )
    )


def rate_dispersion(earlier: np.ndarray, exposures: np.ndarray, *, config: GrowthConfig = DEFAULT_GROWTH) -> float:
    """Return the squared coefficient of variation of steady rates between bundles.

    Moment estimate over counts of shape (clusters, bundles): how far the squares of their differences from each
    cluster's own mean rate exceed what Poisson counts have, in units of the squared expectation, shrunk towards
    `config.rate_variation` squared.
    """
    assumed = config.rate_variation**2
    bundles = len(exposures)
    if bundles < 2 or exposures.sum() <= 0:
        return assumed
    totals = earlier.sum(axis=1, keepdims=True)
    kept = earlier[totals[:, 0] > 0]
    expected = totals[totals[:, 0] > 0] * (exposures / exposures.sum())
    if not len(kept):
        return assumed
    # A mean that was fitted to the same counts takes one of the differences' degrees of freedom.
    squares = ((kept - expected) ** 2).sum() * bundles / (bundles - 1)
    weight = float((expected**2).sum())
    estimate = max(0.0, float(squares - expected.sum()) / weight)
    # Small counts say little about the variation of their rates: a comparison counts by its share of rate noise.
    informative = float((assumed * expected / (1.0 + assumed * expected)).sum()) * (bundles - 1) / bundles
    return (informative * estimate + config.assumed_comparisons * assumed) / (informative + config.assumed_comparisons)


def present_dispersion(counts: Floats, before: Floats, *, share: float, spread: float) -> float:
    """Return the squared coefficient of variation that the log ratios of this bundle's own clusters show.

    Most clusters of a bundle do not grow, so half of them must lie as near to the middle one as chance allows (an
    empirical null, Efron 2004). A shift of all clusters alike moves the middle and is no variation; a quarter of them
    may grow without being taken for it. With fewer than eight clusters to compare nothing is said: 0.
    """
    usable = (counts > 0) & (before > 0) & (counts + before >= _TELLING_COUNT)
    if usable.sum() < _ENOUGH_CLUSTERS:
        return 0.0
    now, past = counts[usable], before[usable]
    ratios = np.log((now + 0.5) / (past + 0.5))
    distances = (ratios - np.median(ratios)) ** 2
    noise = (1.0 / share + 1.0 / (1.0 - share)) / (now + past)
    low, high = 0.0, _LARGEST_DISPERSION
    if np.median(distances / noise) <= _MEDIAN_CHI_SQUARE:
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2
        if np.median(distances / (noise + middle * spread)) > _MEDIAN_CHI_SQUARE:
            low = middle
        else:
            high = middle
    return high


def _information(count: float, past: float, share: float, dispersion: float) -> float:
    """Return which part of the counts is left when the rates vary, from the variance of the log ratio of the rates."""
    total = count + past
    poisson = 1.0 / (total * share) + 1.0 / (total * (1 - share))
    return poisson / (poisson + dispersion)


def _p_value(count: float, past: float, share: float) -> float:
    """Return the two-sided mid-p-value of a binomial share; counts need not be whole."""
    from scipy.special import betainc

    at_least = float(betainc(count, past + 1, share)) if count > 0 else 1.0
    more = float(betainc(count + 1, past, share))
    upper = (at_least + more) / 2
    return min(1.0, 2 * min(upper, 1.0 - upper))


def _interval(count: float, past: float, confidence: float) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of this bundle's share of all counts."""
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = float(betaincinv(count, past + 1, tail)) if count > 0 else 0.0
    return low, float(betaincinv(count + 1, past, 1 - tail))


def _adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    from scipy.stats import false_discovery_control

    tested = [p_value for p_value in p_values if p_value is not None]
    corrected = iter(false_discovery_control(tested) if tested else [])
    return [None if p_value is None else float(next(corrected)) for p_value in p_values]


def _growth(
    cluster: ClusterCounts,
    past: float,
    exposure: float,
    interval: tuple[float, float | None],
    p_value: float | None,
    adjusted: float | None,
    config: GrowthConfig,
) -> Growth:
    expected = past * exposure
    new = past <= 0
    ratio = None if new or expected <= 0 else cluster.count / expected
    if new:
        verdict: Verdict = "new"
    elif adjusted is None or ratio is None:
        verdict = "too_few"
    elif adjusted > config.false_discovery_rate:
        verdict = "steady"
    else:
        verdict = "growing" if ratio > 1 else "shrinking"
    low, high = interval
    return Growth(
        cluster_id=cluster.cluster_id,
        verdict=verdict,
        count=cluster.count,
        expected=expected,
        ratio=ratio,
        low=None if ratio is None else low,
        high=None if ratio is None else high,
        p_value=p_value,
        adjusted_p_value=adjusted,
    )


def _check(clusters: Sequence[ClusterCounts], turns: int, earlier_turns: Sequence[int]) -> None:
    if turns <= 0 or any(count <= 0 for count in earlier_turns):
        raise ValueError(f"every bundle needs turns: this one has {turns}, the earlier ones {list(earlier_turns)}")
    seen: set[str] = set()
    for cluster in clusters:
        if cluster.cluster_id in seen:
            raise ValueError(f"cluster {cluster.cluster_id!r} stands twice among the counts")
        seen.add(cluster.cluster_id)
        if len(cluster.earlier) != len(earlier_turns):
            raise ValueError(
                f"cluster {cluster.cluster_id!r} has {len(cluster.earlier)} earlier counts "
                f"for {len(earlier_turns)} bundles"
            )
        pairs = zip((*cluster.earlier, cluster.count), (*earlier_turns, turns), strict=True)
        if not all(0 <= count <= limit for count, limit in pairs):
            raise ValueError(
                f"cluster {cluster.cluster_id!r} was counted {cluster.count} times in {turns} turns, before "
                f"{cluster.earlier} in {tuple(earlier_turns)}: counts must lie between 0 and the turns"
            )
