"""The training loop that all models share: steps, schedule, early stopping, best weights, checkpoints, workers.

A model brings an `Objective`: what learns, which batches an epoch has, the loss of a batch, and how good it is on
validation. Two runs of one objective with one seed give the same weights on a CPU, and so does a run that was killed
and goes on from its checkpoint: batches depend on seed and epoch, dropout on seed and step, and nothing else is drawn.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from mangaassist_assets.learning.checkpoints import CheckpointError, Checkpoints, SavedState
from mangaassist_assets.learning.compute import Compute
from mangaassist_assets.learning.progress import ProgressCallback, TrainingProgress

if TYPE_CHECKING:
    from torch import Tensor

_REPORT_SECONDS = 2.0


class TrainingDivergedError(RuntimeError):
    """The loss is no number any more; the message says when, and what to change."""


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
        """Return how good the model is, or None where there is too little to tell. Called in evaluation mode."""


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
        samples: Examples learned from in this process, repeats counted.
        training_seconds: Time of the steps in this process, without validation and checkpoints.
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


def run_training_loop(
    objective: Objective,
    settings: LoopSettings,
    *,
    progress: ProgressCallback,
    compute: Compute | None = None,
    checkpoints: Checkpoints | None = None,
) -> LoopResult:
    """Train, and leave the objective with the best epoch's weights; without validation with the last ones.

    Args:
        objective: What learns.
        settings: How the loop goes.
        progress: Told about every epoch, and about steps every two seconds, by worker 0.
        compute: Device and workers; None takes what there is.
        checkpoints: Where to go on from and what to write; None writes none.

    Raises:
        TrainingDivergedError: The loss became infinite or no number.
    """
    loop = _Loop(objective, settings, compute or Compute.detect(), progress, checkpoints)
    with _own_random_state():
        return loop.run()


class _Loop:
    def __init__(
        self,
        objective: Objective,
        settings: LoopSettings,
        compute: Compute,
        progress: ProgressCallback,
        checkpoints: Checkpoints | None,
    ) -> None:
        import torch

        self._objective = objective
        self._settings = settings
        self._compute = compute
        self._progress = progress
        self._checkpoints = checkpoints
        self._groups = list(objective.parameter_groups())
        self._learned = {name: tensor for group in self._groups for name, tensor in group.parameters.items()}
        self._clipped = [tensor for group in self._groups if group.clipped for tensor in group.parameters.values()]
        self._rates = [group.learning_rate for group in self._groups]
        self._optimiser = torch.optim.AdamW(
            [
                {
                    "params": list(group.parameters.values()),
                    "lr": group.learning_rate,
                    "weight_decay": group.weight_decay,
                }
                for group in self._groups
            ],
            fused=compute.on_gpu,
        )
        self._epochs = [list(objective.batches(epoch)) for epoch in range(1, settings.epochs + 1)]
        planned = sum(len(batches) for batches in self._epochs)
        self._steps = planned if settings.max_steps is None else min(planned, settings.max_steps)
        self._step = 0
        self._losses: list[float] = []
        self._history: list[EpochRecord] = []
        self._best: tuple[float, ...] | None = None
        self._best_epoch: int | None = None
        self._best_weights: dict[str, Tensor] = {}
        self._worse = 0
        self._samples = 0
        self._seconds = 0.0
        self._saved_at = self._told_at = time.monotonic()

    def run(self) -> LoopResult:
        resumed_from = self._resume()
        first, done = self._place()
        stopped = self._worse >= self._settings.patience
        for epoch in range(first, len(self._epochs) + 1):
            if stopped or self._step >= self._steps:
                break
            for batch in self._epochs[epoch - 1][done:][: self._steps - self._step]:
                self._learn(batch)
                self._checkpoint_if_due()
            done = 0
            self._end_epoch(epoch)
            stopped = self._worse >= self._settings.patience
            self._checkpoint_if_due()
        if self._best_weights:
            self._restore(self._best_weights)
        self._objective.train_mode(training=False)
        return LoopResult(
            history=tuple(self._history),
            step_losses=tuple(self._losses),
            best_epoch=self._best_epoch,
            stopped_early=stopped and self._step < self._steps,
            resumed_from=resumed_from,
            samples=self._samples,
            training_seconds=self._seconds,
        )

    def _place(self) -> tuple[int, int]:
        """Return the epoch to go on with, and how many of its steps were done."""
        ended = sum(len(batches) for batches in self._epochs[: len(self._history)])
        return len(self._history) + 1, self._step - ended

    def _learn(self, batch: Sequence[int]) -> None:
        import torch

        started = time.perf_counter()
        self._compute.seed(self._settings.seed, self._step)
        self._objective.train_mode(training=True)
        self._set_rates()
        for tensor in self._learned.values():
            tensor.grad = None
        share = self._compute.share(batch)
        total = torch.zeros((), device=self._compute.device)
        if share:
            with self._compute.precision():
                loss = self._objective.loss(share) / self._objective.normaliser(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            total = loss.detach().float().reshape(())
        if self._compute.workers > 1:
            for tensor in self._learned.values():
                if tensor.grad is None:
                    tensor.grad = torch.zeros_like(tensor)
            self._compute.sum_over_workers(
                [tensor.grad for tensor in self._learned.values() if tensor.grad is not None]
            )
            self._compute.sum_over_workers([total])
        value = float(total)
        if not math.isfinite(value):
            raise TrainingDivergedError(
                f"the training loss is {value} at step {self._step + 1} of {self._steps}: lower the learning rate"
            )
        torch.nn.utils.clip_grad_norm_(self._clipped, self._settings.clip_norm)
        self._optimiser.step()
        self._step += 1
        self._losses.append(value)
        self._samples += len(batch)
        self._seconds += time.perf_counter() - started
        if self._compute.leads and time.monotonic() - self._told_at >= _REPORT_SECONDS:
            self._tell(0, {"training_loss": value, "samples_per_second": self._samples / self._seconds})

    def _set_rates(self) -> None:
        """Rise in a line, then fall to zero in a line."""
        rise = min(1.0, (self._step + 1) / max(1e-9, self._settings.warmup * self._steps))
        factor = rise * max(0.0, 1.0 - self._step / self._steps)
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def _end_epoch(self, epoch: int) -> None:
        self._objective.train_mode(training=False)
        started = sum(len(batches) for batches in self._epochs[: epoch - 1])
        losses = self._losses[started:]
        validation = self._objective.validate()
        record = EpochRecord(
            epoch=epoch,
            training_loss=sum(losses) / len(losses),
            validation=dict(validation.figures) if validation else {},
        )
        self._history.append(record)
        if validation is not None:
            if self._compute.agreed(self._best is None or validation.score > self._best):
                self._best, self._best_epoch, self._worse = validation.score, epoch, 0
                self._best_weights = {name: tensor.detach().clone() for name, tensor in self._learned.items()}
            else:
                self._worse += 1
        if self._compute.leads:
            self._tell(epoch, {"training_loss": record.training_loss, **record.validation})

    def _tell(self, epoch: int, figures: Mapping[str, float]) -> None:
        self._told_at = time.monotonic()
        self._progress(
            TrainingProgress(
                stage="fine-tune",
                step=self._step,
                steps=self._steps,
                epoch=epoch,
                epochs=len(self._epochs),
                figures=figures,
            )
        )

    # Checkpoints

    def _checkpoint_if_due(self) -> None:
        if self._checkpoints is None or not self._compute.leads:
            return
        every = self._settings.checkpoint_steps
        due = time.monotonic() - self._saved_at >= self._settings.checkpoint_seconds
        if not due and not (every and self._step % every == 0):
            return
        try:
            self._checkpoints.save(self._step, self._tensors(), self._state())
        except CheckpointError as error:
            self._progress(TrainingProgress(stage="checkpoint", notice=f"{error}; training goes on without it"))
        self._saved_at = time.monotonic()

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"weight.{name}": tensor for name, tensor in self._learned.items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self._best_weights.items()}
        for number, values in self._optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{name}": value for name, value in values.items()}
        return tensors

    def _state(self) -> dict[str, Any]:
        return {
            "step": self._step,
            "losses": self._losses,
            "history": [asdict(record) for record in self._history],
            "best": self._best,
            "best_epoch": self._best_epoch,
            "worse": self._worse,
        }

    def _resume(self) -> int:
        if self._checkpoints is None:
            return 0
        saved, reasons = self._checkpoints.latest()
        if self._compute.leads:
            for reason in reasons:
                self._progress(TrainingProgress(stage="checkpoint", notice=f"{reason}; it is not used"))
        if saved is None:
            return 0
        self._load(saved)
        if self._compute.leads:
            notice = f"goes on after step {self._step} of {self._steps}"
            self._progress(TrainingProgress(stage="checkpoint", step=self._step, steps=self._steps, notice=notice))
        return self._step

    def _load(self, saved: SavedState) -> None:
        weights = {
            name.removeprefix("weight."): one for name, one in saved.tensors.items() if name.startswith("weight.")
        }
        self._restore(weights)
        self._best_weights = {
            name.removeprefix("best."): one.to(self._compute.device)
            for name, one in saved.tensors.items()
            if name.startswith("best.")
        }
        own = self._optimiser.state_dict()
        state: dict[int, dict[str, Tensor]] = {}
        for name, one in saved.tensors.items():
            if name.startswith("optimiser."):
                _, number, key = name.split(".", 2)
                state.setdefault(int(number), {})[key] = one
        self._optimiser.load_state_dict({"state": state, "param_groups": own["param_groups"]})
        values = saved.state
        self._step = int(values["step"])
        self._losses = [float(one) for one in values["losses"]]
        self._history = [EpochRecord(**record) for record in values["history"]]
        self._best = None if values["best"] is None else tuple(float(one) for one in values["best"])
        self._best_epoch = values["best_epoch"]
        self._worse = int(values["worse"])

    def _restore(self, weights: Mapping[str, Tensor]) -> None:
        import torch

        with torch.no_grad():
            for name, tensor in self._learned.items():
                tensor.copy_(weights[name])


def _own_random_state() -> Any:  # noqa: ANN401 - torch gives its context managers no type
    """Return a context that leaves torch's global random state as it was."""
    import torch

    return torch.random.fork_rng(devices=range(torch.cuda.device_count()))
