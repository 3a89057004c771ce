"""Where training computes: on which device, in which precision, and with how many workers.

Nothing else in the package asks for a GPU or for a process group: a training runs unchanged on one CPU, on a GPU, and
as one of several workers that Ray Train (or `torchrun`) has joined into a process group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class WorkerLostError(RuntimeError):
    """Another worker does not answer any more: this one cannot go on alone, but the training can begin again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """One worker's share of the machine.

    Attributes:
        device: `cpu` or `cuda`, as torch names it.
        rank: This worker's number, from 0. Only worker 0 writes checkpoints and reports.
        workers: How many workers train together.
    """

    device: str = "cpu"
    rank: int = 0
    workers: int = 1

    @classmethod
    def detect(cls) -> Compute:
        """Take a GPU where there is one, and the process group where this process belongs to one."""
        import torch
        from torch import distributed

        device = "cuda" if torch.cuda.is_available() else "cpu"
        if distributed.is_available() and distributed.is_initialized():
            return cls(device=device, rank=distributed.get_rank(), workers=distributed.get_world_size())
        return cls(device=device)

    @property
    def on_gpu(self) -> bool:
        """Whether bf16 and the fused optimiser are used; what a CPU gains by them depends on its instructions."""
        return self.device != "cpu"

    @property
    def leads(self) -> bool:
        """Whether this worker writes and reports."""
        return self.rank == 0

    def precision(self) -> AbstractContextManager[Any]:
        """Return the context in which losses are computed: bf16 on a GPU, float32 on a CPU."""
        import torch

        return torch.autocast(self.device, dtype=torch.bfloat16) if self.on_gpu else nullcontext()

    def share(self, batch: Sequence[int]) -> list[int]:
        """Return this worker's part of a batch that all workers know."""
        return list(batch[self.rank :: self.workers])

    def seed(self, seed: int, step: int) -> None:
        """Seed dropout for one step: what is drawn depends on seed, step and worker, not on what was drawn before.

        So a training that goes on from a checkpoint draws what it would have drawn.
        """
        import torch

        digest = hashlib.sha256(f"{seed}/{step}/{self.rank}".encode()).digest()
        number = int.from_bytes(digest[:7], "big")
        torch.default_generator.manual_seed(number)  # torch.manual_seed asks every kind of device: 300 times as long
        if self.on_gpu:
            torch.cuda.manual_seed(number)

    def sum_over_workers(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all workers, in one message."""
        if self.workers == 1:
            return
        import torch
        from torch import distributed

        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _all_answer():
            distributed.all_reduce(flat)
        sizes = [tensor.numel() for tensor in tensors]
        for tensor, part in zip(tensors, torch.split(flat, sizes), strict=True):
            tensor.copy_(part.view_as(tensor))

    def follow_lead(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by worker 0's: all start from the same weights, whatever each of them read or drew."""
        if self.workers == 1:
            return
        import torch
        from torch import distributed

        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        with _all_answer():
            distributed.broadcast(flat, src=0)
        with torch.no_grad():
            for tensor, part in zip(tensors, torch.split(flat, [one.numel() for one in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def differ(self, value: int) -> bool:
        """Return whether the workers have different numbers; all get the same answer."""
        if self.workers == 1:
            return False
        import torch
        from torch import distributed

        lowest_and_highest = torch.tensor([-value, value], device=self.device)
        with _all_answer():
            distributed.all_reduce(lowest_and_highest, op=distributed.ReduceOp.MAX)
        return bool((lowest_and_highest.sum() != 0).item())

    def agreed(self, value: bool) -> bool:  # noqa: FBT001 - the value is the message
        """Return worker 0's answer, so that all stop at the same step."""
        if self.workers == 1:
            return value
        import torch
        from torch import distributed

        answer = torch.tensor([int(value)], device=self.device)
        with _all_answer():
            distributed.broadcast(answer, src=0)
        return bool(answer.item())


@contextmanager
def _all_answer() -> Iterator[None]:
    """Name the error that the group raises when one of it is gone: torch's is a RuntimeError like any other."""
    try:
        yield
    except RuntimeError as error:
        raise WorkerLostError("another worker does not answer any more") from error
