"""Has the share of thumbs-downs risen? Evidence that may be looked at as often as one likes, at any time of a life.

Votes come one after another, and a rise may begin with any block of them. For each such start the votes since then are
compared with all before it: how much likelier are they if the odds of a thumbs-down rose by a half, to the double, to
three or five times, than if they stayed? What they stayed at is not known exactly: the likelihood without a rise is
averaged over what the votes before leave open (beta-binomial), so few votes before make little evidence.

The ratios of all starts are *added*, not averaged (Shiryaev 1963, Roberts 1966; e-detectors: Shin, Ramdas & Rinaldo
2022). Without a rise each has the mean 1, so the sum of n starts has the mean n, and the chance that it reaches A
within n starts is at most n / A: on average A starts pass before a false alarm, at any number of looks. A rise after
many quiet days adds as much as an early one. Several streams share A by weights that add up to 1.

Opinions of one shopper resemble each other: the n-th vote of a shopper counts less (`vote_weights`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Floats

_JEFFREYS = 0.5
_TWICE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Votes before all that is judged: how many there were and how many were thumbs-downs; fractions are fine."""

    down: float
    votes: float

    @property
    def share(self) -> float:
        """Share of thumbs-downs, 0.0 without votes."""
        return self.down / self.votes if self.votes else 0.0

    def plus(self, other: Reference) -> Reference:
        """Return both together."""
        return Reference(down=self.down + other.down, votes=self.votes + other.votes)

    def at_most(self, votes: float) -> Reference:
        """Return the same share of no more votes."""
        scale = min(1.0, votes / self.votes) if self.votes else 1.0
        return Reference(down=self.down * scale, votes=self.votes * scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rise:
    """What speaks for a rise.

    Attributes:
        log_evidence: Natural logarithm of the sum over all starts.
        start: Position of the vote that the rise most likely began with.
        before: All before it, weighted.
        since: The votes since, weighted.
    """

    log_evidence: float
    start: int
    before: Reference
    since: Reference


def log_ratio(
    before_down: Floats, before_votes: Floats, down: Floats, votes: Floats, *, odds: Sequence[float]
) -> Floats:
    """Return the log likelihood ratio of a rise against none, for arrays of any one shape.

    Args:
        before_down: Thumbs-downs before the start.
        before_votes: Votes before the start.
        down: Thumbs-downs since.
        votes: Votes since.
        odds: Factors by which the odds may have risen, equally likely.
    """
    from scipy.special import betaln

    a, b = before_down + _JEFFREYS, before_votes - before_down + _JEFFREYS
    up = votes - down
    stayed = betaln(a + down, b + up) - betaln(a, b)
    log_odds = np.log(a / b)
    total: Floats | None = None
    for factor in odds:
        risen = log_odds + math.log(factor)
        log_likelihood = down * risen - votes * np.logaddexp(0.0, risen)
        total = log_likelihood if total is None else np.logaddexp(total, log_likelihood)
    if total is None:
        raise ValueError("a rise needs at least one factor of the odds")
    ratio: Floats = total - math.log(len(odds)) - stayed
    return ratio


def start_ratios(
    down: Floats, votes: Floats, *, reference_down: Floats, reference_votes: Floats, odds: Sequence[float], most: float
) -> Floats:
    """Return the log ratio of every start, shape (..., starts).

    Args:
        down: Thumbs-downs up to each start and, last, up to now; shape (..., starts + 1).
        votes: The same of all votes.
        reference_down: Thumbs-downs before the first start, shape (..., 1).
        reference_votes: Votes before the first start, shape (..., 1).
        odds: See `log_ratio`.
        most: No more votes are reckoned with before a start.
    """
    before_down, before_votes = reference_down + down[..., :-1], reference_votes + votes[..., :-1]
    scale = np.minimum(1.0, most / np.maximum(before_votes, 1.0))
    return log_ratio(
        before_down * scale,
        before_votes * scale,
        down[..., -1:] - down[..., :-1],
        votes[..., -1:] - votes[..., :-1],
        odds=odds,
    )


def find_rise(
    downs: NDArray[np.bool_],
    weights: Floats,
    reference: Reference,
    *,
    block: int,
    odds: Sequence[float],
    least: float,
    most: float,
) -> Rise | None:
    """Weigh the evidence of a rise in a stream.

    Args:
        downs: Whether each vote is a thumbs-down, oldest first, shape (votes,).
        weights: How much each counts, shape (votes,).
        reference: What was before them.
        block: A rise may begin with every so many-th vote.
        odds: See `log_ratio`.
        least: A start with fewer votes before it is none: there is nothing to compare with.
        most: No more votes are reckoned with before a start.

    Returns:
        None where there is no start.
    """
    places = np.arange(0, len(downs), block)
    down, votes = _running(np.where(downs, weights, 0.0)), _running(weights)
    places = places[reference.votes + votes[places] >= least]
    if not len(places):
        return None
    at = np.append(places, len(downs))
    ratios = start_ratios(
        down[at],
        votes[at],
        reference_down=np.array([reference.down]),
        reference_votes=np.array([reference.votes]),
        odds=odds,
        most=most,
    )
    likeliest = int(np.argmax(ratios))
    start = int(places[likeliest])
    return Rise(
        log_evidence=log_sum(ratios),
        start=start,
        before=reference.plus(Reference(down=float(down[start]), votes=float(votes[start]))).at_most(most),
        since=Reference(down=float(down[-1] - down[start]), votes=float(votes[-1] - votes[start])),
    )


def log_sum(logs: Floats) -> float:
    """Return the logarithm of a sum of exponentials."""
    return float(np.logaddexp.reduce(logs, axis=-1))


def vote_weights(shoppers: Sequence[Hashable], *, correlation: float) -> Floats:
    """Return how much each vote counts, shape (votes,).

    n votes of one shopper tell as much as n / (1 + (n - 1) correlation) of different ones (Kish 1965); the n-th counts
    what it adds to that, so no later vote changes the weight of an earlier one.
    """
    seen: dict[Hashable, int] = {}
    weights = np.empty(len(shoppers))
    for place, shopper in enumerate(shoppers):
        number = seen.get(shopper, 0) + 1
        seen[shopper] = number
        weights[place] = _worth(number, correlation) - _worth(number - 1, correlation)
    return weights


def fiercest(shoppers: Sequence[Hashable], downs: NDArray[np.bool_], *, share: float) -> frozenset[Hashable]:
    """Return the shoppers who complain most, those with most thumbs-downs first: about this share of them.

    Chance brings more of such a share into a stretch of votes: two standard deviations more are taken. Nobody is among
    them who pressed it only once: who did so cannot be told from anybody who was served badly.
    """
    cast = Counter(shoppers)
    down = Counter(one for one, is_down in zip(shoppers, downs, strict=True) if is_down)
    repeated = (one for one, count in down.items() if count >= _TWICE)
    ranked = sorted(repeated, key=lambda one: (-down[one], cast[one], str(one)))
    expected = share * len(cast)
    return frozenset(ranked[: math.ceil(expected + 2.0 * math.sqrt(expected))])


def _worth(votes: int, correlation: float) -> float:
    return votes / (1.0 + (votes - 1) * correlation) if votes else 0.0


def _running(values: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(values)])
