"""The MLflow model registry and training runs, as values: a version is found again by the hash of its artifact."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowModelVersion

ARTIFACT_TAG = "artifact_sha256"
DATASET_TAG = "dataset_sha256"
# MLflow's own limit for the digest of a dataset input; the whole digest is a tag of the run.
_DATASET_DIGEST = 36


class RegistryError(RuntimeError):
    """The registry holds something else than what was asked of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One version of a registered model. `source` is the URI of its artifact directory."""

    name: str
    version: str
    source: str
    run_id: str | None
    artifact_sha256: str | None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInput:
    """The dataset a run was trained on.

    `sha256` is the digest of its content, `source` where it lies, `schema` its columns with their types as
    `mlflow.types.DataType` calls them, `profile` what there is to count.
    """

    name: str
    sha256: str
    source: str
    context: str = "training"
    schema: Mapping[str, str] = field(default_factory=dict)
    profile: Mapping[str, int | str] = field(default_factory=dict)


class TrainingRun:
    """An open MLflow run."""

    def __init__(self, client: MlflowClient, run_id: str, artifact_uri: str) -> None:
        self._client = client
        self.run_id = run_id
        self.artifact_uri = artifact_uri

    def log_metrics(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Log metrics of one step in one request."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(
            self.run_id, metrics=[Metric(name, float(value), now, step) for name, value in metrics.items()]
        )

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run in one request."""
        from mlflow.entities import RunTag

        self._client.log_batch(self.run_id, tags=[RunTag(name, value) for name, value in tags.items()])

    def log_directory(self, directory: Path, artifact_path: str) -> str:
        """Store a directory with the run and return its URI, which `register_version` takes."""
        self._client.log_artifacts(self.run_id, str(directory), artifact_path)
        return f"{self.artifact_uri.rstrip('/')}/{artifact_path}"

    def log_text(self, text: str, artifact_file: str) -> None:
        """Store a text file with the run."""
        self._client.log_text(self.run_id, text, artifact_file)


@contextmanager
def training_run(
    client: MlflowClient,
    experiment_id: str,
    name: str,
    *,
    tags: Mapping[str, str],
    params: Mapping[str, object],
    dataset: DatasetInput | None,
) -> Iterator[TrainingRun]:
    """Open a run; it ends FINISHED, or FAILED where the body raises."""
    from mlflow.entities import Param, RunTag

    run = client.create_run(experiment_id, run_name=name, tags=dict(tags))
    run_id = run.info.run_id
    status = "FAILED"
    try:
        client.log_batch(
            run_id,
            params=[Param(key, str(value)) for key, value in sorted(params.items())],
            tags=[RunTag(DATASET_TAG, dataset.sha256)] if dataset else [],
        )
        if dataset is not None:
            _log_dataset(client, run_id, dataset)
        yield TrainingRun(client, run_id, run.info.artifact_uri)
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status=status)


def end_runs(client: MlflowClient, experiment_id: str, dagster_run_ids: Collection[str]) -> int:
    """End the RUNNING runs that carry one of the tags `dagster_run_id`, as KILLED; returns how many there were."""
    ended = 0
    for dagster_run_id in dagster_run_ids:
        condition = f"attributes.status = 'RUNNING' and tags.dagster_run_id = '{dagster_run_id}'"
        for run in client.search_runs([experiment_id], condition):
            client.set_terminated(run.info.run_id, status="KILLED")
            ended += 1
    return ended


def _log_dataset(client: MlflowClient, run_id: str, dataset: DatasetInput) -> None:
    import json

    from mlflow.entities import Dataset, InputTag
    from mlflow.entities import DatasetInput as MlflowDatasetInput

    logged = Dataset(
        name=dataset.name,
        digest=dataset.sha256[:_DATASET_DIGEST],
        source_type=_source_type(dataset.source),
        source=json.dumps({"uri": dataset.source, "sha256": dataset.sha256}),
        schema=json.dumps({"mlflow_colspec": [{"type": kind, "name": name} for name, kind in dataset.schema.items()]}),
        profile=json.dumps(dict(dataset.profile)),
    )
    client.log_inputs(
        run_id,
        datasets=[MlflowDatasetInput(dataset=logged, tags=[InputTag("mlflow.data.context", dataset.context)])],
    )


