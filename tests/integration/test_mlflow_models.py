"""Runs, models and versions on real MLflow servers, one of which goes away in the middle of a training."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
import requests

from mangaassist_assets.models.artifacts import ArtifactMismatchError, seal_artifact, verify_artifact
from mangaassist_assets.models.champion_challenger import Evaluation
from mangaassist_assets.models.examples import IntentExample
from mangaassist_assets.models.intent.fine_tuning import IntentTrainingConfig
from mangaassist_assets.models.model_types import TrainingRequest, load_model_type
from mangaassist_assets.models.registration.registry import DatasetInput, ModelVersion, RegistryError, artifact_uri
from mangaassist_assets.training.environment import environment_tags, training_environment
from resources.mlflow.model_files import LoggedArtifact, stored_model
from resources.mlflow.registry import artifact_directory
from resources.mlflow.runs import TrackingServerAwayError, TrainingRun
from resources.mlflow.tracking import MlflowResource
from resources.mlflow.verdicts import log_verdict
from tests.support.registry import log_directory
from tests.support.tracking_process import TrackingProcess

pytestmark = pytest.mark.integration

# Less than a request to a server that hangs takes: whoever logs has not waited for it.
SOON = 4.0
INTENTS = ("order_tracking", "return_request", "shipping_info")


def evaluation(metric: str, score: float) -> Evaluation:
    return Evaluation(
        release_bundle="b1",
        bundle_start_ms=0,
        dataset_digest="cd" * 32,
        champion_version="7",
        challenger_version="8",
        metric=metric,
        champion_score=0.5,
        challenger_score=score,
        test_examples=321,
        verdict="pass",
        reasons=(),
        table="**pass**",
        details={},
    )


class KeywordModel:
    """Answers like a classifier: by the length of the text."""

    def __init__(self, digest: str) -> None:
        self.digest = digest

    def answer(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
        predictions = [
            [{"label": INTENTS[(len(text) + place) % 3], "score": 0.5 / (place + 1)} for place in range(3)]
            for text in inputs
        ]
        return {
            "predictions": [labels[: parameters["top_k"]] for labels in predictions],
            "decisions": [{"in_scope": len(text) < 40} for text in inputs],
        }


class KeywordModelType:
    """Loads what `artifact` made, verifying it as every model type does."""

    def load(self, directory: Path, expected_digest: str | None = None) -> KeywordModel:
        return KeywordModel(verify_artifact(directory, expected_digest))


@pytest.fixture(autouse=True)
def keyword_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mangaassist_assets.serving.mlflow_flavor.load_model_type", lambda _: KeywordModelType())


@pytest.fixture
def mlflow_resource(stand_ins_environment: dict[str, str]) -> Iterator[MlflowResource]:  # noqa: ARG001
    import mlflow

    before = mlflow.get_tracking_uri()
    yield MlflowResource(training_experiment=f"training-{uuid4().hex[:8]}")
    mlflow.set_tracking_uri(before)


def artifact(folder: Path, *, seed: int = 0, kind: str = "intent_classifier") -> tuple[Path, str]:
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    weights = np.random.default_rng(seed).normal(size=(4, 4)).astype(np.float32)
    save_file({"classifier.weight": weights}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"labels": INTENTS}))
    return folder, seal_artifact(folder, kind)


SCORING = """
import json, sys, warnings
import mlflow, pandas as pd

