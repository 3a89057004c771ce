"""Where a training runs: in this process."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import dagster as dg

if TYPE_CHECKING:
    from mangaassist_assets.learning.progress import ProgressCallback

T = TypeVar("T")


class TrainerResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Runs training functions."""

    def run(self, job: "Callable[[ProgressCallback], T]", *, progress: "ProgressCallback") -> T:
        """Run a training and return what it returns."""
        return job(progress)
