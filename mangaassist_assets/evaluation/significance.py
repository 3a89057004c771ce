"""Paired significance tests: is the difference between two models more than chance?

Both models answer the same examples, so the tests are paired: McNemar's exact test for right or wrong, the bootstrap of
the paired difference and the sign-flip test for figures on a scale, Holm's correction where several slices are tested
at once. No figure depends on the order of the examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.evaluation.metrics import check_parallel

Alternative = Literal["two-sided", "greater", "less"]

_NORMAL = NormalDist()
_BOOTSTRAP_CELLS = 4_000_000
_MOST_DIFFERENT_VALUES = 256
_MOST_FLIPPED = 200
_FIGURE_DECIMALS = 12
_ROUNDING = 1e-9
_LARGEST_SAMPLE = 10_000_000
_LARGEST_EXACT_SAMPLE = 5_000


def mcnemar_p_value(gained: int, lost: int, *, alternative: Alternative = "two-sided") -> float:
    """Return the exact p-value of McNemar's test.

    Args:
        gained: Examples that only the challenger has right.
        lost: Examples that only the champion has right.
        alternative: `greater` asks whether the challenger is better, `less` whether it is worse.

    Raises:
        ValueError: A count is negative.
    """
    if gained < 0 or lost < 0:
        raise ValueError(f"counts cannot be negative: gained {gained}, lost {lost}")
    from scipy.special import bdtrc

    # Of the discordant examples as many or more on one side, if each side is as likely; P(X >= 0) is 1.
    seen = {"greater": gained, "less": lost, "two-sided": max(gained, lost)}[alternative]
    tail = float(bdtrc(seen - 1, gained + lost, 0.5))
    return min(1.0, 2.0 * tail) if alternative == "two-sided" else tail


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapDifference:
    """The mean paired difference (challenger minus champion) with its percentile interval.

    `p_better` is the one-sided bootstrap p-value of "not better", `p_worse` of "not worse", both at least
    1 / (resamples + 1).
    """

    difference: float
    low: float
    high: float
    p_better: float
    p_worse: float
    examples: int


def paired_bootstrap(
    champion: Sequence[float] | Floats,
    challenger: Sequence[float] | Floats,
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> BootstrapDifference:
    """Resample the paired per-example differences (Efron & Tibshirani 1993).

    The same seed gives the same answer.

    Raises:
        ValueError: Empty input, different lengths, or a figure that is not finite.
    """
    check_parallel(champion=champion, challenger=challenger)
    differences = np.asarray(challenger, dtype=np.float64) - np.asarray(champion, dtype=np.float64)
    if not bool(np.isfinite(differences).all()):
        raise ValueError("every figure must be finite")
    size = len(differences)
    means = _resampled_means(np.sort(differences.round(_FIGURE_DECIMALS)), resamples=resamples, seed=seed)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return BootstrapDifference(
        difference=float(differences.mean()),
        low=float(low),
        high=float(high),
        p_better=(1 + int((means <= _ROUNDING).sum())) / (resamples + 1),
        p_worse=(1 + int((means >= -_ROUNDING).sum())) / (resamples + 1),
        examples=size,
    )


def sign_flip_p_value(
    differences: Floats, *, alternative: Literal["greater", "less"], resamples: int = 10_000, seed: int = 0
) -> float:
    """Return the one-sided p-value of Fisher's randomisation test of the mean paired difference.

    Where two models are equally good, each difference could as well have had the other sign: the test is exact for
    that, however few or skewed the differences are, and so fits small slices (Smucker, Allan & Carterette 2007). All
    signs are tried where `resamples` allow, drawn up to 200 differences, and beyond, their sum is normal.
    """
    nonzero = np.abs(differences).round(_FIGURE_DECIMALS)
    nonzero = np.sort(nonzero[nonzero > 0])
    count = len(nonzero)
    observed = float(differences.sum()) * (1.0 if alternative == "greater" else -1.0)
    if not count:
        return 1.0
    if count > _MOST_FLIPPED:
        from scipy.special import ndtr

        return float(ndtr(-observed / math.sqrt(float((nonzero**2).sum()))))
    all_tried = 2**count <= resamples
    if all_tried:
        signs = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    else:
        signs = np.random.default_rng(seed).integers(0, 2, size=(resamples, count), dtype=np.int8)
    extreme = int((2.0 * (signs @ nonzero) - nonzero.sum() >= observed - _ROUNDING).sum())
    return extreme / len(signs) if all_tried else (1 + extreme) / (resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm-adjusted p-values in the given order (Holm 1979): below alpha is significant, all tests together."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        running = max(running, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = running
    return adjusted


def mcnemar_power(examples: int, *, gain_rate: float, loss_rate: float, alpha: float = 0.05) -> float:
    """Return the power of the one-sided exact McNemar test, by summing over what could be observed.

    Args:
        examples: Size of the test set.
        gain_rate: Share of examples that only the challenger has right.
        loss_rate: Share that only the champion has right.
        alpha: One-sided level.

    Raises:
        ValueError: Rates outside [0, 1], or a sum above 1.
    """
    _check_rates(gain_rate, loss_rate)
    discordant = gain_rate + loss_rate
    if examples <= 0 or gain_rate <= loss_rate:
        return 0.0
    from scipy.special import bdtrc, bdtrik

    spread = 8.0 * math.sqrt(examples * discordant * (1.0 - discordant)) + 8.0
    low = max(1, math.floor(examples * discordant - spread))
    high = min(examples, math.ceil(examples * discordant + spread))
    counts = np.arange(low, high + 1)
    # The inverse is not of whole numbers: the first of its neighbours that is significant.
    critical = np.floor(bdtrik(1.0 - alpha, counts, 0.5)).astype(np.int64)
    for _ in range(2):
        critical += bdtrc(critical - 1, counts, 0.5) > alpha
    seen = np.where(critical > counts, 0.0, bdtrc(critical - 1, counts, gain_rate / discordant))
    return float(min(1.0, (_binomial_pmf(counts, examples, discordant) * seen).sum()))


def mcnemar_sample_size(*, gain_rate: float, loss_rate: float, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """Return how many examples the one-sided exact McNemar test needs to see this difference.

    None if there is no gain to see. Above 5,000 examples the normal approximation (Miettinen 1968) is returned.

    Raises:
        ValueError: Rates outside [0, 1], or a sum above 1.
    """
    _check_rates(gain_rate, loss_rate)
    discordant, difference = gain_rate + loss_rate, gain_rate - loss_rate
    if difference <= 0:
        return None
    spread = math.sqrt(max(discordant - difference**2, 0.0))
    root = (_NORMAL.inv_cdf(1 - alpha) * math.sqrt(discordant) + _NORMAL.inv_cdf(power) * spread) / difference
    approximate = math.ceil(root**2)
    if approximate > _LARGEST_EXACT_SAMPLE:
        return min(_LARGEST_SAMPLE, approximate)

    def suffices(examples: int) -> bool:
        return mcnemar_power(examples, gain_rate=gain_rate, loss_rate=loss_rate, alpha=alpha) >= power

    high = max(approximate, math.ceil(math.log2(1.0 / alpha)))
    while not suffices(high):
        high = math.ceil(high * 1.25)
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def mean_difference_sample_size(
    *, difference: float, deviation: float, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """Return how many paired examples a one-sided test needs to see a mean difference; None if it is not positive.

    `deviation` is the standard deviation of the per-example differences.
    """
    if difference <= 0:
        return None
    quantiles = _NORMAL.inv_cdf(1 - alpha) + _NORMAL.inv_cdf(power)
    return min(_LARGEST_SAMPLE, max(2, math.ceil((quantiles * deviation / difference) ** 2)))


def _binomial_pmf(counts: NDArray[np.int64], trials: int, chance: float) -> Floats:
    """P(X = count) for X ~ Binomial(trials, chance), for each count."""
    from scipy.special import gammaln, xlog1py, xlogy

    ways = gammaln(trials + 1) - gammaln(counts + 1) - gammaln(trials - counts + 1)
    chances: Floats = np.exp(ways + xlogy(counts, chance) + xlog1py(trials - counts, -chance))
    return chances


def _resampled_means(ordered: Floats, *, resamples: int, seed: int) -> Floats:
    """Return means of resamples; where few values occur, how often each is drawn is drawn at once (multinomial)."""
    generator = np.random.default_rng(seed)
    size = len(ordered)
    values, counts = np.unique(ordered, return_counts=True)
    if len(values) <= _MOST_DIFFERENT_VALUES:
        drawn = generator.multinomial(size, counts / size, size=resamples)
        return np.asarray(drawn @ values / size, dtype=np.float64)
    means = np.empty(resamples, dtype=np.float64)
    step = max(1, _BOOTSTRAP_CELLS // size)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        means[start : start + rows] = ordered[generator.integers(0, size, size=(rows, size))].mean(axis=1)
    return means


def _check_rates(gain_rate: float, loss_rate: float) -> None:
    if not (0 <= gain_rate <= 1 and 0 <= loss_rate <= 1 and gain_rate + loss_rate <= 1 + 1e-9):
        raise ValueError(f"rates must be shares of one test set: gain {gain_rate}, loss {loss_rate}")
