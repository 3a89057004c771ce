"""Where training functions run: in the process that asks, or on the workers of a Ray cluster."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import dagster as dg
from pydantic import Field

if TYPE_CHECKING:
    from mangaassist_assets.training.objective import ProgressCallback
    from resources.ray.ray_training import Scale

ResultT = TypeVar("ResultT")


class TrainerResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Runs one training function, alike wherever that is.

    The function is the same in either case: `Compute.detect()` finds out whether it is one of several workers. What it
    writes, artifact and checkpoints, it writes from worker 0, to folders that all workers see.
    """

    backend: Literal["in_process", "ray"] = Field(
        default="in_process",
        description="in_process trains in the process that asks; ray trains in `workers` processes of a Ray cluster.",
    )
    workers: int = Field(default=2, ge=1, le=1024, description="Ray: how many workers share each batch.")
    cpus_per_worker: float = Field(default=1.0, gt=0, description="Ray: CPUs, and so threads, of one worker.")
    gpus_per_worker: float = Field(default=0.0, ge=0, description="Ray: GPUs of one worker; more than 0 takes NCCL.")
    # A resource of dagster-ray, or none; Dagster reads the dependency off the annotation, which takes no `| None`.
    cluster: dg.ResourceDependency[Any] = None  # type: ignore[assignment]
    address: str = Field(
        default="",
        description="Ray: address of a cluster. Empty for the one that `cluster`, a resource of dagster-ray, has made "
        "and is connected to; without that one of its own, whose servers listen on 127.0.0.1 alone and which ends "
        "with the training.",
    )
    restarts: int = Field(
        default=2, ge=0, le=100, description="Ray: how often training begins again after a worker was lost."
    )
    storage: str = Field(
        default="",
        description="Ray: folder or URL for what Ray Train itself notes down. On several machines it must be one "
        "that all of them see, and so must be the folders of artifact and checkpoints.",
    )
    temporary_folder: str = Field(
        default="",
        description="Ray: folder for sockets and logs of a cluster of its own, removed afterwards; empty for the "
        "system's temporary folder.",
    )

    def run(self, job: "Callable[[ProgressCallback], ResultT]", *, progress: "ProgressCallback") -> ResultT:
        """Run a training function and return its result, worker 0's where there are several.

        Args:
            job: Is called once in this process, or once in every worker, with a function to report to. For Ray it must
                be such that it can be sent to another process: values in it, no open files, clients or contexts.
            progress: Gets the reports while it trains, in the thread of the caller.

        Raises:
            RayTrainingError: Ray is not installed, cannot be reached, or lost its workers too often.
            Exception: What the function raised.
        """
        if self.backend == "in_process":
            return job(progress)
        from resources.ray.ray_training import RayTrainingError, run_on_workers

        if find_spec("ray") is None:
            raise RayTrainingError("ray is not installed: install mangaassist-assets[ray]")
        scale = self._scale()
        with self._cluster(scale) as storage:
            return run_on_workers(job, scale=scale, storage=self.storage or storage or "", progress=progress)

    def _scale(self) -> "Scale":
        from resources.ray.ray_training import Scale

        return Scale(
            workers=self.workers,
            cpus_per_worker=self.cpus_per_worker,
            gpus_per_worker=self.gpus_per_worker,
            restarts=self.restarts,
        )

    def _cluster(self, scale: "Scale") -> AbstractContextManager[str | None]:
        from resources.ray.ray_training import RayTrainingError, connected_to, is_connected, local_cluster

        if is_connected():
            return nullcontext()
        if self.cluster is not None:
            raise RayTrainingError("the Ray cluster is not connected: leave `lifecycle.connect` of its resource on")
        return connected_to(self.address) if self.address else local_cluster(scale, folder=self.temporary_folder)
