"""The training loop on two workers of a local Ray cluster: the same result as in one process, come what may."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from mangaassist_assets.models.artifacts import verify_artifact
from mangaassist_assets.models.intent.training import IntentTrainingResult
from mangaassist_assets.training.compute import Compute
from mangaassist_assets.training.objective import LoopSettings, ProgressCallback, TrainingProgress, ignore_progress
from resources.ray.ray_training import RayTrainingError, Scale, local_cluster
from resources.ray.trainers import TrainerResource
from tests.support.intent_training import MESSAGES, QUICK, examples, train_on, validation
from tests.support.tiny_objective import train_tiny

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray` is not installed"),
]

SETTINGS = LoopSettings(epochs=3, checkpoint_steps=2)
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrainerResource, set[str]]]:
    """A trainer on a cluster that all tests share, and where that listens; afterwards nothing of it is left."""
    folder = tmp_path_factory.mktemp("of-ray")
    scale = Scale(workers=2, cpus_per_worker=1.0, gpus_per_worker=0.0, restarts=1)
    home_had = (Path.home() / ".ray").exists()
    others = set(psutil.Process().children(recursive=True))
    with local_cluster(scale, folder=str(folder)) as storage:
        yield TrainerResource(backend="ray", workers=2, restarts=1, storage=storage), listening()
        started = set(psutil.Process().children(recursive=True)) - others
    _, alive = psutil.wait_procs(started, timeout=10)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
    assert list(folder.iterdir()) == []
    assert (Path.home() / ".ray").exists() == home_had


@pytest.fixture
def trainer(cluster: tuple[TrainerResource, set[str]]) -> TrainerResource:
    """The trainer."""
    return cluster[0]


def listening() -> set[str]:
    """Return the addresses on which this process and those that it started listen."""
    return {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]
        if process.is_running()
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }


def training(
    folder: Path, at_loss: Callable[[int, ProgressCallback], None] | None = None
) -> Callable[[ProgressCallback], Any]:
    """Return a job that trains, and writes an artifact from worker 0."""

    def job(progress: ProgressCallback) -> dict[str, Any]:
        compute = Compute.detect()
        (folder / f"pid of {compute.rank}").write_text(str(os.getpid()))
        trained = train_tiny(
            folder / "checkpoints",
            settings=SETTINGS,
            progress=progress,
            dropout=0.0,
            before_loss=(lambda loss: at_loss(loss, progress)) if at_loss else None,
        )
        if compute.leads:
            (folder / f"artifact of {compute.rank} of {compute.workers}").write_text(trained["weights"])
        return trained | {"threads": os.environ["OMP_NUM_THREADS"]}

    return job


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    np.testing.assert_allclose(one["losses"], other["losses"], rtol=0, atol=TOLERANCE)
    weights = [np.frombuffer(bytes.fromhex(each["weights"]), np.float32) for each in (one, other)]
    np.testing.assert_allclose(*weights, rtol=0, atol=TOLERANCE)
    assert one["best_epoch"] == other["best_epoch"]


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """What one process comes to."""
    return train_tiny(None, settings=SETTINGS, dropout=0.0)


def test_two_workers_one_of_them_killed_halfway_come_to_what_one_process_does(
    trainer: TrainerResource, alone: dict[str, Any], tmp_path: Path
) -> None:
    first = tmp_path / "first attempt"
    first.touch()

    def wait_to_be_killed(loss: int, progress: ProgressCallback) -> None:
        if loss == 8 and first.exists():
            if not Compute.detect().leads:
                threading.Event().wait(60)
            progress(TrainingProgress(stage="at step 8"))

    told: list[TrainingProgress] = []

    def kill_the_other(progress: TrainingProgress) -> None:
        assert threading.current_thread() is threading.main_thread()
        told.append(progress)
        if progress.stage == "at step 8":
            first.unlink()
            os.kill(int((tmp_path / "pid of 1").read_text()), signal.SIGKILL)

    trained = trainer.run(training(tmp_path, wait_to_be_killed), progress=kill_the_other)
    assert not first.exists()
    assert trained["resumed_from"] == 6
    assert trained["threads"] == "1"
    assert_same(trained, alone)
    said = [one.notice or one.epoch or one.stage for one in told]
    assert [one for one in said if one != "fine-tune"] == [  # which is told every two seconds
        1,
        "at step 8",
        "a worker was lost: training begins for the 2. time",
        "goes on after step 6 of 12",
        2,
        3,
    ]
    assert [one.name for one in tmp_path.glob("artifact*")] == ["artifact of 0 of 2"]


def test_the_intent_classifier_of_two_workers_is_as_good_as_that_of_one(
    trainer: TrainerResource, tmp_path: Path
) -> None:
    def job_writing_to(output: Path) -> Callable[[ProgressCallback], IntentTrainingResult]:
        def job(progress: ProgressCallback) -> IntentTrainingResult:
            return train_on(examples(MESSAGES), validation(4), config=QUICK, output=output, progress=progress)

        return job

    told: list[TrainingProgress] = []
    together = trainer.run(job_writing_to(tmp_path / "together" / "model"), progress=told.append)
    alone = TrainerResource().run(job_writing_to(tmp_path / "alone" / "model"), progress=ignore_progress)

    assert [one.epoch for one in told if one.epoch] == [one.epoch for one in alone.history]
    assert [one.name for one in (tmp_path / "together").iterdir()] == ["model"]
    assert verify_artifact(together.directory) == together.digest
    assert together.intents == alone.intents
    assert together.metrics["validation_accuracy"] == alone.metrics["validation_accuracy"]
    # Each worker draws its own dropout, of units and of tokens, so losses are near each other and no more.
    np.testing.assert_allclose(together.step_losses, alone.step_losses, rtol=0.4)


def test_an_error_of_the_training_comes_back_as_itself_and_is_not_tried_again(
    trainer: TrainerResource, tmp_path: Path
) -> None:
    def job(progress: ProgressCallback) -> None:
        with (tmp_path / "begun").open("a") as file:
            file.write("once")
        progress(TrainingProgress(stage="features"))
        raise ValueError("all 12 examples have the intent 'returns'")

    told: list[TrainingProgress] = []
    alone = trainer.model_copy(update={"workers": 1})
    with pytest.raises(ValueError, match="all 12 examples have the intent 'returns'") as raised:
        alone.run(job, progress=told.append)
    assert raised.value.__notes__[0].startswith("raised on Ray worker 0, at test_ray_training.py:")
    assert [one.stage for one in told] == ["features"]
    assert (tmp_path / "begun").read_text() == "once"


def test_what_cannot_be_sent_to_a_worker_is_refused(trainer: TrainerResource, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(RayTrainingError, match="cannot be sent to Ray workers"):
        trainer.run(lambda _: file.name, progress=ignore_progress)


def test_the_cluster_listens_on_the_loopback_interface_only(cluster: tuple[TrainerResource, set[str]]) -> None:
    assert cluster[1] == {"127.0.0.1"}