warnings.simplefilter("ignore")
model = mlflow.pyfunc.load_model(sys.argv[1])
answer = model.predict(pd.DataFrame({"text": json.loads(sys.argv[2])}))
print(json.dumps({"label": answer["label"].tolist(), "modules": sorted(sys.modules)}))
"""


def scored_in_a_process_of_its_own(folder: Path, texts: Sequence[str]) -> dict[str, list[str]]:
    """Return the labels, and which modules were loaded to find them."""
    done = subprocess.run(
        [sys.executable, "-c", SCORING, str(folder), json.dumps(texts)], capture_output=True, text=True, check=True
    )
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def stored_files(logged: LoggedArtifact) -> Path:
    return Path(unquote(urlsplit(logged.uri).path))


def register(mlflow: MlflowResource, run: TrainingRun, logged: LoggedArtifact, name: str) -> ModelVersion:
    return mlflow.register_version(
        name,
        run_id=run.run_id,
        artifact_uri=logged.uri,
        artifact_sha256=logged.digest,
        model_id=logged.model_id,
        artifact_path=logged.artifact_path,
        tags={"dataset_digest": "cd" * 32, "release_bundle": "b1"},
    )


class TestModel:
    """What MLflow knows of a model, and what it refuses to load."""

    @pytest.fixture
    def registered(self, mlflow_resource, tmp_path) -> tuple[MlflowResource, TrainingRun, LoggedArtifact, ModelVersion]:
        directory, digest = artifact(tmp_path / "model")
        with mlflow_resource.training_run("train", tags={}, params={}) as run:
            logged = run.log_model(directory, kind="intent_classifier", digest=digest)
            version = register(mlflow_resource, run, logged, f"intents-{uuid4().hex[:8]}")
        mlflow_resource.set_alias(version.name, "champion", version.version)
        return mlflow_resource, run, logged, version

    def test_the_champion_is_loaded_by_mlflow_and_answers_by_its_signature(self, registered):
        import mlflow

        model = mlflow.pyfunc.load_model(f"models:/{registered[3].name}@champion")
        asked = pd.DataFrame({"text": ["where is it", "x" * 50]})
        answer = model.predict(asked, params={"top_k": 2})
        assert list(answer.columns) == [column.name for column in model.metadata.signature.outputs]
        assert answer["out_of_scope"].tolist() == [False, True]
        assert [len(best) for best in answer["best"]] == [2, 2]
        assert answer["label"].tolist() == [best[0]["label"] for best in answer["best"]]
        assert len(model.predict(asked)["best"][0]) == 3
        with pytest.raises(mlflow.MlflowException, match="text"):
            model.predict(pd.DataFrame({"message": ["hi"]}))

    def test_its_folder_holds_the_sealed_artifact_and_no_pickle_and_no_code(self, registered):
        _, _, logged, _ = registered
        names = {path.relative_to(stored_files(logged)).as_posix() for path in stored_files(logged).rglob("*.*")}
        assert names == {
            *("artifact/artifact.json", "artifact/config.json", "artifact/model.safetensors"),
            *("conda.yaml", "python_env.yaml", "requirements.txt"),
            *("input_example.json", "serving_input_example.json"),
        }
        assert verify_artifact(stored_files(logged) / "artifact", logged.digest) == logged.digest
        text = (stored_files(logged) / "MLmodel").read_text()
        assert "code: null" in text
        assert logged.digest in text
        assert "onnxruntime==" in (stored_files(logged) / "requirements.txt").read_text()

    @pytest.mark.parametrize("harm", ["a byte", "another artifact", "no digest"])
    def test_what_was_changed_is_not_loaded(self, registered, harm):
        import mlflow

        _, _, logged, version = registered
        folder = stored_files(logged)
        if harm == "a byte":
            weights = folder / "artifact" / "model.safetensors"
            content = bytearray(weights.read_bytes())
            content[-1] ^= 1
            weights.write_bytes(content)
        elif harm == "another artifact":
            shutil.rmtree(folder / "artifact")
            artifact(folder / "artifact", seed=1)
        else:
            description = folder / "MLmodel"
            description.write_text(description.read_text().replace("artifact_sha256: ", "artifact_md5: "))
        with pytest.raises(ArtifactMismatchError):
            mlflow.pyfunc.load_model(f"models:/{version.name}@champion")

    def test_pages_link_run_model_and_version(self, registered):
        mlflow, run, logged, version = registered
        client = mlflow.client()
        model = client.get_logged_model(logged.model_id)
        stored = client.get_model_version(version.name, version.version)
        assert [one.model_id for one in client.get_run(run.run_id).outputs.model_outputs] == [logged.model_id]
        assert (model.source_run_id, model.status.value, model.model_type) == (run.run_id, "READY", "intent_classifier")
        assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": version.name, "version": version.version}]
        assert (stored.run_id, stored.source) == (run.run_id, logged.uri)
        page = requests.get(
            f"{os.environ['MLFLOW_TRACKING_URI']}/model-versions/get-artifact",
            params={"path": "MLmodel", "name": version.name, "version": version.version},
            timeout=30,
        )
        assert "signature:" in page.text
        assert stored.tags == {
            "artifact_path": "artifact",
            "logged_model_id": logged.model_id,
            "artifact_sha256": logged.digest,
            "dataset_digest": "cd" * 32,
            "release_bundle": "b1",
        }

    def test_an_endpoint_gets_the_sealed_artifact_not_the_folder_around_it(self, registered):
        mlflow, _, logged, version = registered
        assert artifact_uri(version) == f"{logged.uri}/artifact"
        assert mlflow.artifact_directory(version) == stored_files(logged) / "artifact"

    def test_storing_an_artifact_twice_stores_it_once(self, mlflow_resource, tmp_path):
        directory, digest = artifact(tmp_path / "model")
        with mlflow_resource.training_run("train", tags={}, params={}) as run:
            first = run.log_model(directory, kind="intent_classifier", digest=digest)
            assert run.log_model(directory, kind="intent_classifier", digest=digest) == first
        with mlflow_resource.training_run("train", tags={}, params={}) as other:
            assert other.log_model(directory, kind="intent_classifier", digest=digest) == first
        outputs = [mlflow_resource.client().get_run(one.run_id).outputs.model_outputs for one in (run, other)]
        assert [[one.model_id for one in models] for models in outputs] == [[first.model_id]] * 2

    def test_an_artifact_that_is_not_the_sealed_one_is_not_stored(self, mlflow_resource, tmp_path):
        directory, digest = artifact(tmp_path / "model")
        (directory / "config.json").write_text("{}")
        with mlflow_resource.training_run("train", tags={}, params={}) as run:
            with pytest.raises(ArtifactMismatchError):
                run.log_model(directory, kind="intent_classifier", digest=digest)
            assert mlflow_resource.client().search_logged_models([run.experiment_id]) == []

    def test_a_ranking_model_takes_pairs(self, mlflow_resource, tmp_path, monkeypatch):
        import mlflow

        class Pairs(KeywordModel):
            def answer(self, inputs, _parameters):
                return {"predictions": [{"label": "relevant", "score": len(one["text_pair"]) / 100} for one in inputs]}

        class PairModelType(KeywordModelType):
            def load(self, directory, expected_digest=None):
                return Pairs(verify_artifact(directory, expected_digest))

        monkeypatch.setattr("mangaassist_assets.serving.mlflow_flavor.load_model_type", lambda _: PairModelType())
        directory, digest = artifact(tmp_path / "model", kind="reranker")
        with mlflow_resource.training_run("train", tags={}, params={}) as run:
            logged = run.log_model(directory, kind="reranker", digest=digest)
        model = mlflow.pyfunc.load_model(f"models:/{logged.model_id}")
        assert model.predict(pd.DataFrame({"text": ["q"], "text_pair": ["p" * 50]}))["score"].tolist() == [0.5]

    def test_a_real_classifier_answers_through_mlflow_as_its_endpoint_does(
        self, mlflow_resource, tmp_path, monkeypatch
    ):
        import mlflow

        from mangaassist_assets.models.intent.model_type import IntentModelType

        monkeypatch.setattr("mangaassist_assets.serving.mlflow_flavor.load_model_type", load_model_type)
        texts = {"order_tracking": "where is my parcel {}", "return_request": "i want to send volume {} back"}
        examples = [
            IntentExample(example_id=f"{intent}-{number}", text=text.format(number), intent=intent)
            for intent, text in texts.items()
            for number in range(8)
        ]
        model_type = IntentModelType(config=IntentTrainingConfig(fine_tune=False))
        trained = model_type.train(TrainingRequest(train=examples, validation=[], output=tmp_path / "model"))
        with mlflow_resource.training_run("train", tags={}, params={}) as run:
            logged = run.log_model(trained.directory, kind=model_type.kind, digest=trained.digest)
        model = mlflow.pyfunc.load_model(f"models:/{logged.model_id}")
        asked = ["where is parcel 3?", "返品したい", ""]
        answer = model.predict(pd.DataFrame({"text": asked}), params={"top_k": 2})
        served = model_type.load(trained.directory, trained.digest).answer(asked, {"top_k": 2})
        assert answer["best"].tolist() == served["predictions"]
        assert answer["label"].tolist() == served["intent"]
        assert answer["score"].tolist() == served["confidence"]
        assert answer["out_of_scope"].tolist() == [not one["in_scope"] for one in served["decisions"]]
        assert answer["label"][0] == "order_tracking"
        again = scored_in_a_process_of_its_own(stored_files(logged), asked)
        assert again["label"] == answer["label"].tolist()
        assert not {"torch", "transformers", "sentence_transformers", "safetensors"} & set(again["modules"])

    def test_a_family_that_mlflow_code_does_not_know_answers_in_json(self, mlflow_resource, tmp_path, monkeypatch):
        import mlflow

        class Feeling(KeywordModel):
            def answer(self, inputs, _parameters):
                return {"predictions": [{"feeling": "glad"} for _ in inputs]}

        class FeelingModelType(KeywordModelType):
            def load(self, directory, expected_digest=None):
                return Feeling(verify_artifact(directory, expected_digest))

        monkeypatch.setattr("mangaassist_assets.serving.mlflow_flavor.load_model_type", lambda _: FeelingModelType())
        directory, digest = artifact(tmp_path / "model", kind="sentiment")
        with mlflow_resource.training_run("train", tags={}, params={}) as run:
            logged = run.log_model(directory, kind="sentiment", digest=digest)
        model = mlflow.pyfunc.load_model(f"models:/{logged.model_id}")
        assert model.predict(pd.DataFrame({"text": ["yes!"]}))["prediction"].tolist() == ['{"feeling": "glad"}']


class TestVersions:
    """A digest has one version, whatever was killed in between."""

    def test_a_process_killed_between_storing_and_registering_leaves_no_version(self, mlflow_resource, tmp_path):
        directory, digest = artifact(tmp_path / "model")
        name = f"intents-{uuid4().hex[:8]}"
        code = (
            "import os, signal, sys\n"
            "from pathlib import Path\n"
            "from resources.mlflow.tracking import MlflowResource\n"
            "mlflow = MlflowResource(training_experiment=sys.argv[1])\n"
            "with mlflow.training_run('train', tags={'dagster_run_id': 'killed'}, params={}) as run:\n"
            "    run.log_model(Path(sys.argv[2]), kind='intent_classifier', digest=sys.argv[3])\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        killed = subprocess.run(
            [sys.executable, "-c", code, mlflow_resource.training_experiment, str(directory), digest],
            check=False,
            capture_output=True,
        )
        assert killed.returncode == -9, killed.stderr.decode()
        assert mlflow_resource.registry().versions(name) == []
        assert mlflow_resource.end_training_runs_of(["killed"]) == 1
        with mlflow_resource.training_run("train", tags={}, params={}) as run:
            logged = run.log_model(directory, kind="intent_classifier", digest=digest)
            first = register(mlflow_resource, run, logged, name)
            again = register(mlflow_resource, run, logged, name)
        models = mlflow_resource.client().search_logged_models([run.experiment_id])
        assert (first.version, again.version) == ("1", "1")
        assert [model.model_id for model in models] == [logged.model_id]
        assert first.source == logged.uri
        assert first.run_id == run.run_id

    def test_what_was_stored_only_half_is_never_found(self, mlflow_resource, tmp_path, monkeypatch):
        directory, digest = artifact(tmp_path / "model")

        def fails(*_: object) -> None:
            raise OSError("no space left on device")

        with mlflow_resource.training_run("train", tags={}, params={}) as run:
            with monkeypatch.context() as broken:
                broken.setattr("mlflow.MlflowClient.log_model_artifacts", fails)
                with pytest.raises(OSError, match="no space left"):
                    run.log_model(directory, kind="intent_classifier", digest=digest)
            found = stored_model(mlflow_resource.client(), run.experiment_id, kind="intent_classifier", digest=digest)
            assert found is None
            assert run.log_model(directory, kind="intent_classifier", digest=digest).digest == digest
        states = [one.status.value for one in mlflow_resource.client().search_logged_models([run.experiment_id])]
        assert sorted(states) == ["FAILED", "READY"]

    def test_ending_a_killed_run_ends_what_it_was_storing(self, mlflow_resource):
        client = mlflow_resource.client()
        experiment = mlflow_resource.ensure_experiment(mlflow_resource.training_experiment)
        killed = client.create_run(experiment, tags={"dagster_run_id": "killed"})
        half = client.create_logged_model(experiment, source_run_id=killed.info.run_id)
        other = client.create_logged_model(experiment)
        assert mlflow_resource.end_training_runs_of(["killed"]) == 1
        states = [client.get_logged_model(one.model_id).status.value for one in (half, other)]
        assert states == ["FAILED", "PENDING"]

    def test_a_stored_model_whose_files_are_gone_is_stored_again(self, mlflow_resource, tmp_path):
        directory, digest = artifact(tmp_path / "model")
        with mlflow_resource.training_run("train", tags={}, params={}) as run:
            first = run.log_model(directory, kind="intent_classifier", digest=digest)
            shutil.rmtree(stored_files(first) / "artifact")
            second = run.log_model(directory, kind="intent_classifier", digest=digest)
        assert first.model_id != second.model_id
        assert (stored_files(second) / "artifact" / "artifact.json").is_file()

    def test_versions_from_before_models_had_a_folder_are_their_own_artifact(self, mlflow_resource, tmp_path):
        directory, digest = artifact(tmp_path / "model")
        with mlflow_resource.training_run("train", tags={}, params={}) as run:
            uri = log_directory(run, directory, "model")
            version = mlflow_resource.register_version(
                f"intents-{uuid4().hex[:8]}", run_id=run.run_id, artifact_uri=uri, artifact_sha256=digest, tags={}
            )
        assert artifact_uri(version) == uri
        assert verify_artifact(mlflow_resource.artifact_directory(version), digest) == digest


def points_of(client: Any, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client.get_metric_history(run_id, name)]


class TestArtifactsElsewhere:
    """A version whose files lie in a bucket."""

    @pytest.fixture
    def version(self, stand_ins_environment, tmp_path) -> ModelVersion:  # noqa: ARG002 - the addresses of clients
        import boto3

        directory, digest = artifact(tmp_path / "model")
        bucket = f"models-{uuid4().hex[:8]}"
        client = boto3.client("s3")
        client.create_bucket(Bucket=bucket)
        for path in directory.iterdir():
            client.upload_file(str(path), bucket, f"m/artifact/{path.name}")
        return ModelVersion(
            name="intents",
            version="1",
            source=f"s3://{bucket}/m",
            run_id=None,
            artifact_sha256=digest,
            tags={"artifact_path": "artifact"},
        )

    def test_it_is_downloaded_once_and_again_where_the_copy_was_damaged(self, version, tmp_path):
        cache = tmp_path / "cache"
        first = artifact_directory(version, cache)
        (first / "model.safetensors").write_bytes(b"")
        assert verify_artifact(artifact_directory(version, cache), version.artifact_sha256) == version.artifact_sha256
        changed = (first / "config.json").stat().st_mtime_ns
        assert artifact_directory(version, cache) == first == cache / str(version.artifact_sha256)
        assert (first / "config.json").stat().st_mtime_ns == changed
        assert [path.name for path in cache.iterdir()] == [version.artifact_sha256]

    def test_another_artifact_than_the_registered_one_never_gets_into_the_cache(self, version, tmp_path):
        with pytest.raises(ArtifactMismatchError):
            artifact_directory(replace(version, artifact_sha256="0" * 64), tmp_path / "cache")
        assert list((tmp_path / "cache").iterdir()) == []

    @pytest.mark.parametrize("path", ["../other", "/etc", "a//b", ".", "a\\b"])
    def test_a_tag_that_leaves_the_folder_is_refused(self, version, path):
        with pytest.raises(RegistryError, match="must name a folder inside"):
            artifact_uri(replace(version, tags={"artifact_path": path}))


class TestWhatARunTells:
    """Pictures, tables, environment, card, and the gate's verdict, as MLflow's pages read them."""

    def test_a_run_keeps_pictures_tables_environment_and_card(self, mlflow_resource, tmp_path):
        directory, digest = artifact(tmp_path / "model")
        environment = training_environment(device="cpu", precision="float32", seed=3)
        rows = [{"intent": "a", "f1": 0.5}, {"intent": "返品", "f1": 1.0}]
        with mlflow_resource.training_run("train", tags={}, params={}) as run:
            run.log_environment(environment, environment_tags(environment))
            run.log_rows(rows, "intents.json")
            run.log_rows([{"figure": "x"}], "others.json")
            run.log_png(b"PNG", "charts/confusion.png")
            run.log_text("# card", "model_card.md")
            logged = run.log_model(directory, kind="intent_classifier", digest=digest, card="# card")
            data = DatasetInput(name="intent_dataset", sha256="cd" * 32, source="file:///d")
            run.log_metrics({"validation_accuracy": 0.9}, model_id=logged.model_id, dataset=data)
        client = mlflow_resource.client()
        stored = client.get_run(run.run_id)
        folder = Path(unquote(urlsplit(stored.info.artifact_uri).path))
        assert json.loads((folder / "environment.json").read_text()) == environment
        assert (folder / "charts" / "confusion.png").read_bytes() == b"PNG"
        assert (stored_files(logged) / "README.md").read_text() == "# card"
        table = client.load_table(run.experiment_id, "intents.json", run_ids=[run.run_id])
        assert table.to_dict("records") == rows
        assert [one["path"] for one in json.loads(stored.data.tags["mlflow.loggedArtifacts"])] == [
            "intents.json",
            "others.json",
        ]
        (metric,) = client.get_logged_model(logged.model_id).metrics
        assert (metric.key, metric.value, metric.dataset_name) == ("validation_accuracy", 0.9, "intent_dataset")

    def test_a_verdict_is_kept_with_the_run_and_tagged_on_the_version(self, mlflow_resource, tmp_path):
        directory, digest = artifact(tmp_path / "model")
        client = mlflow_resource.client()
        with mlflow_resource.training_run("train", tags={}, params={}) as run:
            logged = run.log_model(directory, kind="intent_classifier", digest=digest)
            version = register(mlflow_resource, run, logged, f"intents-{uuid4().hex[:8]}")
        for _ in range(2):
            decision = {"verdict": "pass", "slices": []}
            folder = log_verdict(client, version, evaluation("nDCG@10", 0.87654), decision=decision, chart=b"PNG")
        tags = mlflow_resource.registry().get(version.name, version.version).tags
        stored = client.get_run(run.run_id)
        assert {name: tags[name] for name in tags if name.startswith("evalua")} == {
            "evaluation_verdict": "pass",
            "evaluated_against": "7",
            "evaluation_ndcg_at_10": "0.8765",
            "evaluation_examples": "321",
        }
        files = [one.path for one in client.list_artifacts(run.run_id, folder)]
        assert files == [f"{folder}/decision.{kind}" for kind in ("json", "md", "png")]
        assert stored.data.metrics["test_ndcg_at_10"] == 0.87654
        assert {one.key for one in client.get_logged_model(logged.model_id).metrics} == {"test_ndcg_at_10"}

    def test_a_version_without_a_run_cannot_keep_a_verdict(self, mlflow_resource):
        version = ModelVersion(name="m", version="1", source="s3://b/m", run_id=None, artifact_sha256=None)
        with pytest.raises(RegistryError, match="names no run"):
            log_verdict(mlflow_resource.client(), version, evaluation("accuracy", 1.0), decision={})


@pytest.fixture(scope="module")
def process(tmp_path_factory) -> Iterator[TrackingProcess]:
    with TrackingProcess(tmp_path_factory.mktemp("server")) as process:
        yield process


class TestServerThatGoesAway:
    """A server that is killed in the middle of a training."""

    @pytest.fixture
    def server(self, process, monkeypatch) -> Iterator[TrackingProcess]:
        import mlflow

        before = mlflow.get_tracking_uri()
        # Else MLflow's client tries again for a minute.
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        yield process
        process.restart()
        mlflow.set_tracking_uri(before)

    @pytest.fixture
    def mlflow_resource(self, server) -> MlflowResource:
        return MlflowResource(tracking_uri=server.url, training_experiment=f"training-{uuid4().hex[:8]}")

    def test_training_goes_on_and_the_curve_is_whole_and_once_only_afterwards(self, server, mlflow_resource):
        reports: list[str] = []
        slowest = 0.0
        with mlflow_resource.training_run("train", tags={}, params={}, report=reports.append) as run:
            for step in range(3_000):
                started = time.monotonic()
                run.live_metrics({"training_loss": 1 / (step + 1), "odd": float("nan")}, step=step)
                slowest = max(slowest, time.monotonic() - started)
                if step == 999:
                    assert run.drain() == 0
                    server.kill()
                    run.live_metrics({"during": 1.0}, step=step)
                    assert run.drain() > 0
            server.start()
        history = points_of(mlflow_resource.client(), run.run_id, "training_loss")
        assert sorted(history) == [(step, 1 / (step + 1)) for step in range(3_000)]
        assert len(points_of(mlflow_resource.client(), run.run_id, "odd")) == 3_000
        assert mlflow_resource.client().get_run(run.run_id).info.status == "FINISHED"
        assert len(reports) == 1
        assert "training goes on" in reports[0]
        assert slowest < SOON

    def test_a_server_that_hangs_holds_up_neither_training_nor_its_end_for_long(self, server, mlflow_resource):
        with mlflow_resource.training_run("train", tags={}, params={}) as run, server.paused():
            started = time.monotonic()
            for step in range(1_000):
                run.live_metrics({"training_loss": 1.0}, step=step)
            logged = time.monotonic() - started
            assert run.drain() == 1_000
        assert logged < SOON
        assert len(points_of(mlflow_resource.client(), run.run_id, "training_loss")) == 1_000

    def test_a_run_whose_end_cannot_be_written_says_so_and_registers_nothing(self, server, mlflow_resource, tmp_path):
        directory, digest = artifact(tmp_path / "model")

        def train() -> None:
            with mlflow_resource.training_run("train", tags={"dagster_run_id": "d1"}, params={}) as run:
                run.log_model(directory, kind="intent_classifier", digest=digest)
                server.kill()
                run.live_metrics({"training_loss": 1.0}, step=1)

        with pytest.raises(TrackingServerAwayError, match=r"ended as FINISHED, 1 live metrics .* Start it"):
            train()
        server.start()
        client, experiment = (
            mlflow_resource.client(),
            mlflow_resource.ensure_experiment(mlflow_resource.training_experiment),
        )
        assert [run.info.status for run in client.search_runs([experiment])] == ["RUNNING"]
        assert mlflow_resource.end_training_runs_of(["d1"]) == 1
        assert client.search_registered_models() == []
        assert stored_model(client, experiment, kind="intent_classifier", digest=digest) is not None

    def test_what_failed_in_training_is_what_is_raised(self, server, mlflow_resource):
        def train() -> None:
            with mlflow_resource.training_run("train", tags={}, params={}):
                server.kill()
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError) as raised:
            train()
        assert "could not be ended as FAILED" in raised.value.__notes__[0]

    def test_a_server_that_dies_while_the_model_is_stored_leaves_nothing_registered(
        self, server, mlflow_resource, tmp_path, monkeypatch
    ):
        from mlflow import MlflowClient, MlflowException

        directory, digest = artifact(tmp_path / "model")
        upload = MlflowClient.log_model_artifacts

        def dies(client: Any, model_id: str, folder: str, path: str | None = None) -> None:
            upload(client, model_id, folder, path)
            server.kill()

        def train() -> None:
            with mlflow_resource.training_run("train", tags={}, params={}) as run:
                run.log_model(directory, kind="intent_classifier", digest=digest)

        monkeypatch.setattr(MlflowClient, "log_model_artifacts", dies)
        with pytest.raises(MlflowException):
            train()
        server.start()
        client = mlflow_resource.client()
        experiment = mlflow_resource.ensure_experiment(mlflow_resource.training_experiment)
        assert client.search_registered_models() == []
        assert stored_model(client, experiment, kind="intent_classifier", digest=digest) is None
