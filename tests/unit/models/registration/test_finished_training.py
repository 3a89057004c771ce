"""What a training has finished waits for its registration, whole or not at all."""

from __future__ import annotations

import json

import pytest

from mangaassist_assets.models.artifacts import seal_artifact
from mangaassist_assets.models.model_types import TrainedArtifact
from mangaassist_assets.models.registration.finished_training import TrainingFolder
from mangaassist_assets.training.objective import EpochRecord


@pytest.fixture
def folder(tmp_path) -> TrainingFolder:
    return TrainingFolder(tmp_path, "a" * 64)


@pytest.fixture
def trained(folder) -> TrainedArtifact:
    folder.start()
    folder.artifact.mkdir()
    (folder.artifact / "config.json").write_text("{}")
    return TrainedArtifact(
        directory=folder.artifact,
        digest=seal_artifact(folder.artifact, "reranker"),
        metrics={"validation_accuracy": 0.5},
        history=(EpochRecord(epoch=1, training_loss=0.25, validation={"validation_loss": 0.125}),),
        kept="fine_tuned",
        started_from="packaged-minilm",
        charts={"learning_curve.png": b"\x89PNG"},
        tables={"intents": [{"intent": "返品", "recall": 0.5}]},
        limits=("knows no French",),
    )


def test_a_finished_training_is_found_as_it_was(folder, trained):
    assert folder.finished() is None
    folder.keep(trained)
    assert folder.finished() == trained


def test_it_is_gone_once_it_is_registered(folder, trained):
    folder.keep(trained)
    folder.remove()
    assert folder.finished() is None


def test_a_new_start_keeps_the_checkpoints_and_nothing_else(folder, trained):
    folder.keep(trained)
    (folder.checkpoints / "step-00000001").mkdir(parents=True)
    folder.start()
    assert folder.finished() is None
    assert not folder.artifact.exists()
    assert (folder.checkpoints / "step-00000001").is_dir()


@pytest.mark.parametrize(
    "damage",
    [
        lambda one: (one.artifact / "config.json").write_text("{ }"),
        lambda one: (one.path / "charts" / "learning_curve.png").unlink(),
        lambda one: (one.path / "trained.json").write_text("{"),
        lambda one: (one.path / "trained.json").write_text("[]"),
        lambda one: (one.path / "trained.json").write_text(json.dumps({"digest": "0" * 64})),
    ],
)
def test_a_damaged_one_counts_as_not_finished(folder, trained, damage):
    folder.keep(trained)
    damage(folder)
    assert folder.finished() is None
