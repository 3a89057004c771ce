"""What a training needs of a tracking server: a run to log to, a place for the model, a version in the registry."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mangaassist_assets.models.registration.registry import ModelStore, ModelVersion


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
