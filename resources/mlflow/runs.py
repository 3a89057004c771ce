"""Training runs: opened with tags, parameters and dataset, watched while they go on, ended whatever happens."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mangaassist_assets.models.registration.registry import DatasetInput
from resources.mlflow.live_metrics import LiveMetrics, metric_sender

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import RunInfo

    from resources.mlflow.model_files import LoggedArtifact

DATASET_TAG = "dataset_sha256"
ENVIRONMENT_FILE = "environment.json"
# MLflow's own limit for the digest of a dataset input; the whole digest is a tag of the run.
_DATASET_DIGEST = 36
# By this tag MLflow's page finds tables.
_TABLES_TAG = "mlflow.loggedArtifacts"
_DRAIN_SECONDS = 15.0


class TrackingServerAwayError(RuntimeError):
    """A run could not be ended, for the tracking server does not answer."""


class TrainingRun:
    """An open MLflow run."""

    def __init__(self, client: MlflowClient, info: RunInfo, *, report: Callable[[str], None]) -> None:
        self.client = client
        self.run_id: str = info.run_id
        self.artifact_uri: str = info.artifact_uri
        self.experiment_id: str = info.experiment_id
        self._report = report
        self._live: LiveMetrics | None = None
        self._tables: list[str] = []

    def log_metrics(
        self,
        metrics: Mapping[str, float],
        *,
        step: int = 0,
        model_id: str | None = None,
        dataset: DatasetInput | None = None,
    ) -> None:
        """Log metrics of one step; with a model they are shown on its page too, with the dataset they hold for."""
        log_metrics(self.client, self.run_id, metrics, step=step, model_id=model_id, dataset=dataset)

    def live_metrics(self, figures: Mapping[str, float], *, step: int) -> None:
        """Log metrics of a step of a training that goes on: queued, sent in batches, never waited for.

        A server that does not answer is reported once; what it missed is sent when it is back.
        """
        if self._live is None:
            self._live = LiveMetrics(metric_sender(self.client, self.run_id), report=self._report)
        self._live.log(figures, step=step)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run in one request."""
        from mlflow.entities import RunTag

        self.client.log_batch(self.run_id, tags=[RunTag(name, value) for name, value in tags.items()])

    def log_environment(self, environment: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Store what the training ran on as `environment.json`, and what one searches by as tags."""
        self.log_json(environment, ENVIRONMENT_FILE)
        self.set_tags(tags)

    def log_text(self, text: str, artifact_file: str) -> None:
        """Store a text file with the run."""
        self.client.log_text(self.run_id, text, artifact_file)

    def log_json(self, content: Mapping[str, Any], artifact_file: str) -> None:
        """Store a JSON file with the run; its keys are sorted."""
        self.log_text(
            json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n", artifact_file
        )

    def log_png(self, png: bytes, artifact_file: str) -> None:
        """Store a picture with the run, which MLflow's page shows."""
        log_file(self.client, self.run_id, png, artifact_file)

    def log_rows(self, rows: Collection[Mapping[str, object]], artifact_file: str) -> None:
        """Store rows with equal keys as a table that MLflow's page shows and `mlflow.load_table` reads."""
        self.log_text(table_json(rows), artifact_file)
        self._tables = [*(one for one in self._tables if one != artifact_file), artifact_file]
        self.set_tags({_TABLES_TAG: json.dumps([{"path": name, "type": "table"} for name in self._tables])})

    def log_model(
        self, directory: Path, *, kind: str, digest: str, card: str = "", schemas: Mapping[str, bytes] | None = None
    ) -> LoggedArtifact:
        """Store a sealed artifact as a model of the run, or find the one that holds the same artifact already.

        `card` is Markdown and becomes README.md of the model's folder; `schemas` are the files that say what its
        endpoint takes and answers, by name.

        Raises:
            ArtifactMismatchError: The artifact is not the one that was sealed.
        """
        from resources.mlflow.model_files import log_model

        return log_model(
            self.client,
            directory,
            experiment_id=self.experiment_id,
            run_id=self.run_id,
            kind=kind,
            digest=digest,
            beside={**(schemas or {}), **({"README.md": card.encode()} if card else {})},
        )

    def drain(self) -> int:
        """Send the live metrics that still wait; return how many are not stored."""
        return self._live.drain(timeout_s=_DRAIN_SECONDS) if self._live else 0

    def close(self) -> int:
        """Stop sending live metrics; return how many were never stored."""
        return self._live.close() if self._live else 0


@contextmanager
def training_run(
    client: MlflowClient,
    experiment_id: str,
    name: str,
    *,
    tags: Mapping[str, str],
    params: Mapping[str, object],
    dataset: DatasetInput | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Iterator[TrainingRun]:
    """Open a run with tags, parameters and dataset; it ends FINISHED, or FAILED where the body raises.

    `report` is called with a message when live metrics cannot be stored.

    Raises:
        TrackingServerAwayError: The run's end could not be written. An error of the body is raised instead, if any.
    """
    from mlflow.entities import Param, RunTag

    run = TrainingRun(client, client.create_run(experiment_id, run_name=name, tags=dict(tags)).info, report=report)
    try:
        client.log_batch(
            run.run_id,
            params=[Param(key, str(value)) for key, value in sorted(params.items())],
            tags=[RunTag(DATASET_TAG, dataset.sha256)] if dataset else [],
        )
        if dataset is not None:
            _log_dataset(client, run.run_id, dataset)
        yield run
    except BaseException as error:
        try:
            _end(run, "FAILED", report)
        except TrackingServerAwayError as away:
            error.add_note(str(away))
        raise
    _end(run, "FINISHED", report)


def end_runs(client: MlflowClient, experiment_id: str, dagster_run_ids: Collection[str]) -> int:
    """End the RUNNING runs that carry one of the tags `dagster_run_id`, as KILLED; returns how many there were.

    Models whose files they were still storing become FAILED.
    """
    from mlflow.entities import LoggedModelStatus

    ended = 0
    for dagster_run_id in dagster_run_ids:
        condition = f"attributes.status = 'RUNNING' and tags.dagster_run_id = '{dagster_run_id}'"
        for run in client.search_runs([experiment_id], condition):
            client.set_terminated(run.info.run_id, status="KILLED")
            for model in client.search_logged_models([experiment_id], f"source_run_id = '{run.info.run_id}'"):
                if model.status == LoggedModelStatus.PENDING:
                    client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
            ended += 1
    return ended


def log_metrics(
    client: MlflowClient,
    run_id: str,
    metrics: Mapping[str, float],
    *,
    step: int = 0,
    model_id: str | None = None,
    dataset: DatasetInput | None = None,
) -> None:
    """Log metrics of one step of a run, and of a model if there is one, in one request."""
    from mlflow.entities import Metric

    now = time.time_ns() // 1_000_000
    about = {"dataset_name": dataset.name, "dataset_digest": dataset.sha256[:_DATASET_DIGEST]} if dataset else {}
    client.log_batch(
        run_id,
        metrics=[
            Metric(name, float(value), now, step, model_id=model_id, run_id=run_id, **about)
            for name, value in metrics.items()
        ],
    )


def read_file(client: MlflowClient, run_id: str, artifact_file: str) -> bytes | None:
    """Return a file that was stored with a run; None where the run or the file is not there."""
    from mlflow.exceptions import MlflowException

    path = PurePosixPath(artifact_file)
    try:
        stored = client.list_artifacts(run_id, None if len(path.parts) == 1 else path.parent.as_posix())
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    if artifact_file not in {one.path for one in stored}:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run_id, artifact_file, folder)).read_bytes()


