"""The training loop that all models share: steps, schedule, early stopping, best weights, checkpoints, workers.

A model brings an `Objective`: what learns, which batches an epoch has, the loss of a batch, and how good it is on
validation. Two runs of one objective with one seed give the same weights on a CPU, and so does a run that was killed
and goes on from its checkpoint: batches depend on seed and epoch, dropout on seed and step, and nothing else is drawn.

Beside the weights that learn it keeps, in memory and in each checkpoint, AdamW's two moments and the best epoch's
weights: four times the size of what learns (and gradients, in memory), so 16 bytes a parameter in a checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mangaassist_assets.training.checkpoints import CheckpointError, Checkpoints, CheckpointUnusableError, SavedState
from mangaassist_assets.training.compute import Compute
from mangaassist_assets.training.objective import (
    EpochRecord,
    LoopResult,
    LoopSettings,
    Objective,
    ProgressCallback,
    TrainingProgress,
)

if TYPE_CHECKING:
    from torch import Tensor

_REPORT_SECONDS = 2.0


class TrainingDivergedError(RuntimeError):
    """The loss or the validation is not finite any more; the message says when, and what to change."""


class NothingToLearnError(ValueError):
    """An epoch or a batch without examples; the message says which."""


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
        progress: Called with every epoch, and about steps every two seconds, by worker 0.
        compute: Device and workers; None takes what there is.
        checkpoints: Where to go on from and what to write; None writes none.

    Raises:
        TrainingDivergedError: The loss became infinite or NaN, or the validation's score NaN.
        NothingToLearnError: An epoch has no batch, or a batch no example.
        CheckpointUnusableError: The workers see different checkpoints.
    """
    loop = _Loop(objective, settings, compute or Compute.detect(), progress, checkpoints)
    with _own_random_state():
        return loop.run()


def learning_rate_factor(step: int, steps: int, *, warmup: float) -> float:
    """Return the share of the peak rate at a step counted from 0: up in a line, then down in a line towards zero."""
    rising = warmup * steps
    rise = (step + 1) / rising if rising else 1.0
    fall = (steps - step) / (steps - rising) if steps > rising else 1.0
    return min(1.0, rise, fall)


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
        if len(self._learned) != sum(len(group.parameters) for group in self._groups):
            raise ValueError("two parameter groups have a parameter of the same name: a checkpoint would lose one")
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
        for epoch, batches in enumerate(self._epochs, start=1):
            if not batches or not all(len(batch) for batch in batches):
                raise NothingToLearnError(
                    f"epoch {epoch} has {'an empty batch' if batches else 'no batches'}: are there training examples?"
                )
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
        self._saved_at = self._reported_at = time.monotonic()

    def run(self) -> LoopResult:
        resumed_from = self._resume()
        self._compute.follow_lead(list(self._learned.values()))
        first, done = self._place()
        stopped = self._worse >= self._settings.patience
        for epoch in range(first, len(self._epochs) + 1):
            begun = done > 0  # and not ended, where the training was killed while it validated
            if stopped or (self._step >= self._steps and not begun):
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
        for tensor in self._learned.values():
            if tensor.grad is None:  # AdamW would pass over it, with one worker but not with two
                tensor.grad = torch.zeros_like(tensor)
        self._compute.sum_over_workers([tensor.grad for tensor in self._learned.values() if tensor.grad is not None])
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
        if self._compute.leads and time.monotonic() - self._reported_at >= _REPORT_SECONDS:
            self._report(0, {"training_loss": value, "samples_per_second": self._samples / self._seconds})

    def _set_rates(self) -> None:
        factor = learning_rate_factor(self._step, self._steps, warmup=self._settings.warmup)
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
            validation={name: float(value) for name, value in validation.figures.items()} if validation else {},
        )
        self._history.append(record)
        if validation is not None:
            score = tuple(float(one) for one in validation.score)
            if any(math.isnan(one) for one in score):
                raise TrainingDivergedError(
                    f"the validation after epoch {epoch} of {len(self._epochs)} is NaN: lower the learning rate"
                )
            if self._compute.agreed(self._best is None or score > self._best):
                self._best, self._best_epoch, self._worse = score, epoch, 0
                self._best_weights = {name: tensor.detach().clone() for name, tensor in self._learned.items()}
            else:
                self._worse += 1
        if self._compute.leads:
            self._report(epoch, {"training_loss": record.training_loss, **record.validation})

    def _report(self, epoch: int, figures: Mapping[str, float]) -> None:
        self._reported_at = time.monotonic()
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
        if saved is not None and not self._fits(saved):
            reasons = (*reasons, f"the checkpoint of step {saved.step} holds other weights than are trained now")
            saved = None
        if self._compute.leads:
            for reason in reasons:
                self._progress(TrainingProgress(stage="checkpoint", notice=f"{reason}; it is not used"))
        if self._compute.differ(0 if saved is None else saved.step):
            raise CheckpointUnusableError(
                f"worker {self._compute.rank} would go on after step {saved.step if saved else 0}, others elsewhere: "
                "give all workers one folder of checkpoints"
            )
        if saved is None:
            return 0
        self._load(saved)
        if self._compute.leads:
            notice = f"goes on after step {self._step} of {self._steps}"
            self._progress(TrainingProgress(stage="checkpoint", step=self._step, steps=self._steps, notice=notice))
        return self._step

    def _fits(self, saved: SavedState) -> bool:
        """Whether a checkpoint is of this model: code may have changed since it was written."""
        stored = {name: one.shape for name, one in _named(saved, "weight").items()}
        return stored == {name: tensor.shape for name, tensor in self._learned.items()} and saved.state.keys() == (
            self._state().keys()
        )

    def _load(self, saved: SavedState) -> None:
        self._restore(_named(saved, "weight"))
        self._best_weights = {name: one.to(self._compute.device) for name, one in _named(saved, "best").items()}
        state: dict[int, dict[str, Tensor]] = {}
        for name, one in _named(saved, "optimiser").items():
            number, key = name.split(".", 1)
            state.setdefault(int(number), {})[key] = one
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": state, "param_groups": groups})
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


def _named(saved: SavedState, kind: str) -> dict[str, Tensor]:
    """Return the tensors of one kind, `weight`, `best` or `optimiser`, under their own names."""
    return {name.removeprefix(f"{kind}."): one for name, one in saved.tensors.items() if name.startswith(f"{kind}.")}


def _own_random_state() -> Any:  # noqa: ANN401 - torch gives its context managers no type
    """Return a context that leaves torch's global random state as it was."""
    import torch

    return torch.random.fork_rng(devices=list(range(torch.cuda.device_count())))
