"""What training reports to whoever watches it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """Where training is.

    Attributes:
        stage: What it does: `features`, `fine-tune`, `write`.
        step: Optimiser step, counted from 1; 0 outside of steps.
        steps: How many steps are planned.
        epoch: Epoch that has just ended, counted from 1; 0 in the middle of one.
        epochs: How many epochs are planned.
        figures: Numbers so far, under the names that MLflow gets.
        notice: What somebody should know: a checkpoint that could not be used, say.
    """

    stage: str
    step: int = 0
    steps: int = 0
    epoch: int = 0
    epochs: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)
    notice: str = ""


ProgressCallback = Callable[[TrainingProgress], None]


def ignore_progress(progress: TrainingProgress) -> None:
    """Watch nothing."""
    del progress
