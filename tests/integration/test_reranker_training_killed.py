"""Claims about a reranker's training that is repeated, killed, starved of disk, or shared by workers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mangaassist_assets.models.reranker.model import Reranker
from mangaassist_assets.training.objective import TrainingProgress
from tests.support.tiny_ranker import WORKERS, outcome, train_tiny, write_tiny_base

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="module")
def undisturbed(base: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return outcome(train_tiny(tmp_path_factory.mktemp("undisturbed"), base=base, checkpoints=False))


def start(folder: Path, base: str, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.tiny_ranker", str(folder), base, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_training_ranks_better_than_its_start_and_keeps_the_best_epoch(undisturbed: dict[str, Any]) -> None:
    metrics = undisturbed["metrics"]
    assert undisturbed["kept"] == "trained"
    assert metrics["validation_ndcg_trained"] > metrics["validation_ndcg_start"]
    by_epoch = [
        (round(figures["validation_ndcg"], 6), -round(figures["validation_loss"], 6))
        for _, _, figures in undisturbed["history"]
    ]
    assert undisturbed["best_epoch"] == 1 + by_epoch.index(max(by_epoch))
    assert metrics["validation_ndcg_trained"] == pytest.approx(max(by_epoch)[0], abs=1e-6)


def test_one_seed_gives_the_same_weights_with_checkpoints_or_without(
    base: str, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    assert outcome(train_tiny(tmp_path, base=base)) == undisturbed


def test_a_training_that_sigkill_ended_is_gone_on_with_to_the_last_bit(
    base: str, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    killed = start(tmp_path, base, "--kill-at", "6")
    _, errors = killed.communicate(timeout=120)
    assert killed.returncode == -9, errors
    assert not (tmp_path / "model").exists()
    resumed = train_tiny(tmp_path, base=base)
    assert resumed.resumed_from == 4
    assert outcome(resumed) == undisturbed
    assert Reranker.load(resumed.directory).digest == resumed.digest


def test_a_damaged_checkpoint_is_passed_over_with_a_notice(
    base: str, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    train_tiny(tmp_path, base=base, output=tmp_path / "first")
    newest = max((tmp_path / "checkpoints").glob("step-*"))
    (newest / "tensors.safetensors").write_bytes(b"nothing")
    told: list[TrainingProgress] = []
    again = train_tiny(tmp_path, base=base, told=told)
    assert outcome(again) == undisturbed
    assert any("damaged" in one.notice for one in told)
    assert 0 < again.resumed_from < int(newest.name.removeprefix("step-"))


def test_a_checkpoint_of_another_start_is_not_used(base: str, tmp_path: Path) -> None:
    first = train_tiny(tmp_path, base=base, output=tmp_path / "first", validation=[])
    told: list[TrainingProgress] = []
    second = train_tiny(tmp_path, base=base, told=told, champion=first.directory, validation=[])
    assert second.resumed_from == 0
    assert any("belongs to a training with other data" in one.notice for one in told)


def test_a_full_disk_costs_checkpoints_a_notice_and_the_artifact_an_error(base: str, tmp_path: Path) -> None:
    starved = start(tmp_path, base, "--largest-file", "10000")
    answer, errors = starved.communicate(timeout=120)
    assert starved.returncode == 0, errors
    told = json.loads(answer)
    assert "could not be written" in told["error"]
    assert any("could not be written" in notice for notice in told["notices"])
    left = {path.name for path in tmp_path.iterdir()} - {"checkpoints"}
    assert left <= {"model"}
    assert not any((tmp_path / "model").glob("*"))


def test_two_workers_train_one_model_and_only_the_first_writes(base: str, tmp_path: Path) -> None:
    workers = [start(tmp_path, base, "--rank", str(rank)) for rank in range(WORKERS)]
    answers = []
    for worker in workers:
        answer, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors
        answers.append(json.loads(answer))
    assert answers[0]["digest"] == answers[1]["digest"] == Reranker.load(tmp_path / "model").digest
    assert answers[0]["losses"] == answers[1]["losses"]
    assert len(answers[0]["losses"]) > 3
