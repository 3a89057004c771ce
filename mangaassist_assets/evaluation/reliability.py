"""How far a model's confidence can be believed: bins of equal width, each with what was said and what was so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mangaassist_assets.core.arrays import Flags, Floats
from mangaassist_assets.evaluation.metrics import expected_calibration_error

BINS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Answers whose confidence lies in [low, high); the last bin holds 1 as well. Means are 0 where it is empty."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """A model's bins, and the mean gap between confidence and accuracy by bin size (Guo et al. 2017)."""

    bins: tuple[ReliabilityBin, ...]
    expected_calibration_error: float

    @property
    def count(self) -> int:
        """How many answers there are."""
        return sum(one.count for one in self.bins)

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return sum(one.count * one.accuracy for one in self.bins) / self.count


def reliability(
    confidences: Sequence[float] | Floats, correct: Sequence[bool] | Flags, *, bins: int = BINS
) -> Reliability:
    """Bin answers by confidence.

    Args:
        confidences: probability each answer was given with, shape (n,).
        correct: whether it was right, shape (n,).
        bins: how many there are.

    Raises:
        ValueError: no answers, different lengths, or a confidence outside [0, 1].
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    error = expected_calibration_error(confidences, correct, bins=bins)
    sure, right = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    places = np.minimum((sure * bins).astype(np.int64), bins - 1)
    counts = np.bincount(places, minlength=bins)
    said = np.bincount(places, weights=sure, minlength=bins)
    was = np.bincount(places, weights=right, minlength=bins)
    found = tuple(
        ReliabilityBin(
            low=place / bins,
            high=(place + 1) / bins,
            count=int(counts[place]),
            confidence=float(said[place] / max(1, counts[place])),
            accuracy=float(was[place] / max(1, counts[place])),
        )
        for place in range(bins)
    )
    return Reliability(bins=found, expected_calibration_error=error)
