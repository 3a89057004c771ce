"""Is one model's figure lower on later examples than on earlier ones? Different examples, so nothing is paired.

Examples come in strata, inside which alone they are compared: each stratum has its own earlier and its own later ones,
and the differences are averaged with Mantel and Haenszel's weights. One stratum is the plain two-sample comparison. All
p-values are one-sided, of "not lower".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.core.intervals import Interval, wilson_interval

_NORMAL = NormalDist()
_CELLS = 4_000_000
_ROUNDING = 1e-9
_LARGEST_SAMPLE = 10_000_000


@dataclass(frozen=True, slots=True)
class Stratum:
    """Figures of the earlier and of the later examples of one kind, shapes (n,) and (m,), both not empty."""

    earlier: Floats
    later: Floats

    @property
    def weight(self) -> float:
        """Mantel and Haenszel's (1959): how much the two sizes together weigh."""
        return len(self.earlier) * len(self.later) / (len(self.earlier) + len(self.later))


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpairedDifference:
    """Later minus earlier, its interval, and the p-value of "not lower"."""

    difference: float
    low: float
    high: float
    p_lower: float


def compare_rates(strata: Sequence[Stratum], *, confidence: float) -> UnpairedDifference:
    """Compare shares of right answers: Fisher's exact test, over strata exact as well, and Newcombe's interval.

    Of several strata the number of right later answers is summed, and its distribution given all margins is that of a
    sum of hypergeometric numbers. The interval combines Wilson's as Newcombe's method 10 does, with the weights.

    Raises:
        ValueError: no stratum, an empty side, or a figure that is neither 0 nor 1.
    """
    from scipy.stats import hypergeom

    weights = _weights(strata)
    chances, lowest, right = np.ones(1), 0, 0
    difference = below = above = 0.0
    for stratum, weight in zip(strata, weights, strict=True):
        if not bool(np.isin(np.concatenate([stratum.earlier, stratum.later]), (0.0, 1.0)).all()):
            raise ValueError("right or wrong is 1 or 0: compare figures on a scale with compare_means")
        before, after = len(stratum.earlier), len(stratum.later)
        right_before, right_after = round(float(stratum.earlier.sum())), round(float(stratum.later.sum()))
        least, most = max(0, right_before + right_after - before), min(after, right_before + right_after)
        own = hypergeom.pmf(np.arange(least, most + 1), before + after, right_before + right_after, after)
        chances = np.convolve(chances, own)
        lowest, right = lowest + least, right + right_after
        now = _wilson(right_after, after, confidence)
        then = _wilson(right_before, before, confidence)
        difference += weight * (now.value - then.value)
        below += weight**2 * ((now.value - now.low) ** 2 + (then.high - then.value) ** 2)
        above += weight**2 * ((now.high - now.value) ** 2 + (then.value - then.low) ** 2)
    return UnpairedDifference(
        difference=difference,
        low=difference - math.sqrt(below),
        high=difference + math.sqrt(above),
        p_lower=min(1.0, float(chances[: right - lowest + 1].sum())),
    )


