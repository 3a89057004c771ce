"""Has a mean fallen? Evidence that may be looked at as often as one likes.

Figures come in periods; the first is what all later ones are compared with. For each later period the mean since then
is compared with the mean before it, by a likelihood ratio: how much likelier are these figures if the mean fell there
by `loss` than if it never fell? The ratios are averaged, that of the k-th start with the weight 1 / (k (k + 1)); starts
that are still to come have a ratio of 1. While nothing changes that average begins at 1 and stays there in the mean, so
the chance that it ever reaches 1 / alpha is at most alpha (Ville 1939): an e-process, valid at every look (Ramdas,
Grünwald, Vovk & Shafer 2023).

The first period is a sample too. A difference of two running means gains information, the inverse of its variance, as
a Brownian motion gains time, whichever side grows (Jennison & Turnbull 1997). The ratio needs no more than that, and a
small reference yields little information for ever. It is normal theory: the variance is the shoppers', whose messages
resemble each other, with one best and one worst figure reckoned in; since a start it is that of a mean which fell
halfway, because where wrong answers are rare a few more of them raise it much. `benchmarks/bench_decay.py` shows that
the level holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Floats

_NORMAL = NormalDist()
_LARGEST_SAMPLE = 10_000_000
_MOST_EVIDENCE = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Figures of examples, all of shape (examples,), at least one of period 0.

    Attributes:
        values: From 0, the worst, to 1.
        weights: How much each counts, see `even_worth`.
        shoppers: Number of the shopper who wrote each.
        periods: Number of the period of each; none is left out up to the last.
    """

    values: Floats
    weights: Floats
    shoppers: NDArray[np.intp]
    periods: NDArray[np.intp]

    def until(self, period: int) -> Figures:
        """Return those of the periods up to this one."""
        known = self.periods <= period
        return Figures(
            values=self.values[known],
            weights=self.weights[known],
            shoppers=self.shoppers[known],
            periods=self.periods[known],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """How likely it is that the mean fell.

    Attributes:
        evidence: For a loss, at most 1e12; 1 is none either way.
        since: Period since which a loss is likeliest; None where there is but one period.
        change: Mean since then minus mean before it, 0 where there is but one period.
        difference: Mean of all periods but the first minus mean of the first.
        deviation: Its standard error, infinite where there is but one period.
        spread: Variance of one figure that counts 1.
        spread_after: The same after the loss.
    """

    evidence: float
    since: int | None
    change: float
    difference: float
    deviation: float
    spread: float
    spread_after: float


def even_worth(weights: Floats) -> Floats:
    """Scale the weights of a sample so that they add up to the number of equal ones that tell as much (Kish 1965).

    So samples count by what they tell, whatever the traffic is that they were drawn from.
    """
    scaled: Floats = weights * (weights.sum() / (weights**2).sum())
    return scaled


def evidence_of_loss(figures: Figures, *, loss: float) -> Evidence:
    """Weigh the evidence that the mean fell by `loss`, all figures together. Their order does not matter."""
    sizes = np.bincount(figures.periods, weights=figures.weights)
    sums = np.bincount(figures.periods, weights=figures.weights * figures.values)
    total = float(sizes.sum())
    mean = (float(sums.sum()) + 1.0) / (total + 2.0)
    spread = _spread(figures, mean, total)
    square = (float((figures.weights * figures.values**2).sum()) + 1.0) / (total + 2.0)
    before, sums_before = np.cumsum(sizes)[:-1], np.cumsum(sums)[:-1]
    since = total - before
    changes = (sums.sum() - sums_before) / since - sums_before / before
    information = 1.0 / (spread / before + (spread + _more_spread(mean, square, loss / 2)) / since)
    # The log likelihood ratio of two normal means of the difference, -loss and 0.
    ratios = loss * information * (-changes - loss / 2)
    starts = np.arange(1, len(sizes), dtype=np.float64)
    weighed = ratios - np.log(starts * (starts + 1))
    likeliest = int(np.argmax(weighed)) if len(weighed) else None
    return Evidence(
        evidence=_sum_of_exponentials([*weighed.tolist(), -math.log(len(sizes))]),
        since=None if likeliest is None else likeliest + 1,
        change=0.0 if likeliest is None else float(changes[likeliest]),
        difference=float(changes[0]) if len(changes) else 0.0,
        deviation=float(information[0] ** -0.5) if len(information) else math.inf,
        spread=spread,
        spread_after=spread + _more_spread(mean, square, loss),
    )


def mean_interval(values: Floats, weights: Floats, *, confidence: float) -> tuple[float, float, float]:
    """Return the weighted mean with its two-sided interval: mean, low, high.

    One best and one worst figure are reckoned in, so that figures which are all alike are no certainty (Agresti &
    Coull 1998).
    """
    total = float(weights.sum())
    mean = float((weights * values).sum()) / total
    middle = (total * mean + 1.0) / (total + 2.0)
    squares = float((weights**2 * (values - middle) ** 2).sum()) + (1.0 - middle) ** 2 + middle**2
    reach = _NORMAL.inv_cdf(0.5 + confidence / 2) * math.sqrt(squares) / (total + 2.0)
    return mean, max(0.0, min(mean, middle - reach)), min(1.0, max(mean, middle + reach))


def needed_examples(found: Evidence, *, reference: float, loss: float, alpha: float, power: float) -> int | None:
    """Return about how many examples show with this power that the mean fell by `loss` when they began.

    `reference` examples are compared with.

    Returns:
        None where those are too few for any number.
    """
    room = loss**2 / _needed_time(alpha, power) - found.spread / reference
    if room <= 0:
        return None
    return min(_LARGEST_SAMPLE, max(2, math.ceil(found.spread_after / room)))


def _spread(figures: Figures, mean: float, total: float) -> float:
    of_shoppers = np.bincount(figures.shoppers, weights=figures.weights * (figures.values - mean))
    count = len(np.unique(figures.shoppers))
    squares = float((of_shoppers**2).sum()) * count / max(count - 1, 1)
    return (squares + (1.0 - mean) ** 2 + mean**2) / (total + 2.0)


def _more_spread(mean: float, square: float, loss: float) -> float:
    """Return by how much the variance rises where so many figures become 0 that the mean falls by `loss`.

    `square` is the mean square of the figures.
    """
    kept = max(0.0, 1.0 - loss / mean)
    return max(0.0, (1.0 - kept) * (mean**2 * (1.0 + kept) - square))


def _needed_time(alpha: float, power: float) -> float:
    """Return at which loss² × information the ratio of the first start has reached 2 / alpha with this power.

    After a loss the log ratio is a Brownian motion that rises by half of the time; its chance to have reached a level
    is known (Siegmund 1986).
    """
    level = math.log(2.0 / alpha)

    def reached(time: float) -> float:
        root = math.sqrt(time)
        return _NORMAL.cdf((time / 2 - level) / root) + math.exp(level) * _NORMAL.cdf(-(time / 2 + level) / root)

    low, high = 1e-6, 1.0
    while reached(high) < power:
        high *= 2
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) >= power else (middle, high)
    return high


def _sum_of_exponentials(logs: Sequence[float]) -> float:
    largest = max(logs)
    found = math.log(sum(math.exp(one - largest) for one in logs)) + largest
    return math.exp(min(found, math.log(_MOST_EVIDENCE)))
