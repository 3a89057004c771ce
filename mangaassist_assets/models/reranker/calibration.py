"""How sure a reranker may say it is: scale and shift of its sigmoid, and how far off the probabilities are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mangaassist_assets.core.arrays import Flags, Floats
from mangaassist_assets.evaluation.metrics import expected_calibration_error
from mangaassist_assets.models.examples import RankingExample

if TYPE_CHECKING:
    from torch import Tensor


_MOST_EXTREME_LOGIT = 700.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreCalibration:
    """The probability of relevance is `sigmoid(scale * logit + shift)`; `scale` is positive, so the order stays."""

    scale: float
    shift: float

    def probabilities(self, logits: Floats) -> Floats:
        """Return probabilities of the shape of `logits`."""
        scaled = np.clip(self.scale * logits + self.shift, -_MOST_EXTREME_LOGIT, _MOST_EXTREME_LOGIT)
        values: Floats = 1.0 / (1.0 + np.exp(-scaled))
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationFigures:
    """How well probabilities are calibrated.

    Attributes:
        pairs: How many were judged.
        brier: Mean squared error (Brier 1950).
        brier_of_base_rate: The same of always saying the share of relevant pairs.
        expected_calibration_error: Mean gap between probability and truth over equal-width bins.
    """

    pairs: int
    brier: float
    brier_of_base_rate: float
    expected_calibration_error: float


def fit_calibration(logits: Floats, relevant: Flags) -> ScoreCalibration:
    """Fit scale and shift of the sigmoid (Platt 1999) with a slight pull of the scale towards 1.

    Args:
        logits: Of pairs, shape (n,), n at least 1.
        relevant: Whether the passage answers the query, shape (n,).
    """
    import torch
    from torch.nn import functional

    values, wanted = torch.from_numpy(logits), torch.from_numpy(relevant.astype(np.float64))
    log_scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    shift = (-values.mean()).clone().requires_grad_()
    optimiser = torch.optim.LBFGS([log_scale, shift], max_iter=100, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimiser.zero_grad()
        penalty = 0.01 * log_scale.square()
        loss = functional.binary_cross_entropy_with_logits(log_scale.exp() * values + shift, wanted) + penalty
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(objective)  # type: ignore[no-untyped-call]
    return ScoreCalibration(scale=float(log_scale.detach().exp()), shift=float(shift.detach()))


def calibrate(scores: Sequence[Floats], examples: Sequence[RankingExample]) -> ScoreCalibration:
    """Fit on the labelled passages of some queries; scores are parallel to the passages of each example."""
    return fit_calibration(np.concatenate(scores), relevant_pairs(examples))


def judge_calibration(scores: Sequence[Floats], examples: Sequence[RankingExample]) -> CalibrationFigures | None:
    """Judge by two halves of the queries, each with the calibration that the other one gave; None for one query."""
    halves = [list(range(first, len(examples), 2)) for first in (0, 1)]
    if len(examples) < len(halves):
        return None
    stated: list[Floats] = []
    true: list[Flags] = []
    for own, other in (halves, halves[::-1]):
        fitted = calibrate([scores[place] for place in other], [examples[place] for place in other])
        stated.append(fitted.probabilities(np.concatenate([scores[place] for place in own])))
        true.append(relevant_pairs([examples[place] for place in own]))
    return calibration_figures(np.concatenate(stated), np.concatenate(true))


def calibration_figures(probabilities: Floats, relevant: Flags) -> CalibrationFigures:
    """Return the figures of the probabilities of pairs, both of shape (n,)."""
    return CalibrationFigures(
        pairs=len(relevant),
        brier=float(np.mean((probabilities - relevant) ** 2)),
        brier_of_base_rate=float(relevant.mean() * (1.0 - relevant.mean())),
        expected_calibration_error=expected_calibration_error(probabilities, relevant),
    )


def relevant_pairs(examples: Sequence[RankingExample]) -> Flags:
    """Return whether the passage answers the query, of all pairs in their order."""
    return np.array([relevance > 0 for example in examples for relevance in example.relevances], dtype=np.bool_)
