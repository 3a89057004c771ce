"""Claims about intent trainings that are killed, starved of disk, or shared by workers."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from mangaassist_assets.models.artifacts import verify_artifact
from mangaassist_assets.models.intent.training import IntentTrainingResult
from mangaassist_assets.training.checkpoints import Checkpoints
from tests.support.intent_training import (
    MESSAGES,
    config,
    examples,
    in_own_process,
    repeating,
    train_on,
    validation,
)

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]


def train(output: Path, checkpoints: Checkpoints | None = None) -> tuple[IntentTrainingResult, list[str]]:
    notices: list[str] = []
    result = train_on(
        examples(MESSAGES),
        validation(),
        config=config(checkpoint_steps=2),
        output=output,
        checkpoints=checkpoints,
        progress=lambda progress: notices.append(progress.notice) if progress.notice else None,
    )
    return result, notices


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> IntentTrainingResult:
    return train(tmp_path_factory.mktemp("uninterrupted") / "model")[0]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    process = in_own_process(
        output=str(folder / "model"), checkpoints=str(folder / "checkpoints"), checkpoint_steps=2, die_after=4
    )
    process.communicate(timeout=240)
    assert process.returncode == -signal.SIGKILL
    return folder


def test_a_killed_training_goes_on_and_ends_with_the_same_weights_and_metrics(
    killed: Path, uninterrupted: IntentTrainingResult, tmp_path: Path
) -> None:
    assert not list((killed / "model").glob("*"))
    shutil.copytree(killed / "checkpoints", tmp_path / "checkpoints")
    result, notices = train(tmp_path / "model", Checkpoints(tmp_path / "checkpoints", "one"))
    assert [notice for notice in notices if "goes on after step 4" in notice]
    assert result.digest == uninterrupted.digest
    assert repeating(result.metrics) == repeating(uninterrupted.metrics)
    assert result.history == uninterrupted.history


def test_a_damaged_checkpoint_falls_back_with_a_notice_and_ends_the_same(
    killed: Path, uninterrupted: IntentTrainingResult, tmp_path: Path
) -> None:
    shutil.copytree(killed / "checkpoints", tmp_path / "checkpoints")
    newest = max((tmp_path / "checkpoints").glob("step-*")) / "tensors.safetensors"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    result, notices = train(tmp_path / "model", Checkpoints(tmp_path / "checkpoints", "one"))
    assert "step-00000004 is damaged" in notices[0]
    assert "goes on after step 2" in notices[1]
    assert result.digest == uninterrupted.digest


def test_a_full_disk_costs_the_checkpoints_and_names_the_artifact_and_leaves_nothing_behind(tmp_path: Path) -> None:
    told = finished(
        in_own_process(
            output=str(tmp_path / "model"),
            checkpoints=str(tmp_path / "checkpoints"),
            checkpoint_steps=2,
            largest_file=1_000_000,
        )
    )
    assert "training goes on without it" in told["notices"][0]
    assert told["error"] == "ArtifactWriteError"
    assert str(tmp_path / "model") in told["message"]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_two_workers_get_one_result_and_one_artifact(tmp_path: Path) -> None:
    workers = [
        in_own_process(output=str(tmp_path / "model"), rank=rank, workers=2, meeting=str(tmp_path / "meeting"))
        for rank in (0, 1)
    ]
    first, second = (finished(worker) for worker in workers)
    assert "error" not in first, first
    assert first["digest"] == second["digest"] == verify_artifact(tmp_path / "model")
    assert first["metrics"] == pytest.approx(second["metrics"], abs=1e-4)


def test_when_worker_0_cannot_write_the_others_are_told(tmp_path: Path) -> None:
    workers = [
        in_own_process(
            output=str(tmp_path / "model"),
            rank=rank,
            workers=2,
            meeting=str(tmp_path / "meeting"),
            **({"largest_file": 1_000_000} if rank == 0 else {}),
        )
        for rank in (0, 1)
    ]
    first, second = (finished(worker) for worker in workers)
    assert first["error"] == second["error"] == "ArtifactWriteError"
    assert "worker 0" in second["message"]


def finished(process: Any) -> dict[str, Any]:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return dict(json.loads(out.splitlines()[-1]))