def log_file(client: MlflowClient, run_id: str, content: bytes, artifact_file: str) -> None:
    """Store a file with a run."""
    path = PurePosixPath(artifact_file)
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / path.name
        local.write_bytes(content)
        parent = path.parent.as_posix()
        client.log_artifact(run_id, str(local), None if parent == "." else parent)


def table_json(rows: Collection[Mapping[str, object]]) -> str:
    """Return rows as the JSON of an MLflow table, `{"columns": […], "data": [[…], …]}`; NaN and infinity become null.

    Raises:
        ValueError: The rows have different keys.
    """
    columns = list(next(iter(rows), {}))
    if any(list(row) != columns for row in rows):
        raise ValueError(f"all rows of a table need the columns {columns}, in this order")
    data = [[_or_null(value) for value in row.values()] for row in rows]
    return json.dumps({"columns": columns, "data": data}, ensure_ascii=False)


def _or_null(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _end(run: TrainingRun, status: str, report: Callable[[str], None]) -> None:
    from mlflow.exceptions import MlflowException

    unsent = run.drain()
    try:
        run.client.set_terminated(run.run_id, status=status)
    except MlflowException as error:
        lost = run.close()
        raise TrackingServerAwayError(
            f"run {run.run_id} could not be ended as {status}, {lost} live metrics are not stored: the tracking server "
            f"at {run.client.tracking_uri} does not answer. Start it and train again; the run stays RUNNING in "
            "its store"
        ) from error
    if unsent:
        # The server was away a moment ago and has answered since.
        run.drain()
    if lost := run.close():
        report(f"{lost} live metrics of run {run.run_id} were never stored: its curves have gaps, its end is complete")


def _log_dataset(client: MlflowClient, run_id: str, dataset: DatasetInput) -> None:
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
