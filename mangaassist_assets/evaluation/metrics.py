"""Figures of classifiers, and orders by score, as plain numbers.

Every function takes parallel sequences and returns numbers or a frozen dataclass; nothing here knows a model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Flags, Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentFigures:
    """How one intent is recognised. Precision is 0 where it was never predicted, recall where it never occurs."""

    intent: str
    support: int
    predicted: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """`count` messages of intent `expected` that were taken for `predicted`."""

    expected: str
    predicted: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationFigures:
    """Figures over a labelled set. `macro_f1` averages over the intents that occur in the truth."""

    examples: int
    accuracy: float
    macro_f1: float
    intents: tuple[IntentFigures, ...]
    confusions: tuple[Confusion, ...]


def classification_figures(
    truth: Sequence[str], predictions: Sequence[str], *, max_confusions: int = 20
) -> ClassificationFigures:
    """Compare predicted with true intents.

    Raises:
        ValueError: The sequences are empty or of different lengths.
    """
    check_parallel(truth=truth, predictions=predictions)
    support, predicted = Counter(truth), Counter(predictions)
    pairs = Counter(zip(truth, predictions, strict=True))
    figures = []
    for intent in sorted(support.keys() | predicted.keys()):
        hits = pairs[intent, intent]
        figures.append(
            IntentFigures(
                intent=intent,
                support=support[intent],
                predicted=predicted[intent],
                precision=hits / predicted[intent] if predicted[intent] else 0.0,
                recall=hits / support[intent] if support[intent] else 0.0,
                f1=2 * hits / (support[intent] + predicted[intent]),
            )
        )
    confusions = [
        Confusion(expected=expected, predicted=found, count=count)
        for (expected, found), count in pairs.items()
        if expected != found
    ]
    confusions.sort(key=lambda one: (-one.count, one.expected, one.predicted))
    return ClassificationFigures(
        examples=len(truth),
        accuracy=sum(pairs[intent, intent] for intent in support) / len(truth),
        macro_f1=float(np.mean([figure.f1 for figure in figures if figure.support])),
        intents=tuple(figures),
        confusions=tuple(confusions[:max_confusions]),
    )


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
    """Sort answers into bins of equal width by their confidence.

    Args:
        confidences: Probability each answer was given with, shape (n,).
        correct: Whether it was right, shape (n,).
        bins: How many there are.

    Raises:
        ValueError: No answers, different lengths, or a confidence outside [0, 1].
    """
    sure, right = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    check_parallel(confidences=sure, correct=right)
    if not bool(np.all((sure >= 0) & (sure <= 1 + 1e-6))):
        raise ValueError("confidences must lie in [0, 1]")
    places = np.minimum((sure * bins).astype(np.int64), bins - 1)
    counts, stated, were_right, gaps = (
        np.bincount(places, weights=weights, minlength=bins) for weights in (None, sure, right, right - sure)
    )
    found = tuple(
        ReliabilityBin(
            low=place / bins,
            high=(place + 1) / bins,
            count=int(counts[place]),
            confidence=float(stated[place] / max(1, counts[place])),
            accuracy=float(were_right[place] / max(1, counts[place])),
        )
        for place in range(bins)
    )
    return Reliability(bins=found, expected_calibration_error=float(np.abs(gaps).sum() / len(sure)))


def expected_calibration_error(confidences: Sequence[float] | Floats, correct: Sequence[bool] | Flags) -> float:
    """Return the mean gap between confidence and accuracy over equal-width bins, by bin size (Guo et al. 2017).

    Raises:
        ValueError: No examples, different lengths, or a confidence outside [0, 1].
    """
    return reliability(confidences, correct).expected_calibration_error


def order_by_scores(scores: Sequence[float] | NDArray[np.float32], tie_ranks: Sequence[int]) -> list[int]:
    """Return indices by falling score; equal scores keep the order of `tie_ranks` (the first stage's)."""
    check_parallel(scores=scores, tie_ranks=tie_ranks)
    values = np.asarray(scores, dtype=np.float64)
    return sorted(range(len(tie_ranks)), key=lambda index: (-values[index], tie_ranks[index]))


def check_parallel(**sequences: Sequence[object] | NDArray[np.generic]) -> int:
    """Return the common length of parallel sequences.

    Raises:
        ValueError: They are empty, or differ in length; the message names them.
    """
    lengths = {name: len(values) for name, values in sequences.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"need sequences of one length, not empty: got {lengths}")
    return next(iter(lengths.values()))
