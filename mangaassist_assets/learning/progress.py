"""What training tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """Where training is: `stage` of work, epoch counted from 1 (0 outside epochs), and its figures so far."""

    stage: str
    epoch: int = 0
    epochs: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)


ProgressCallback = Callable[[TrainingProgress], None]


def ignore_progress(progress: TrainingProgress) -> None:
    """Watch nothing."""
    del progress
