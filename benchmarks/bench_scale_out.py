"""What it costs and brings to train on several workers, and what the training loop itself costs. JSON lines.

- `scale-out`: steps a second of three layers of MiniLM's shape and a head, by one process with as many threads
  as there are workers, and by Ray workers of one thread each, which share every batch. Both are measured in turn inside
  the same Ray job; the other workers wait meanwhile. `communication` is the share of a worker's step that it spends in
  the exchange of gradients, waiting for the slowest worker included. `start` is how long Ray took from nothing to the
  first step. The best round of each counts. The baseline is the single process: `ratio` is ours over it.
- `loop`: microseconds a step that the training loop takes beyond a bare loop of the same operations, on a model that
  costs next to nothing, without checkpoints. The best of several turns of each counts.

On two cores scale-out hardly pays: both ways have the same two cores, and one of them sends gradients around.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mangaassist_assets.training.compute import Compute  # noqa: E402
from mangaassist_assets.training.loop import (  # noqa: E402
    LoopSettings,
    ParameterGroup,
    Validation,
    run_training_loop,
)
from mangaassist_assets.training.objective import ProgressCallback, ignore_progress  # noqa: E402

if TYPE_CHECKING:
    from torch import Tensor

DIM, HEADS, HIDDEN, LAYERS, CLASSES = 384, 12, 1536, 3, 64


class TransformerObjective:
    """Three layers of MiniLM's shape and a head, on drawn token states; learns nothing worth knowing."""

    def __init__(self, *, steps: int, batch: int, tokens: int) -> None:
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layer = torch.nn.TransformerEncoderLayer(DIM, HEADS, HIDDEN, batch_first=True, activation="gelu")
            self._layers = torch.nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
            self._head = torch.nn.Linear(DIM, CLASSES)
            self._states = torch.randn(4 * batch, tokens, DIM)
            self._answers = torch.randint(CLASSES, (4 * batch,))
        self._steps, self._batch = steps, batch

    def parameter_groups(self) -> list[ParameterGroup]:
        """Layers and head."""
        layers = {f"layers.{name}": one for name, one in self._layers.named_parameters()}
        head = {f"head.{name}": one for name, one in self._head.named_parameters()}
        return [ParameterGroup(parameters=layers | head, learning_rate=1e-4, weight_decay=0.01)]

    def batches(self, epoch: int) -> list[list[int]]:
        """As many as asked for, of the same size."""
        examples = len(self._answers)
        return [[(epoch + step + one) % examples for one in range(self._batch)] for step in range(self._steps)]

    def normaliser(self, batch: Sequence[int]) -> float:
        """The number of examples."""
        return float(len(batch))

    def loss(self, share: Sequence[int]) -> Tensor:
        """Cross-entropy of the mean state, summed."""
        from torch.nn import functional

        chosen = list(share)
        logits = self._head(self._layers(self._states[chosen]).mean(dim=1))
        return functional.cross_entropy(logits, self._answers[chosen], reduction="sum")

    def train_mode(self, *, training: bool) -> None:
        """Dropout on or off."""
        self._layers.train(training)

    def validate(self) -> Validation | None:
        """Nothing: only steps are timed."""
        return None


EXCHANGES: list[float] = []


class TimedCompute(Compute):
    """Notes how long the exchange of gradients takes."""

    def sum_over_workers(self, tensors: Sequence[Tensor]) -> None:
        """As before, timed."""
        started = time.perf_counter()
        Compute.sum_over_workers(self, tensors)
        EXCHANGES.append(time.perf_counter() - started)


def timed_training(compute: Compute, *, steps: int, batch: int, tokens: int) -> float:
    """Return the seconds of so many steps."""
    objective = TransformerObjective(steps=steps, batch=batch, tokens=tokens)
    return run_training_loop(
        objective, LoopSettings(epochs=1), progress=ignore_progress, compute=compute
    ).training_seconds


