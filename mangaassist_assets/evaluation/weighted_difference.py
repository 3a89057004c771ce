"""The difference of two models on the traffic that reviewed examples stand for; the shopper is the unit.

An example that the audit sample drew stands for the inverse of its inclusion probability many turns (Hájek 1971); one
that was reviewed for another reason, such as a failure, stands for itself alone: those are a stratum that is known
whole, beside which the audit sample is one of all other turns. So reviews of failures add what they know, and shift
nothing.

The variance is that of shoppers, whose messages resemble each other (the linearised, cluster-robust one), and Student's
quantiles take as many degrees of freedom as the shoppers' weights are worth (Kish 1965). A sample of a few dozen that
happens to hold no loss would prove too much by that alone, so a win and a loss that nobody saw are reckoned in, as
heavy as an audited example is (Agresti and Coull's idea, 1998). `benchmarks/bench_gate.py` shows what levels hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Flags, Floats
from mangaassist_assets.evaluation.results import TrafficSample

Places = NDArray[np.intp]

_NORMAL = NormalDist()
_UNSEEN = 1.0
"""Wins, and losses, that are reckoned in."""
_LARGEST_SAMPLE = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighted:
    """How examples stand for the traffic.

    Attributes:
        weights: Turns that each example stands for, shape (examples,).
        drawn: Which of them the audit sample drew, shape (examples,).
        shoppers: Number of the shopper who wrote each, shape (examples,).
    """

    weights: Floats
    drawn: Flags
    shoppers: Places

    def at(self, places: Places) -> Weighted:
        """Return the same of some examples."""
        return Weighted(weights=self.weights[places], drawn=self.drawn[places], shoppers=self.shoppers[places])


def weighted(examples: int, *, sample: TrafficSample | None, shoppers: Sequence[str]) -> Weighted:
    """Return how examples stand for the traffic: alike, each for itself, where they are no sample of it."""
    names = [name or f"\0{place}" for place, name in enumerate(shoppers or [""] * examples)]
    numbers = np.unique(np.array(names, dtype=object), return_inverse=True)[1] if names else np.zeros(0, dtype=np.intp)
    if sample is None:
        return Weighted(weights=np.ones(examples), drawn=np.ones(examples, dtype=np.bool_), shoppers=numbers)
    drawn = ~np.isnan(sample.inclusion_probabilities)
    weights = np.where(drawn, 1.0 / np.where(drawn, sample.inclusion_probabilities, 1.0), 1.0)
    others = max(float(sample.turns - int((~drawn).sum())), 0.0)
    if drawn.any():
        weights[drawn] *= others / weights[drawn].sum()
    return Weighted(weights=weights, drawn=drawn, shoppers=numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedDifference:
    """Weighted means of two models, their difference (challenger minus champion), and how sure it is.

    `deviation` is the standard error of `difference`, `freedom` Student's degrees of freedom. `discordant` counts the
    examples on which the models differ.
    """

    examples: int
    shoppers: int
    discordant: int
    champion: float
    challenger: float
    difference: float
    deviation: float
    freedom: float

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the two-sided interval of the difference, within -1 and 1."""
        from scipy.special import stdtrit

        reach = float(stdtrit(self.freedom, 0.5 + confidence / 2)) * self.deviation
        return max(-1.0, self.difference - reach), min(1.0, self.difference + reach)

    def p_better(self, beyond: float = 0.0) -> float:
        """Return the one-sided p-value of "better by at most `beyond`"; a negative one is a loss that is allowed."""
        return self._tail(beyond - self.difference)

    def p_worse(self, beyond: float = 0.0) -> float:
        """Return the one-sided p-value of "worse by at most `beyond`"."""
        return self._tail(self.difference + beyond)

    def loss_probability(self, beyond: float, *, expected: float, spread: float) -> float:
        """Return how likely the true difference is a loss of more than `beyond`, given what others show.

        The prior is normal around `expected` with the standard deviation `spread`, the likelihood normal: few examples
        are pulled to what is expected (James and Stein 1961).
        """
        precision = 1.0 / self.deviation**2 + 1.0 / spread**2
        mean = (self.difference / self.deviation**2 + expected / spread**2) / precision
        return _NORMAL.cdf((-beyond - mean) * math.sqrt(precision))

    def needed_examples(self, effect: float, *, alpha: float, power: float) -> int:
        """Return about how many examples, of the mix there is, show a true difference of `effect` with this power.

        Planned with a difference that is given, never with the one that was seen: that one would call every test that
        found nothing too small (Hoenig & Heisey 2001).
        """
        reach = (_NORMAL.inv_cdf(1 - alpha) + _NORMAL.inv_cdf(power)) * self.deviation / effect
        return min(_LARGEST_SAMPLE, max(2, math.ceil(self.examples * reach**2)))

    def _tail(self, excess: float) -> float:
        """Return how often Student's variable lies at or below `excess` in standard errors."""
        from scipy.special import stdtr

        return float(stdtr(self.freedom, excess / self.deviation))


def weighted_difference(champion: Floats, challenger: Floats, how: Weighted) -> WeightedDifference:
    """Compare two models by figures of each example, higher is better, both of shape (examples,), which is not empty.

    The order of the examples does not matter.
    """
    weights, whole = how.weights, float(how.weights.sum())
    differences = challenger - champion
    if whole <= 0.0:
        weights, whole = np.ones(len(weights)), float(len(weights))
    mean = float((weights * differences).sum()) / whole
    _, shoppers = np.unique(how.shoppers, return_inverse=True)
    count = int(shoppers.max()) + 1
    of_shoppers = np.bincount(shoppers, weights=weights * (differences - mean))
    variance = float((of_shoppers**2).sum()) * count / max(count - 1, 1)
    discordant = differences[np.abs(differences) > 1e-12]
    size = float((discordant**2).mean()) if len(discordant) else 1.0
    drawn = weights[how.drawn] if how.drawn.any() else weights
    heavy = float((drawn**2).sum() / drawn.sum())
    variance += 2.0 * _UNSEEN * heavy**2 * size
    carried = np.bincount(shoppers, weights=weights)
    return WeightedDifference(
        examples=len(differences),
        shoppers=count,
        discordant=len(discordant),
        champion=float((weights * champion).sum()) / whole,
        challenger=float((weights * challenger).sum()) / whole,
        difference=mean,
        deviation=math.sqrt(variance) / whole,
        freedom=max(1.0, float(carried.sum() ** 2 / (carried**2).sum()) - 1.0),
    )
