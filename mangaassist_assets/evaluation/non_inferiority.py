"""Is a challenger at most a margin worse? Tango's score test for right or wrong, Student's bound for other figures.

A test that finds no significant loss proves nothing: few examples find nothing either. Non-inferiority turns the burden
round: the hypothesis is a loss as large as the margin, and the data must refute it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from mangaassist_assets.core.arrays import Floats

LARGEST_SAMPLE = 10_000_000
_BISECTIONS = 45
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceBounds:
    """Mean paired differences (challenger minus champion) of several groups with their intervals, each shape (groups,).

    `p_non_inferior` is the one-sided p-value of "a loss of the margin or more"; where it is at most alpha, `low` lies
    above minus the margin, if the interval's confidence is 1 - 2 alpha.
    """

    difference: Floats
    low: Floats
    high: Floats
    p_non_inferior: Floats


def tango_score(gained: Floats, lost: Floats, examples: Floats, difference: Floats | float) -> Floats:
    """Return the score statistic of a difference of paired proportions (Tango 1998, Statistics in Medicine 17).

    Unlike Wald's, its variance is the one under the hypothesis, so it does not vanish where no example differs.

    Args:
        gained: Examples that only the challenger has right (shares of them, if `examples` is 1).
        lost: Examples that only the champion has right.
        examples: Sizes of the groups.
        difference: The hypothesis, in [-1, 1]: true challenger's minus champion's proportion.
    """
    linear = (2 * examples - gained + lost) * difference - gained - lost
    constant = -lost * difference * (1 - difference)
    root = np.sqrt(np.maximum(linear**2 - 8 * examples * constant, 0.0))
    lost_rate = (root - linear) / (4 * examples)
    variance = np.maximum(examples * (2 * lost_rate + difference * (1 - difference)), 0.0)
    excess = gained - lost - examples * difference
    with np.errstate(divide="ignore", invalid="ignore"):
        score = excess / np.sqrt(variance)
    score = np.where(variance < 1e-12, np.where(np.abs(excess) < 1e-9, 0.0, np.copysign(np.inf, excess)), score)
    return np.asarray(score, dtype=np.float64)


def proportion_bounds(
    gained: Floats, lost: Floats, examples: Floats, *, margin: float, confidence: float
) -> DifferenceBounds:
    """Return differences of paired proportions with the interval that inverts Tango's score, for groups at once."""
    from scipy.special import ndtr

    estimate = (gained - lost) / examples
    quantile = _NORMAL.inv_cdf(0.5 + confidence / 2)
    return DifferenceBounds(
        difference=estimate,
        low=_inverted(gained, lost, examples, quantile=quantile, edge=-np.ones_like(estimate), estimate=estimate),
        high=_inverted(gained, lost, examples, quantile=-quantile, edge=np.ones_like(estimate), estimate=estimate),
        p_non_inferior=ndtr(-tango_score(gained, lost, examples, -margin)),
    )


def mean_bounds(
    means: Floats, deviations: Floats, examples: Floats, *, margin: float, confidence: float
) -> DifferenceBounds:
    """Return mean differences with Student's interval, for groups at once.

    Args:
        means: Of the per-example differences.
        deviations: Standard deviations to reckon with. A group in which no example differs has none of its own and
            would prove everything: give it that of all examples.
        examples: Sizes of the groups.
        margin: Largest loss that is allowed.
        confidence: Of the two-sided interval.
    """
    from scipy.special import stdtr, stdtrit

    freedom = np.maximum(examples - 1, 1)
    errors = deviations / np.sqrt(examples)
    reach = stdtrit(freedom, 0.5 + confidence / 2) * errors
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = (means + margin) / errors
    certain = np.where(means > -margin, 0.0, 1.0)
    p_values = np.where(errors > 0, stdtr(freedom, -statistic), certain)
    return DifferenceBounds(difference=means, low=means - reach, high=means + reach, p_non_inferior=p_values)


def doubt(
    examples: int, *, variance: float, margin: float, alpha: float, difference: float = 0.0, binary: bool = True
) -> float:
    """Return how likely a group of this size fails to prove non-inferiority although the true difference is this.

    Args:
        examples: Size of the group.
        variance: Of the per-example differences; for right or wrong, the share of examples on which the models differ.
        margin: Largest loss that is allowed.
        alpha: One-sided level.
        difference: The true difference.
        binary: Whether the test is Tango's.
    """
    quantile = _NORMAL.inv_cdf(1 - alpha)
    null, true = _deviations(variance, margin, difference, binary=binary)
    if examples < 2 or (binary and examples < least_examples(margin, alpha)):
        return 1.0
    shift = (margin + difference) * math.sqrt(examples)
    if true == 0.0:
        return 0.0 if shift >= quantile * null else 1.0
    return _NORMAL.cdf((quantile * null - shift) / true)


def least_examples(margin: float, alpha: float) -> int:
    """Return from how many examples on Tango's test can prove anything: no example differs, and that is enough."""
    return math.ceil(_NORMAL.inv_cdf(1 - alpha) ** 2 * (1 - margin) / margin)


def non_inferiority_sample_size(
    *, variance: float, margin: float, alpha: float, power: float, difference: float = 0.0, binary: bool = True
) -> int | None:
    """Return about how many examples prove non-inferiority with this power; None where the loss reaches the margin.

    The normal approximation, with the arguments of `doubt`.
    """
    if difference <= -margin:
        return None
    null, true = _deviations(variance, margin, difference, binary=binary)
    root = (_NORMAL.inv_cdf(1 - alpha) * null + _NORMAL.inv_cdf(power) * true) / (margin + difference)
    return min(LARGEST_SAMPLE, max(math.ceil(root**2), least_examples(margin, alpha) if binary else 2))


def _deviations(variance: float, margin: float, difference: float, *, binary: bool) -> tuple[float, float]:
    """Return the standard deviations of one difference under the hypothesis, as the test reckons it, and in truth."""
    true = math.sqrt(max(variance - difference**2 if binary else variance, 0.0))
    if not binary:
        return true, true
    gained, lost = (variance + difference) / 2, (variance - difference) / 2
    linear = (2 - gained + lost) * -margin - gained - lost
    constant = lost * margin * (1 + margin)
    lost_rate = (math.sqrt(max(linear**2 - 8 * constant, 0.0)) - linear) / 4
    return math.sqrt(max(2 * lost_rate - margin * (1 + margin), 0.0)), true


def _inverted(
    gained: Floats, lost: Floats, examples: Floats, *, quantile: float, edge: Floats, estimate: Floats
) -> Floats:
    """Return the differences at which the score, which falls as the difference rises, crosses the quantile."""
    low, high = np.minimum(edge, estimate), np.maximum(edge, estimate)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        above = tango_score(gained, lost, examples, middle) > quantile
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.asarray((low + high) / 2, dtype=np.float64)