def scale_out(*, workers: int, rounds: int, steps: int, batch: int, tokens: int) -> dict[str, Any]:
    """Train alone and together in turn, in one Ray job."""
    from resources.ray.trainers import TrainerResource

    started = time.time()

    def job(progress: ProgressCallback) -> dict[str, Any]:
        import torch
        from torch import distributed

        del progress
        first_step = time.time()
        together = TimedCompute.detect()
        alone_seconds, together_seconds, exchange_seconds = [], [], []
        for number in range(rounds + 1):  # the first warms up
            distributed.barrier()
            torch.set_num_threads(1)
            EXCHANGES.clear()
            seconds = timed_training(together, steps=steps, batch=batch, tokens=tokens)
            exchanged = sum(EXCHANGES)
            distributed.barrier()
            if together.leads:
                torch.set_num_threads(workers)
                alone = timed_training(Compute(), steps=steps, batch=batch, tokens=tokens)
                if number:
                    alone_seconds.append(alone)
                    together_seconds.append(seconds)
                    exchange_seconds.append(exchanged)
        distributed.barrier()
        return {
            "first_step": first_step,
            "alone": alone_seconds,
            "together": together_seconds,
            "exchange": exchange_seconds,
        }

    measured = TrainerResource(backend="ray", workers=workers, restarts=0).run(job, progress=ignore_progress)
    alone, together = (steps / min(measured[name]) for name in ("alone", "together"))
    shares = [one / of for one, of in zip(measured["exchange"], measured["together"], strict=True)]
    return {
        "benchmark": "scale-out",
        "workers": workers,
        "batch": batch,
        "tokens": tokens,
        "rounds": rounds,
        "steps_per_second": round(together, 2),
        "baseline_steps_per_second": round(alone, 2),
        "ratio": round(together / alone, 2),
        "communication": round(statistics.median(shares), 2),
        "start_seconds": round(measured["first_step"] - started, 1),
        "end_to_end_seconds": round(time.time() - started, 1),
    }


def loop_overhead(*, turns: int, steps: int) -> dict[str, Any]:
    """Compare the loop with what is left when one writes it down for one model."""
    import torch

    from tests.support.tiny_objective import TinyObjective

    def bare() -> float:
        objective = TinyObjective(examples=6 * steps)
        groups = objective.parameter_groups()
        optimiser = torch.optim.AdamW(
            [{"params": list(one.parameters.values()), "lr": one.learning_rate} for one in groups]
        )
        clipped = [tensor for one in groups if one.clipped for tensor in one.parameters.values()]
        objective.train_mode(training=True)
        batches = objective.batches(1)
        started = time.perf_counter()
        for batch in batches:
            optimiser.zero_grad()
            loss = objective.loss(batch) / objective.normaliser(batch)
            loss.backward()
            loss.item()
            torch.nn.utils.clip_grad_norm_(clipped, 1.0)
            optimiser.step()
        return (time.perf_counter() - started) / steps

    def ours() -> float:
        objective = TinyObjective(examples=6 * steps)
        return run_training_loop(objective, LoopSettings(epochs=1), progress=ignore_progress).training_seconds / steps

    torch.set_num_threads(1)
    bare(), ours()
    pairs = [(bare(), ours()) for _ in range(turns)]
    best_bare, best_ours = (min(one) * 1e6 for one in zip(*pairs, strict=True))
    return {
        "benchmark": "loop",
        "steps": steps,
        "turns": turns,
        "microseconds_per_step": round(best_ours),
        "baseline_microseconds_per_step": round(best_bare),
        "overhead_microseconds": round(best_ours - best_bare),
    }


def main() -> None:
    """Print one JSON line for each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=24)
    options = parser.parse_args()
    print(json.dumps(loop_overhead(turns=7, steps=400)), flush=True)
    measured = scale_out(
        workers=options.workers,
        rounds=options.rounds,
        steps=options.steps,
        batch=options.batch,
        tokens=options.tokens,
    )
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