def compare_means(
    strata: Sequence[Stratum], *, confidence: float, resamples: int = 4_000, seed: int = 0
) -> UnpairedDifference:
    """Compare means of figures on a scale: permutations inside strata for the p-value, the bootstrap for the interval.

    Raises:
        ValueError: no stratum, an empty side, or a figure that is not finite.
    """
    weights = _weights(strata)
    # A stream of random numbers for each purpose: the p-value does not hang on how the interval is made.
    permuting, resampling = (np.random.default_rng([seed, purpose]) for purpose in (0, 1))
    difference = 0.0
    permuted, resampled = np.zeros(resamples), np.zeros(resamples)
    for stratum, weight in zip(strata, weights, strict=True):
        # No figure depends on the order of the examples.
        earlier, later = np.sort(stratum.earlier), np.sort(stratum.later)
        difference += weight * float(later.mean() - earlier.mean())
        permuted += weight * _permuted_differences(earlier, later, resamples, permuting)
        resampled += weight * (
            _resampled_means(later, resamples, resampling) - _resampled_means(earlier, resamples, resampling)
        )
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return UnpairedDifference(
        difference=difference,
        low=float(low),
        high=float(high),
        p_lower=(1 + int((permuted <= difference + _ROUNDING).sum())) / (resamples + 1),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """How a figure changes from one period to the next (least squares), and the p-value of "it does not fall"."""

    slope: float
    p_falling: float


def falling_trend(strata: Sequence[Sequence[Floats]]) -> Trend | None:
    """Test whether figures fall over periods: Cochran and Armitage's test (1955), which also suits a scale.

    Args:
        strata: Of each stratum the figures of all periods in their order, each of shape (n,), n may be 0. The periods
            are the same in all strata.

    Returns:
        None where nothing can be tested: fewer than three periods with figures, or figures that are all alike.
    """
    seen = {place for periods in strata for place, figures in enumerate(periods) if len(figures)}
    if len(seen) < 3:
        return None
    covariance = spread = variance = 0.0
    for periods in strata:
        figures = np.concatenate([np.asarray(one, dtype=np.float64) for one in periods] or [np.zeros(0)])
        places = np.repeat(np.arange(len(periods), dtype=np.float64), [len(one) for one in periods])
        if len(figures) < 2:
            continue
        places -= places.mean()
        covariance += float((places * figures).sum())
        spread += float((places**2).sum())
        variance += float((places**2).sum() * ((figures - figures.mean()) ** 2).sum() / (len(figures) - 1))
    if spread <= 0 or variance <= 0:
        return None
    return Trend(slope=covariance / spread, p_falling=_NORMAL.cdf(covariance / math.sqrt(variance)))


def later_sample_size(
    *, variance: float, later_variance: float, earlier: int, loss: float, alpha: float, power: float
) -> int | None:
    """Return about how many later examples show a loss with this power; None where the earlier ones are too few.

    `variance` is of one figure of the earlier examples, `later_variance` of one of the later, after the loss.
    """
    room = (loss / _reach(alpha, power)) ** 2 - (variance / earlier if earlier else math.inf)
    if room <= 0:
        return None
    return min(_LARGEST_SAMPLE, max(2, math.ceil(later_variance / room)))


def earlier_sample_size(*, variance: float, loss: float, alpha: float, power: float) -> int:
    """Return from how many earlier examples on twice as many later ones would show a loss."""
    return max(2, math.ceil(1.5 * variance * (_reach(alpha, power) / loss) ** 2))


def _reach(alpha: float, power: float) -> float:
    return _NORMAL.inv_cdf(1 - alpha) + _NORMAL.inv_cdf(power)


def _weights(strata: Sequence[Stratum]) -> list[float]:
    if not strata:
        raise ValueError("there is nothing to compare: no stratum")
    for stratum in strata:
        if not len(stratum.earlier) or not len(stratum.later):
            raise ValueError("a stratum needs earlier and later examples: leave out what has only one of them")
        if not bool(np.isfinite(stratum.earlier).all() and np.isfinite(stratum.later).all()):
            raise ValueError("every figure must be finite")
    whole = sum(stratum.weight for stratum in strata)
    return [stratum.weight / whole for stratum in strata]


def _wilson(successes: int, trials: int, confidence: float) -> Interval:
    found = wilson_interval(successes, trials, confidence=confidence)
    if found is None:
        raise ValueError("a share of no trials")
    return found


def _permuted_differences(earlier: Floats, later: Floats, resamples: int, generator: np.random.Generator) -> Floats:
    """Return later minus earlier means after putting the examples on the two sides at random."""
    pooled = np.concatenate([earlier, later])
    # Draw the smaller side: the other one is what is left.
    drawn = min(len(earlier), len(later))
    sums = np.empty(resamples)
    step = max(1, _CELLS // len(pooled))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        places = np.argpartition(generator.random((rows, len(pooled))), drawn - 1, axis=1)[:, :drawn]
        sums[start : start + rows] = pooled[places].sum(axis=1)
    differences: Floats = sums / drawn - (pooled.sum() - sums) / (len(pooled) - drawn)
    return differences if len(later) <= len(earlier) else -differences


def _resampled_means(figures: Floats, resamples: int, generator: np.random.Generator) -> Floats:
    means = np.empty(resamples)
    step = max(1, _CELLS // len(figures))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        means[start : start + rows] = figures[generator.integers(0, len(figures), (rows, len(figures)))].mean(axis=1)
    return means
