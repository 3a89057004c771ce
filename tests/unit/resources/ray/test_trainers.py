"""Training in process, and what a trainer refuses; Ray itself is in the integration tests."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mangaassist_assets.training.objective import ProgressCallback, TrainingProgress
from resources.ray import ray_training, trainers
from resources.ray.ray_training import RayTrainingError, Scale
from resources.ray.trainers import TrainerResource

SCALE = Scale(workers=2, cpus_per_worker=1.0, gpus_per_worker=0.0, restarts=0)


def job(progress: ProgressCallback) -> int:
    progress(TrainingProgress(stage="fine-tune", step=1))
    return os.getpid()


def test_by_default_a_training_runs_in_the_process_that_asks() -> None:
    told: list[TrainingProgress] = []
    assert TrainerResource().run(job, progress=told.append) == os.getpid()
    assert [one.step for one in told] == [1]


def test_what_a_training_raises_comes_back_as_itself() -> None:
    def fails(_: ProgressCallback) -> None:
        raise ZeroDivisionError("one intent only")

    with pytest.raises(ZeroDivisionError, match="one intent only"):
        TrainerResource().run(fails, progress=print)


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainers, "find_spec", lambda _: None)
    with pytest.raises(RayTrainingError, match=r"install mangaassist-assets\[ray\]"):
        TrainerResource(backend="ray").run(job, progress=print)


@pytest.mark.parametrize("wrong", [{"backend": "spark"}, {"workers": 0}, {"restarts": -1}, {"cpus_per_worker": 0.0}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainerResource(**wrong)


class Cluster(dg.ConfigurableResource):
    """Stands for a cluster resource of dagster-ray, which lives as long as the step."""

    def setup_for_execution(self, _: dg.InitResourceContext) -> None:
        os.environ["CLUSTER"] = "up"

    def teardown_after_execution(self, _: dg.InitResourceContext) -> None:
        os.environ["CLUSTER"] = "down"


def test_a_cluster_resource_is_up_while_a_step_trains_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER", "")
    seen: list[str] = []

    @dg.asset
    def model(trainer: TrainerResource) -> None:
        seen.append(trainer.run(lambda _: os.environ["CLUSTER"], progress=print))

    resources = {"trainer": TrainerResource(cluster=Cluster())}
    assert dg.materialize([model], resources=resources, instance=dg.DagsterInstance.ephemeral()).success
    assert seen == ["up"]
    assert os.environ["CLUSTER"] == "down"


def test_a_cluster_resource_that_did_not_connect_is_an_error() -> None:
    with pytest.raises(RayTrainingError, match=r"leave `lifecycle.connect`"):
        TrainerResource(backend="ray", cluster=Cluster()).run(job, progress=print)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999"])
def test_an_address_where_nothing_answers_is_an_error_at_once(address: str) -> None:
    with pytest.raises(RayTrainingError, match=f"no Ray cluster at '{address}'"):
        TrainerResource(backend="ray", address=address).run(job, progress=print)


def test_the_fields_are_described() -> None:
    undescribed = [name for name, one in TrainerResource.model_fields.items() if not one.description]
    assert undescribed == ["cluster"]


def test_the_resource_imports_neither_ray_nor_torch() -> None:
    heavy = "{'ray', 'torch', 'dagster_ray'}"
    code = f"import sys, resources.ray.trainers, resources.ray.ray_training; print({heavy} & {{*sys.modules}})"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.strip() == "set()"


def test_a_folder_of_any_length_gives_sockets_a_short_name_and_is_empty_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    with ray_training._temporary_folder(str(folder)) as sockets:
        assert len(str(sockets)) <= 40
        (sockets / "socket").write_text("")
        assert [one.name for one in folder.glob("*/*")] == ["socket"]
    assert list(folder.iterdir()) == []
    assert not sockets.parent.exists()


def test_the_environment_of_the_local_cluster_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    before = dict(os.environ)
    with ray_training._environment(ray_training._local_environment()):
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert len(os.environ["RAY_AUTH_TOKEN"]) >= 32
        assert os.environ["GLOO_SOCKET_IFNAME"].startswith("lo")
    assert dict(os.environ) == before


class UnsendableError(RuntimeError):
    def __init__(self, *, intent: str) -> None:
        super().__init__(f"no examples of {intent}")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("one intent only"), ValueError, "one intent only"),
        (UnsendableError(intent="returns"), RayTrainingError, "UnsendableError in worker 1: no examples of returns"),
    ],
)
def test_an_error_goes_to_another_process_as_itself_or_by_name(
    error: Exception, kind: type[Exception], message: str
) -> None:
    if find_spec("ray") is None:
        pytest.skip("ray is not installed")
    try:
        raise error
    except (ValueError, RuntimeError) as raised:
        with ray_training._environment(ray_training._local_environment()):  # ray reads it when it is first imported
            sent = ray_training._sendable(raised, 1)
    assert type(sent) is kind
    assert str(sent) == message
    assert sent.__notes__[0].startswith("raised on Ray worker 1, at test_trainers.py:")
