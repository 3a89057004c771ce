"""What runs training functions, here or on workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from mangaassist_assets.training.objective import ProgressCallback

ResultT = TypeVar("ResultT")


class Trainer(Protocol):
    """Where training functions run."""

    def run(self, job: Callable[[ProgressCallback], ResultT], *, progress: ProgressCallback) -> ResultT:
        """Run a training function, here or in other processes, and return its result."""