def _source_type(source: str) -> str:
    """Return the name under which MLflow itself finds a dataset's files again (`mlflow.data.get_source`)."""
    scheme = urlsplit(source).scheme
    if scheme == "s3":
        return "s3"
    return "local" if scheme == "file" or source.startswith("/") else "code"


class ModelRegistry:
    """Registered models."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def register(
        self, name: str, *, run_id: str, artifact_uri: str, artifact_sha256: str, tags: Mapping[str, str]
    ) -> ModelVersion:
        """Register an artifact; the version that holds the same artifact already is returned instead."""
        from mlflow.exceptions import MlflowException

        existing = self.by_artifact(name, artifact_sha256)
        if existing is not None:
            return existing
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        created = self._client.create_model_version(
            name,
            source=artifact_uri,
            run_id=run_id,
            tags={**tags, ARTIFACT_TAG: artifact_sha256},
            # A version of plain artifacts is READY when it is created; waiting would only log that it waits.
            await_creation_for=0,
        )
        return _version(created)

    def by_artifact(self, name: str, artifact_sha256: str) -> ModelVersion | None:
        """Return the oldest version whose artifact has this digest."""
        found = [item for item in self.versions(name) if item.artifact_sha256 == artifact_sha256]
        return found[0] if found else None

    def versions(self, name: str) -> list[ModelVersion]:
        """Return all versions of a model, oldest first; an unknown model has none."""
        found: list[ModelVersion] = []
        token: str | None = None
        while True:
            page = self._client.search_model_versions(f"name='{name}'", max_results=200, page_token=token)
            found += [_version(item) for item in page]
            token = page.token
            if not token:
                return sorted(found, key=lambda item: int(item.version))

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        """Return the version an alias names, or None where there is no such model or alias."""
        from mlflow.exceptions import MlflowException

        try:
            return _version(self._client.get_model_version_by_alias(name, alias))
        except MlflowException as error:
            # MLflow says INVALID_PARAMETER_VALUE for an alias that does not exist.
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def get(self, name: str, version: str) -> ModelVersion:
        """Return one version.

        Raises:
            RegistryError: There is no such version.
        """
        from mlflow.exceptions import MlflowException

        try:
            return _version(self._client.get_model_version(name, version))
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise RegistryError(f"registered model {name} has no version {version}") from error
            raise

    def set_alias(self, name: str, alias: str, version: str) -> bool:
        """Let an alias name a version; returns whether it named another one before."""
        current = self.by_alias(name, alias)
        if current is not None and current.version == version:
            return False
        self._client.set_registered_model_alias(name, alias, version)
        return True

    def set_tags(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(name, version, key, value)


def artifact_directory(version: ModelVersion, cache: Path | None = None) -> Path:
    """Return the directory of a version's artifact on this machine.

    A `file://` source is used in place; any other is downloaded once into `cache`, in a folder named by the digest.

    Raises:
        RegistryError: The directory is gone.
    """
    parts = urlsplit(version.source)
    if parts.scheme in ("", "file"):
        directory = Path(unquote(parts.path))
        if not directory.is_dir():
            raise RegistryError(
                f"artifact of {version.name} version {version.version} is not at {version.source}: the home directory "
                "was moved or cleaned"
            )
        return directory
    return _download(version, cache or Path(tempfile.gettempdir()) / "mangaassist-artifacts")


def _download(version: ModelVersion, cache: Path) -> Path:
    import shutil

    import mlflow

    target = cache / (version.artifact_sha256 or f"{version.name}-{version.version}")
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    # Downloaded beside and renamed: a killed download leaves no half artifact under the final name.
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        downloaded = Path(mlflow.artifacts.download_artifacts(artifact_uri=version.source, dst_path=folder))
        if not target.is_dir():
            shutil.move(str(downloaded), target)
    return target


def _version(found: MlflowModelVersion) -> ModelVersion:
    return ModelVersion(
        name=found.name,
        version=str(found.version),
        source=found.source or "",
        run_id=found.run_id or None,
        artifact_sha256=found.tags.get(ARTIFACT_TAG),
        tags=dict(found.tags),
    )
