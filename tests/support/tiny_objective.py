"""The smallest thing that the training loop can train: a linear classifier with dropout, on drawn numbers.

Also trains by itself, as a process that a test may kill or starve of disk:
`python -m tests.support.tiny_objective FOLDER [--kill-at STEP] [--largest-file BYTES]`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mangaassist_assets.training.checkpoints import Checkpoints
from mangaassist_assets.training.compute import Compute
from mangaassist_assets.training.loop import run_training_loop
from mangaassist_assets.training.objective import (
    LoopResult,
    LoopSettings,
    ParameterGroup,
    ProgressCallback,
    TrainingProgress,
    Validation,
    ignore_progress,
)

if TYPE_CHECKING:
    from torch import Tensor

FEATURES, CLASSES = 6, 3


class TinyObjective:
    """Learns which of three drawn directions a point lies in.

    `scores`, when given, are what validation says, one an epoch; otherwise it looks. `before_loss` is called with the
    number of the loss, counted from 1, and may raise.
    """

    def __init__(
        self,
        *,
        examples: int = 20,
        batch: int = 6,
        dropout: float = 0.4,
        learning_rate: float = 0.05,
        scores: Sequence[float] | None = None,
        before_loss: Callable[[int], None] | None = None,
        before_validation: Callable[[], None] | None = None,
    ) -> None:
        import torch

        generator = np.random.default_rng(7)
        points = generator.standard_normal((examples + 30, FEATURES)).astype(np.float32)
        directions = generator.standard_normal((FEATURES, CLASSES)).astype(np.float32)
        device = Compute.detect().device
        self._points = torch.from_numpy(points).to(device)
        self._answers = torch.from_numpy((points @ directions).argmax(axis=1)).to(device)
        self._weights = torch.from_numpy(generator.uniform(0.5, 1.5, examples).astype(np.float32)).to(device)
        start = torch.from_numpy(generator.standard_normal((FEATURES, CLASSES)).astype(np.float32) * 0.1).to(device)
        self.weight = start.requires_grad_()
        self.bias = torch.zeros(CLASSES, device=device, requires_grad=True)
        self._examples, self._batch, self._dropout, self._learning_rate = examples, batch, dropout, learning_rate
        self._scores = scores
        self._before_loss = before_loss or (lambda _: None)
        self._before_validation = before_validation or (lambda: None)
        self.losses = self.validations = 0
        self.training = False

    def parameter_groups(self) -> list[ParameterGroup]:
        """A layer that is clipped, and a bias that is not and learns faster."""
        return [
            ParameterGroup(parameters={"weight": self.weight}, learning_rate=self._learning_rate, weight_decay=0.01),
            ParameterGroup(parameters={"bias": self.bias}, learning_rate=2 * self._learning_rate, clipped=False),
        ]

    def batches(self, epoch: int) -> list[list[int]]:
        """Shuffle by the epoch's number."""
        order = np.random.default_rng((3, epoch)).permutation(self._examples).tolist()
        return [order[start : start + self._batch] for start in range(0, len(order), self._batch)]

    def normaliser(self, batch: Sequence[int]) -> float:
        """The sum of the weights."""
        return float(self._weights[list(batch)].sum())

    def loss(self, share: Sequence[int]) -> Tensor:
        """Weighted cross-entropy, summed."""
        from torch.nn import functional

        self.losses += 1
        self._before_loss(self.losses)
        chosen = list(share)
        kept = functional.dropout(self._points[chosen], self._dropout, training=self.training)
        each = functional.cross_entropy(kept @ self.weight + self.bias, self._answers[chosen], reduction="none")
        return (each * self._weights[chosen]).sum()

    def train_mode(self, *, training: bool) -> None:
        """Remember it."""
        self.training = training

    def validate(self) -> Validation | None:
        """Accuracy on thirty other points, then the loss."""
        import torch
        from torch.nn import functional

        self.validations += 1
        self._before_validation()
        if self._scores is not None:
            score = self._scores[self.validations - 1]
            return Validation(score=(score,), figures={"validation_score": score})
        with torch.no_grad():
            logits = self._points[self._examples :] @ self.weight + self.bias
            answers = self._answers[self._examples :]
            accuracy = (logits.argmax(dim=1) == answers).float().mean().item()
            loss = functional.cross_entropy(logits, answers).item()
        return Validation(
            score=(round(accuracy, 6), -round(loss, 6)),
            figures={"validation_accuracy": accuracy, "validation_loss": loss},
        )

    def learned(self) -> bytes:
        """Every bit of what was learned."""
        parts = [tensor.detach().cpu().numpy().tobytes() for tensor in (self.weight, self.bias)]
        return b"".join(parts)


def outcome(objective: TinyObjective, result: LoopResult) -> dict[str, Any]:
    """What two trainings must have in common to be the same, as JSON values."""
    return {
        "weights": objective.learned().hex(),
        "losses": list(result.step_losses),
        "history": [[one.epoch, one.training_loss, dict(one.validation)] for one in result.history],
        "best_epoch": result.best_epoch,
        "stopped_early": result.stopped_early,
    }


def train_tiny(
    folder: Path | None,
    *,
    settings: LoopSettings | None = None,
    progress: ProgressCallback = ignore_progress,
    **of_objective: Any,
) -> dict[str, Any]:
    """Train one, with checkpoints in a folder, and return its outcome and how it came about."""
    objective = TinyObjective(**of_objective)
    result = run_training_loop(
        objective,
        settings or LoopSettings(epochs=3, checkpoint_steps=3),
        progress=progress,
        checkpoints=Checkpoints(folder, "tiny") if folder else None,
    )
    return outcome(objective, result) | {"resumed_from": result.resumed_from, "samples": result.samples}


def train_in_group(rank: int, workers: int, meeting: str, answers: str) -> None:
    """Join a gloo group and train in it; worker 0 and the others write what they saw, a file each."""
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=workers)
    folder = Path(answers)
    saw: dict[str, Any] = {}
    for name, of_objective in {"even": {"batch": 6}, "fewer than workers": {"batch": 1}}.items():
        told: list[TrainingProgress] = []
        checkpoints = folder / f"checkpoints of {rank} in {name}"
        objective = TinyObjective(examples=7, dropout=0.0, **of_objective)
        if rank:  # what worker 0 has counts
            objective.weight.data.add_(rank)
        result = run_training_loop(
            objective,
            LoopSettings(epochs=3, checkpoint_steps=2, patience=9),
            progress=told.append,
            checkpoints=Checkpoints(checkpoints, "tiny"),
        )
        saw[name] = outcome(objective, result) | {"told": len(told), "wrote": checkpoints.is_dir()}
    # Worker 0 has checkpoints by now and the other has none: they must not train apart.
    try:
        train_tiny(folder / f"checkpoints of {rank} in even", examples=7, dropout=0.0)
        saw["apart"] = "went on"
    except RuntimeError as error:
        saw["apart"] = str(error)
    (folder / f"{rank}.json").write_text(json.dumps(saw))
    distributed.destroy_process_group()


def main(arguments: Sequence[str]) -> None:
    """Train in a folder; print outcome and notices as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kill-at", type=int, default=0)
    parser.add_argument("--largest-file", type=int, default=0)
    options = parser.parse_args(arguments)

    def before_loss(number: int) -> None:
        if number == options.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    if options.largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.largest_file, options.largest_file))
    notices: list[str] = []
    trained = train_tiny(options.folder, progress=lambda one: notices.append(one.notice), before_loss=before_loss)
    sys.stdout.write(json.dumps({"trained": trained, "notices": [one for one in notices if one]}))


if __name__ == "__main__":
    main(sys.argv[1:])
