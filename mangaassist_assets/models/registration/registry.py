"""Registered models and the tracking server as the platform sees them.

A version is found again by the hash of its artifact.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore

from mangaassist_assets.core.errors import OperatorError

CHAMPION = "champion"
CHALLENGER = "challenger"

ARTIFACT_PATH_TAG = "artifact_path"
BUNDLE_START_TAG = "bundle_start_ms"

MODEL_FILE = "model.json"
EVALUATION_FILE = "evaluation.json"
"""What the evaluation of a challenger stores, beside the snapshot of the challenger itself."""


class RegistryError(OperatorError, RuntimeError):
    """The registry holds something else than what was asked of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One version of a registered model.

    `source` is the URI of the folder that MLflow loads; `artifact_uri(version)` of the sealed artifact in it.
    """

    name: str
    version: str
    source: str
    run_id: str | None
    artifact_sha256: str | None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """A registered challenger, as its training asset stored it."""

    name: str
    version: str
    run_id: str
    artifact_uri: str
    artifact_sha256: str
    dataset_digest: str
    release_bundle: str | None
    bundle_start_ms: int

    @staticmethod
    def read(store: SnapshotStore, asset: str, release_bundle: str) -> TrainedModel:
        """Return what the training asset registered for a bundle."""
        return TrainedModel(**store.read_json(store.latest(asset, partition=release_bundle), MODEL_FILE))


class VersionRegistry(Protocol):
    """The versions of registered models and their tags."""

    def versions(self, name: str) -> Sequence[ModelVersion]:
        """Return all versions of a model, oldest first; an unknown model has none."""

    def get(self, name: str, version: str) -> ModelVersion:
        """Return one version.

        Raises:
            RegistryError: There is no such version.
        """

    def set_tags(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""

    def delete_tags(self, name: str, version: str, keys: Collection[str]) -> None:
        """Remove tags of a version that it has."""


class ModelStore(Protocol):
    """The registry with its aliases, and the artifacts of versions."""

    def registry(self) -> VersionRegistry:
        """Return the versions."""

    def version_by_alias(self, name: str, alias: str) -> ModelVersion | None:
        """Return the version that an alias names, or None."""

    def set_alias(self, name: str, alias: str, version: str) -> bool:
        """Let an alias name a version; returns whether it named another one before."""

    def artifact_directory(self, version: ModelVersion) -> Path:
        """Return the directory of a version's artifact on this machine.

        Raises:
            RegistryError: The artifact is gone.
        """

    def read_run_file(self, run_id: str, artifact_file: str) -> bytes | None:
        """Return a file that was stored with a run; None where the run or the file is not there."""


def artifact_uri(version: ModelVersion) -> str:
    """Return where a version's sealed artifact lies; that is what an endpoint is deployed from.

    A version whose tag `artifact_path` is missing was registered before artifacts lay inside an MLflow model: its
    source is the artifact.

    Raises:
        RegistryError: The tag leaves the version's folder.
    """
    path = version.tags.get(ARTIFACT_PATH_TAG, "")
    if not path:
        return version.source
    if any(part in ("", ".", "..") for part in path.split("/")) or "\\" in path:
        raise RegistryError(
            f"tag {ARTIFACT_PATH_TAG} of {version.name} version {version.version} is {path!r}: it must name a folder "
            "inside the version's source"
        )
    return f"{version.source.rstrip('/')}/{path}"


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


class LoggedModel(Protocol):
    """A model on the tracking server, whole."""

    @property
    def model_id(self) -> str:
        """Its id."""

    @property
    def uri(self) -> str:
        """The folder that MLflow loads."""

    @property
    def digest(self) -> str:
        """Of the sealed artifact."""

    @property
    def artifact_path(self) -> str:
        """Where in the folder the sealed artifact lies."""


class Run(Protocol):
    """An open run."""

    @property
    def run_id(self) -> str:
        """Its id."""

    def log_metrics(
        self,
        metrics: Mapping[str, float],
        *,
        step: int = 0,
        model_id: str | None = None,
        dataset: DatasetInput | None = None,
    ) -> None:
        """Log metrics of one step; with a model they are shown on its page too, with the dataset they hold for."""

    def live_metrics(self, figures: Mapping[str, float], *, step: int) -> None:
        """Log metrics of a training that goes on; never waits for the server."""

    def log_environment(self, environment: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Store what the training ran on, and what one searches by as tags."""

    def log_text(self, text: str, artifact_file: str) -> None:
        """Store a text file with the run."""

    def log_png(self, png: bytes, artifact_file: str) -> None:
        """Store a picture with the run."""

    def log_rows(self, rows: Collection[Mapping[str, object]], artifact_file: str) -> None:
        """Store rows with equal keys as a table."""

    def log_model(
        self, directory: Path, *, kind: str, digest: str, card: str, schemas: Mapping[str, bytes]
    ) -> LoggedModel:
        """Store a sealed artifact as a model of the run, or find the one that holds the same artifact already."""


class Tracking(ModelStore, Protocol):
    """The tracking server with its registry."""

    @property
    def evaluation_experiment(self) -> str:
        """Experiment of evaluation runs."""

    def training_run(
        self,
        name: str,
        *,
        tags: Mapping[str, str],
        params: Mapping[str, object],
        dataset: DatasetInput | None = None,
        experiment: str | None = None,
        report: Callable[[str], None] | None = None,
    ) -> AbstractContextManager[Run]:
        """Return a context manager of a run; it ends FAILED where the body raises."""

    def write_run_file(self, run_id: str, artifact_file: str, content: bytes) -> None:
        """Store a file with a run, which may have ended."""

    def register_version(
        self,
        name: str,
        *,
        run_id: str,
        artifact_uri: str,
        artifact_sha256: str,
        tags: Mapping[str, str],
        model_id: str | None = None,
        artifact_path: str | None = None,
        description: str | None = None,
    ) -> ModelVersion:
        """Register an artifact, or return the version that holds the same artifact already."""
