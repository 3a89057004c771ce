"""From training to registry when things break in between: nothing half-registered, nothing trained twice."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from uuid import uuid4

import polars as pl
import pytest
from upath import UPath

from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.versions.data_card import Provenance
from mangaassist_assets.datasets.versions.versions import seal_version
from mangaassist_assets.models.model_types import TrainingRequest
from mangaassist_assets.models.registration.registration import Training, TrainingPlatform, train_and_register
from mangaassist_assets.serving.endpoint_schemas import pipeline_schemas
from mangaassist_assets.training.objective import ignore_progress
from resources.mlflow.tracking import MlflowResource
from tests.support.sentiment import SENTIMENT, SentimentModelType
from tests.support.tracking_process import TrackingProcess

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def process(tmp_path_factory) -> Iterator[TrackingProcess]:
    with TrackingProcess(tmp_path_factory.mktemp("server")) as process:
        yield process


@pytest.fixture
def server(process, monkeypatch) -> Iterator[SimpleNamespace]:
    import mlflow

    # A server that is away is asked once, not for a minute.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    before = mlflow.get_tracking_uri()
    process.restart()
    yield SimpleNamespace(process=process, url=process.url, model=f"sentiment-{uuid4().hex[:8]}")
    mlflow.set_tracking_uri(before)


@pytest.fixture
def dataset():
    rows = [
        {
            "example_id": f"{label}-{number}",
            "message": f"{label} {number}",
            "sentiment": label,
            "split": "train",
            "label_kind": "human",
            "release_bundle": "2026.02.02-rc1",
            "user_key": None,
        }
        for label in ("annoyed", "content")
        for number in range(5)
    ]
    frame = pl.DataFrame(rows, schema_overrides={"user_key": pl.String})
    return seal_version(frame, Provenance(kind="sentiment", as_of="2026.02.02-rc1"))


def scratch_of(tmp_path):
    folder = tmp_path / "cache" / "training"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def register(server, tmp_path, dataset, train, **settings):
    platform = TrainingPlatform(
        tracking=MlflowResource(tracking_uri=server.url, training_experiment=server.model),
        snapshots=SnapshotStore(UPath(tmp_path / "store")),
        scratch=scratch_of(tmp_path),
        schemas=pipeline_schemas(SENTIMENT).files,
        dagster_run_id="of-a-test",
        logger=logging.getLogger(__name__),
        report=ignore_progress,
    )
    training = Training(
        pipeline=replace(SENTIMENT, model_name=server.model),
        dataset=dataset,
        bundle="2026.02.02-rc1",
        start_ms=0,
        settings=settings,
        train=train,
    )
    registered = train_and_register(platform, training)
    return registered.model


def train_on(dataset):
    model_type = SentimentModelType()

    def train(folder, checkpoints, progress):
        request = TrainingRequest(train=model_type.examples(dataset.frame, "train"), validation=[], output=folder)
        return model_type.train(replace(request, checkpoints=checkpoints, progress=progress))

    return train


def not_again(folder, checkpoints, progress):
    del folder, checkpoints, progress
    raise AssertionError("it was trained already")


def versions(server):
    return MlflowResource(tracking_uri=server.url).registry().versions(server.model)


def test_a_server_that_goes_away_after_training_costs_no_second_training(server, tmp_path, dataset):
    train = train_on(dataset)

    def train_while_the_server_dies(folder, checkpoints, progress):
        trained = train(folder, checkpoints, progress)
        server.process.kill()
        return trained

    with pytest.raises(Exception, match=r"Connection|refused|retries"):
        register(server, tmp_path, dataset, train_while_the_server_dies)
    server.process.restart()
    assert versions(server) == []
    model = register(server, tmp_path, dataset, not_again)
    assert [one.version for one in versions(server)] == [model.version] == ["1"]
    assert list(scratch_of(tmp_path).glob("*/")) == []


def test_the_same_examples_and_settings_are_the_same_version_and_others_are_not(server, tmp_path, dataset):
    first = register(server, tmp_path, dataset, train_on(dataset), patience=1)
    assert register(server, tmp_path, dataset, not_again, patience=1) == first
    # Another setting is another training; that it came out the same makes no second version.
    assert register(server, tmp_path, dataset, train_on(dataset), patience=2).version == first.version


def test_a_training_that_fails_leaves_no_model_and_is_started_anew(server, tmp_path, dataset):
    def broken(folder, checkpoints, progress):
        del checkpoints, progress
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        register(server, tmp_path, dataset, broken)
    assert versions(server) == []
    assert register(server, tmp_path, dataset, train_on(dataset)).version == "1"


def test_the_run_tells_what_was_learned_from_what_on_what(server, tmp_path, dataset):
    model = register(server, tmp_path, dataset, train_on(dataset), seed=7)
    client = MlflowResource(tracking_uri=server.url).client()
    run = client.get_run(model.run_id)
    assert (run.info.status, run.data.params["seed"]) == ("FINISHED", "7")
    assert run.data.metrics["train_examples"] == 10
    assert run.data.tags["environment.seed"] == "7"
    assert run.inputs.dataset_inputs[0].dataset.digest == dataset.digest[:36]
    (logged,) = run.outputs.model_outputs
    metrics = client.get_logged_model(logged.model_id).metrics
    assert {(one.key, one.dataset_digest) for one in metrics} == {("train_examples", dataset.digest[:36])}
    beside = {one.path for one in client.list_logged_model_artifacts(logged.model_id)}
    assert {"README.md", "request.schema.json", "response.schema.json"} <= beside
    files = {one.path for one in client.list_artifacts(model.run_id)}
    assert {"data_card.md", "model_card.md", "environment.json"} <= files
    (version,) = versions(server)
    assert version.tags["dataset_digest"] == dataset.digest
    assert version.artifact_sha256 == model.artifact_sha256


def test_a_file_is_added_to_a_run_that_has_ended_and_read_again(server, tmp_path, dataset):
    model = register(server, tmp_path, dataset, train_on(dataset))
    mlflow = MlflowResource(tracking_uri=server.url)
    for name in ("answers.parquet", "folds/answers.parquet"):
        assert mlflow.read_run_file(model.run_id, name) is None
        mlflow.write_run_file(model.run_id, name, b"PAR1 \x00")
        assert mlflow.read_run_file(model.run_id, name) == b"PAR1 \x00"
    assert mlflow.read_run_file("0" * 32, "answers.parquet") is None
