"""What a model brings to the training loop, the settings of the loop, what it reports, and its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterGroup:
    """Parameters by name that learn at one rate.

    Attributes:
        parameters: Leaf tensors that require a gradient.
        learning_rate: The peak, after warm-up.
        weight_decay: Of AdamW.
        clipped: Whether their gradient counts in the norm that is limited, and is scaled down by it.
    """

    parameters: Mapping[str, Tensor]
    learning_rate: float
    weight_decay: float = 0.0
    clipped: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """How good a model is now: `score` decides, higher is better, compared from its first number on."""

    score: tuple[float, ...]
    figures: Mapping[str, float]


class Objective(Protocol):
    """What a training learns. A batch is a list of example numbers."""

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Return what learns; names are unique over all groups and the same in every run."""

    def batches(self, epoch: int) -> Sequence[Sequence[int]]:
        """Return the batches of an epoch, counted from 1; the same at every call."""

    def normaliser(self, batch: Sequence[int]) -> float:
        """Return what the summed loss of the whole batch is divided by: the sum of its weights."""

    def loss(self, share: Sequence[int]) -> Tensor:
        """Return the *summed* loss of some examples of a batch, a scalar with its graph. Called in training mode."""

    def train_mode(self, *, training: bool) -> None:
        """Switch dropout on or off."""

    def validate(self) -> Validation | None:
        """Return how good the model is, or None where there is too little to judge. Called in evaluation mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """How the loop goes.

    Attributes:
        seed: Of dropout.
        epochs: At most so many passes.
        max_steps: At most so many optimiser steps, None for all.
        patience: Stop after so many epochs without a better validation.
        warmup: Share of the steps in which the rate rises; after them it falls to zero in a line.
        clip_norm: Limit of the gradient's norm.
        checkpoint_seconds: A checkpoint is due when so much time has passed since the last one.
        checkpoint_steps: ... or when so many steps have; None leaves it to the time.
    """

    seed: int = 0
    epochs: int = 4
    max_steps: int | None = None
    patience: int = 2
    warmup: float = 0.1
    clip_norm: float = 1.0
    checkpoint_seconds: float = 30.0
    checkpoint_steps: int | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that cannot work, with the field's name."""
        for name, least in (("epochs", 0), ("max_steps", 0), ("patience", 1), ("checkpoint_steps", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"LoopSettings.{name} must be at least {least}, got {value}")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"LoopSettings.warmup must lie in 0..1, got {self.warmup}")
        if not self.clip_norm > 0:
            raise ValueError(f"LoopSettings.clip_norm must be positive, got {self.clip_norm}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One epoch: mean training loss, and what validation said; `validation` is empty where there is none."""

    epoch: int
    training_loss: float
    validation: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResult:
    """How training went.

    Attributes:
        history: Its epochs.
        step_losses: Training loss of every step.
        best_epoch: Whose weights were kept; None without validation, where the last weights stay.
        stopped_early: Whether patience ended it.
        resumed_from: Step of the checkpoint that it went on from; 0 for a start from the beginning.
        samples: Examples that all workers learned from since this process started, repeats counted.
        training_seconds: Time of the steps since then, without validation and checkpoints.
    """

    history: tuple[EpochRecord, ...]
    step_losses: tuple[float, ...]
    best_epoch: int | None
    stopped_early: bool
    resumed_from: int
    samples: int
    training_seconds: float

    @property
    def samples_per_second(self) -> float:
        """Examples a second."""
        return self.samples / self.training_seconds if self.training_seconds > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """Where training is.

    `stage` is `features`, `fine-tune` or `write`; step and epoch count from 1, 0 stands for none just now. `figures`
    have the names that MLflow gets; a `notice` is for people: a checkpoint that could not be used, say.
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
