"""Intervals of shares: Wilson's for one, Newcombe's for the difference of two."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A share, or a difference of shares, with its bounds."""

    value: float
    low: float
    high: float


def wilson_interval(successes: int, trials: int, *, confidence: float = CONFIDENCE) -> Interval | None:
    """Return a share with its Wilson score interval (Wilson 1927); None without trials.

    It keeps its coverage for few trials and for shares near 0 and 1, where the usual interval leaves [0, 1].

    Raises:
        ValueError: Counts that are no counts, or a confidence outside (0, 1).
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials is no share")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    if trials == 0:
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    denominator = 1 + z * z / trials
    center = (share + z * z / (2 * trials)) / denominator
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / denominator
    # At the ends the bound is the share itself; rounding would put it a hair beyond.
    low = 0.0 if successes == 0 else center - half
    high = 1.0 if successes == trials else center + half
    return Interval(value=share, low=low, high=high)


def newcombe_difference(
    successes: int, trials: int, successes_before: int, trials_before: int, *, confidence: float = CONFIDENCE
) -> Interval | None:
    """Return share minus earlier share with its interval (Newcombe 1998, method 10, without continuity correction).

    None where one side has no trials.

    Raises:
        ValueError: As `wilson_interval`.
    """
    now = wilson_interval(successes, trials, confidence=confidence)
    before = wilson_interval(successes_before, trials_before, confidence=confidence)
    if now is None or before is None:
        return None
    difference = now.value - before.value
    return Interval(
        value=difference,
        low=difference - math.hypot(now.value - now.low, before.high - before.value),
        high=difference + math.hypot(now.high - now.value, before.value - before.low),
    )
