"""One training function on several Ray workers: they form a process group, and all of them run it.

The caller waits for two things at once: the end of the training, and the next report of worker 0. Reports go through
an actor of our own and not through `ray.train.report`, which waits for *all* workers and carries only numbers; nor
through `ray.util.queue`, which would have to be asked again and again. `TorchTrainer.fit` runs in a task of the
cluster: the caller's thread stays free for reports and keeps its signal handlers.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from pickle import PicklingError  # Ray sends the job; this is what it raises
from typing import Any, TypeVar

from mangaassist_assets.training.compute import WorkerLostError
from mangaassist_assets.training.objective import ProgressCallback, TrainingProgress, ignore_progress

ResultT = TypeVar("ResultT")
Job = Callable[[ProgressCallback], ResultT]
_Report = TrainingProgress | Exception | None

_LOOPBACK = "127.0.0.1"
# The one switch that lets Ray keep to that interface, on any system; on Linux it takes the first other one without it.
_LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
_ANSWER_SECONDS = 10.0
_OBJECT_STORE_BYTES = 256 * 2**20
# Ray puts `session_2026-11-21_21-04-00_496531_21772/sockets/plasma_store.1` under it; a socket's path ends at 107.
_LONGEST_FOLDER = 40


class RayTrainingError(RuntimeError):
    """Training on Ray failed for a reason that is none of the training function's own; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How many workers train together, with what, and how often they may be lost."""

    workers: int
    cpus_per_worker: float
    gpus_per_worker: float
    restarts: int


def run_on_workers(job: Job[ResultT], *, scale: Scale, storage: str = "", progress: ProgressCallback) -> ResultT:
    """Run a job in every worker of the Ray cluster that this process is connected to; return worker 0's result.

    When a worker is lost, all begin again, at most `scale.restarts` times: a job that keeps checkpoints where all
    workers see them goes on from the newest.

    Args:
        job: What to run.
        scale: With how many workers.
        storage: Where Ray Train itself notes things down; empty for a folder that only one machine sees.
        progress: Gets the reports of worker 0.

    Raises:
        RayTrainingError: Workers were lost too often, or job or error cannot be sent from process to process.
        Exception: What the job itself raised in a worker, with a note that says where; it is not tried again.
    """
    import ray

    mailbox: Any = ray.remote(num_cpus=0)(_Mailbox).remote()
    fit: Any = ray.remote(num_cpus=0, max_retries=0)(_fit)
    try:
        ended = fit.remote(job, mailbox, scale, storage)
    except (TypeError, PicklingError) as error:
        raise RayTrainingError(f"the training cannot be sent to Ray workers: {_first_line(error)}") from error
    try:
        _deliver(mailbox, ended, progress)
        result: ResultT = ray.get(ended)
    except ray.exceptions.RayError as error:
        raise RayTrainingError(
            f"training on {scale.workers} Ray workers failed, begun again {scale.restarts} times: {_what_failed(error)}"
        ) from error
    else:
        return result
    finally:
        ray.cancel(ended, force=True)
        ray.kill(mailbox)


def _deliver(mailbox: Any, ended: Any, progress: ProgressCallback) -> None:  # noqa: ANN401 - Ray's handles
    """Hand reports to the caller's function, in the caller's thread, until training has ended and none is left.

    Raises:
        Exception: What the job raised. Ray would begin again, whatever went wrong, only to meet it again.
    """
    import ray

    closed = False
    while not closed:
        reports = mailbox.take.remote()
        ready, _ = ray.wait([reports, ended], num_returns=1)
        if reports not in ready:
            ray.get(mailbox.close.remote())
        for report in ray.get(reports):
            if isinstance(report, Exception):
                raise report
            if report is None:
                closed = True
            else:
                progress(report)


class _Mailbox:
    """The actor between workers and caller: keeps what the workers say until the caller takes it."""

    def __init__(self) -> None:
        self._reports: asyncio.Queue[_Report] = asyncio.Queue()
        self._begun = 0

    async def begin(self) -> int:
        """Return how often worker 0 has begun, this time included."""
        self._begun += 1
        return self._begun

    async def tell(self, report: _Report) -> None:
        """Keep a report."""
        self._reports.put_nowait(report)

    async def close(self) -> None:
        """Say that no report comes after those that are here."""
        self._reports.put_nowait(None)

    async def take(self) -> list[_Report]:
        """Wait for a report, and return all there are; None is the end."""
        reports = [await self._reports.get()]
        while not self._reports.empty():
            reports.append(self._reports.get_nowait())
        return reports


def _fit(job: Job[ResultT], mailbox: Any, scale: Scale, storage: str) -> ResultT:  # noqa: ANN401 - Ray's handle
    """Train, in a task of the cluster."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"  # relative paths of the job keep their meaning
    os.environ["RAY_TRAIN_METRICS_ENABLED"] = "0"

    def train() -> ResultT | None:
        return _in_worker(job, mailbox)

    resources = {"CPU": scale.cpus_per_worker}
    if scale.gpus_per_worker:
        resources["GPU"] = scale.gpus_per_worker
    torch_trainer: Any = TorchTrainer  # typed for functions that return nothing, which is not what it says
    with nullcontext(storage) if storage else tempfile.TemporaryDirectory(prefix="ray-") as notes:
        trainer = torch_trainer(
            train,
            scaling_config=ScalingConfig(
                num_workers=scale.workers, use_gpu=scale.gpus_per_worker > 0, resources_per_worker=resources
            ),
            run_config=RunConfig(
                name="training",
                storage_path=notes,
                failure_config=FailureConfig(max_failures=scale.restarts),
            ),
        )
        result: ResultT = trainer.fit().return_value
    return result


def _in_worker(job: Job[ResultT], mailbox: Any) -> ResultT | None:  # noqa: ANN401 - Ray's handle
    import ray
    from ray import train

    rank = train.get_context().get_world_rank()
    leads = rank == 0

    def tell(report: TrainingProgress) -> None:
        ray.get(mailbox.tell.remote(report))

    if leads and (begun := ray.get(mailbox.begin.remote())) > 1:
        tell(TrainingProgress(stage="workers", notice=f"a worker was lost: training begins for the {begun}. time"))
    try:
        result = job(tell if leads else ignore_progress)
    except WorkerLostError:
        raise
    except Exception as error:
        ray.get(mailbox.tell.remote(_sendable(error, rank)))
        raise
    return result if leads else None


def _sendable(error: Exception, rank: int) -> Exception:
    """Return an error as itself where it survives the way to another process, else by name and message."""
    from ray import cloudpickle

    try:
        copied = cloudpickle.loads(cloudpickle.dumps(error))  # type: ignore[no-untyped-call]
    except (TypeError, AttributeError, ValueError):
        copied = None
    if type(copied) is not type(error) or str(copied) != str(error):
        named = RayTrainingError(f"{type(error).__name__} in worker {rank}: {error}")
        error = named.with_traceback(error.__traceback__)
    place, trace = "", error.__traceback__
    while trace is not None:
        place, trace = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}", trace.tb_next
    error.add_note(f"raised on Ray worker {rank}, at {place}")
    return error


def _what_failed(error: Exception) -> str:
    """Return which workers were lost to what, or what else went wrong."""
    failures: Mapping[int, Exception] = getattr(getattr(error, "cause", error), "worker_failures", {})
    if not failures:
        return _first_line(error)
    return "; ".join(f"worker {rank}: {_first_line(one)}" for rank, one in sorted(failures.items()))


def _first_line(error: Exception) -> str:
    """Return what an error says, without the traceback and the paths of this machine that Ray puts into messages."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0] if lines else ''}"[:300]


@contextmanager
def local_cluster(scale: Scale, *, folder: str = "") -> Iterator[str]:
    """Run a Ray cluster of this process's own, which only this machine can reach; it ends with the context.

    What torch's workers meet at, its TCPStore, listens on every interface while they train: torch has no switch for it.
    Gives a folder for `storage`, which is removed with the rest.

    Args:
        scale: How much of CPU and GPU it says it has.
        folder: Where Ray keeps sockets and logs meanwhile; empty for the system's temporary folder.

    Raises:
        RayTrainingError: Ray would listen to other machines: it was imported earlier, with other settings.
    """
    with _temporary_folder(folder) as sockets, _environment(_local_environment()):
        import ray
        from ray._private import ray_constants

        if ray_constants.ENABLE_RAY_CLUSTER:
            raise RayTrainingError(
                f"Ray was imported before {__name__} could keep it to {_LOOPBACK}: set {_LOOPBACK_SWITCH}=0 and "
                "RAY_AUTH_MODE=token before the process starts, or connect to a cluster"
            )
        try:
            ray.init(
                address="local",
                num_cpus=max(1, math.ceil(scale.workers * scale.cpus_per_worker)),
                num_gpus=math.ceil(scale.workers * scale.gpus_per_worker) or None,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
                object_store_memory=_OBJECT_STORE_BYTES,
                _node_ip_address=_LOOPBACK,
                _temp_dir=str(sockets),
            )
            yield str(sockets / "train")
        finally:
            ray.shutdown()


@contextmanager
def connected_to(address: str) -> Iterator[None]:
    """Be connected to a cluster that is there.

    Raises:
        RayTrainingError: Nothing answers at the address.
    """
    _check_answers(address)
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, ray.exceptions.RayError) as error:
        raise RayTrainingError(f"there is no Ray cluster at {address!r}: {_first_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Refuse an address where nothing listens: Ray itself would try it for many minutes."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not (separator and port.isdecimal()):
        return  # `auto` and the like: Ray's to find out
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise RayTrainingError(f"there is no Ray cluster at {address!r}: {error}") from error


def is_connected() -> bool:
    """Return whether this process is connected to a Ray cluster, without importing Ray."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


@cache
def _token() -> str:
    """Return what processes of the local cluster show each other; Ray reads it once a process."""
    return os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32)


def _local_environment() -> dict[str, str]:
    return {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": _token(),  # without it Ray writes one into the home folder
        _LOOPBACK_SWITCH: "0",
        "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0",
    }


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _temporary_folder(folder: str) -> Iterator[Path]:
    """Make an empty folder under another; where that has too long a name for sockets, a short link to it."""
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="ray-", dir=folder or None)).resolve()
    link = None
    try:
        if len(str(made)) > _LONGEST_FOLDER:
            link = Path(tempfile.mkdtemp(prefix="ray-"))
            (link / "r").symlink_to(made)
        yield link / "r" if link else made
    finally:
        for one in (link, made):
            if one is not None:
                shutil.rmtree(one, ignore_errors=True)
