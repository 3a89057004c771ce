"""MLflow: traces by release bundle, reviews, training runs, the model registry, and links to all of them.

mlflow is imported by the first call, never while definitions load.
"""

import logging
import os
import threading
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import dagster as dg
from pydantic import Field, PrivateAttr

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from mangaassist_assets.models.registration.registry import ModelVersion
    from mangaassist_assets.privacy import Vocabulary
    from mangaassist_assets.tracing.contract.records import TraceRecord
    from mangaassist_assets.tracing.ingestion.trace_sources import BundleSightings, TraceSource
    from mangaassist_assets.tracing.reading.mapping import TraceMapping
    from resources.mlflow.assessments.reviews import TraceReviewer
    from resources.mlflow.personal_data import MlflowUserTraces
    from resources.mlflow.registry import ModelRegistry
    from resources.mlflow.runs import TrainingRun
    from resources.mlflow.traces.sink import OtlpTraceSink
    from resources.mlflow.traces.store import TrackingStore

_PLUGIN_LOGGER = "mlflow.tracking.request_header.registry"


class TrackingUriError(ValueError):
    """There is no tracking server, or one that cannot do what was asked."""


class MlflowResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Hands out what MLflow keeps, as plain values."""

    tracking_uri: str | None = Field(
        default=None,
        description="MLflow server, or the ARN of a SageMaker managed one; empty takes MLFLOW_TRACKING_URI.",
    )
    ui_url: str | None = Field(
        default=None, description="Where people open MLflow, if that is not the tracking URI; used in links only."
    )
    traces_experiment: str = Field(default="mangaassist-traces", description="Experiment of the chatbot's traces.")
    training_experiment: str = Field(default="mangaassist-training", description="Experiment of training runs.")
    evaluation_experiment: str = Field(default="mangaassist-evaluation", description="Experiment of evaluation runs.")
    artifact_cache: str | None = Field(
        default=None, description="Directory for downloaded artifacts; empty takes the temporary directory."
    )
    trace_reader: Literal["auto", "rest", "sql"] = Field(
        default="auto",
        description="How traces are read: through the server, or by read-only SQL from its store, 30 times as fast. "
        "auto is sql where the store is known.",
    )
    tracking_store_uri: str | None = Field(
        default=None,
        description="SQLAlchemy URL of the store behind the server, SQLite or PostgreSQL, of a user who may only read; "
        "empty takes MANGAASSIST_TRACKING_STORE.",
    )
    request_timeout_s: int = Field(default=60, ge=1, description="Seconds one request may take.")
    request_retries: int = Field(default=5, ge=0, description="How often a failed request is repeated.")
    trace_batch: int = Field(default=32, ge=1, description="Traces written in one request.")

    _client: Any = PrivateAttr(default=None)
    _store: Any = PrivateAttr(default=None)
    _experiments: dict[str, str] = PrivateAttr(default_factory=dict)
    _lock: Any = PrivateAttr(default_factory=threading.RLock)

    def client(self) -> "MlflowClient":
        """Return the client. The tracking URI becomes the one of this process, for MLflow's assessments need it."""
        with self._lock:
            if self._client is None:
                uri = self._uri()
                os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(self.request_timeout_s))
                os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(self.request_retries))
                # Else each run that ends prints two lines on standard output, which belongs to the command's result.
                os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
                import mlflow

                mlflow.set_tracking_uri(uri)
                if not uri.startswith("arn:"):
                    _quiet_arn_plugin()
                self._client = mlflow.MlflowClient(uri)
            client: MlflowClient = self._client
            return client

    def ensure_experiment(self, name: str) -> str:
        """Return the id of an experiment, which is made if there is none."""
        with self._lock:
            if name not in self._experiments:
                self._experiments[name] = self._find_or_create(name)
            return self._experiments[name]

    # Traces

    def traces(self) -> "tuple[MlflowClient, str]":
        """Return the client and the id of the experiment of traces, which is how their readers and writers take it."""
        return self.client(), self.ensure_experiment(self.traces_experiment)

    def read_traces(self, release_bundle: str) -> "Iterator[TraceRecord]":
        """Yield every trace of a bundle once, in the order they started, those still in progress included.

        Raises:
            InvalidBundleError: The key is not valid, so no trace can carry it.
        """
        from mangaassist_assets.core.bundles import validate_bundle
        from mangaassist_assets.tracing.ingestion.trace_sources import bundle_traces

        return bundle_traces(self.trace_source(), validate_bundle(release_bundle))

    def release_bundles_since(self, timestamp_ms: int, *, known: Collection[str] = ()) -> "BundleSightings":
        """Return the bundles of traces that started after a time (ms); with `known`, of other bundles at any time."""
        return self.trace_source().bundles_since(timestamp_ms, known=known)

    def bundle_start_ms(self, release_bundle: str) -> int | None:
        """Return when the first trace of a bundle started (ms since the epoch), or None if it has none."""
        from mangaassist_assets.core.bundles import validate_bundle

        first = self.trace_source().headers_after(None, limit=1, release_bundle=validate_bundle(release_bundle))
        return first[0].timestamp_ms if first else None

    def trace_source(self) -> "TraceSource":
        """Return where the chatbot's traces are read from, page by page.

        Raises:
            TrackingUriError: SQL was chosen and no store is named.
            TrackingStoreError: The store is of another database than SQLite and PostgreSQL.
            TraceServerError: REST was chosen and the tracking URI names no server.
        """
        experiment_id = self.ensure_experiment(self.traces_experiment)
        if self._reads_by_sql():
            from resources.mlflow.traces.sql_source import SqlTraceSource

            name = self.traces_experiment
            store = self._tracking_store()
            return SqlTraceSource(store, experiment_id, experiment_name=name, tracking_uri=self._uri())
        from resources.mlflow.traces.rest_source import RestTraceSource

        return RestTraceSource(self.client(), experiment_id)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        """Close the connections to the tracking store."""
        with self._lock:
            if self._store is not None:
                self._store.close()

    def user_traces(
        self,
        pseudonym_key: bytes | None,
        *,
        mapping: "TraceMapping | None" = None,
        vocabulary: "Vocabulary | None" = None,
    ) -> "MlflowUserTraces":
        """Return what finds and deletes the traces of a user, whatever they call the user."""
        from resources.mlflow.personal_data import MlflowUserTraces

        return MlflowUserTraces(
            *self.traces(), self.trace_source(), pseudonym_key=pseudonym_key, mapping=mapping, vocabulary=vocabulary
        )

    def reviewer(self) -> "TraceReviewer":
        """Return what puts feedback and reviews on traces."""
        from resources.mlflow.assessments.reviews import TraceReviewer

        return TraceReviewer(self.client(), self.trace_source())

    def trace_sink(self) -> "OtlpTraceSink":
        """Return what stores the chatbot's traces.

        Raises:
            TrackingUriError: The tracking server is not reached by http or https, where OTLP goes.
        """
        from resources.mlflow.traces.sink import OtlpTraceSink

        uri = self._uri()
        if not uri.startswith(("http://", "https://")):
            raise TrackingUriError(
                f"traces are written over OTLP/HTTP, which {uri} does not take: give an http(s) server"
            )
        return OtlpTraceSink(
            uri,
            self.ensure_experiment(self.traces_experiment),
            headers=credentials(),
            batch=self.trace_batch,
            timeout_s=self.request_timeout_s,
        )

    # Training runs and the registry

    def training_run(
        self,
        name: str,
        *,
        experiment: str | None = None,
        **run: Any,  # noqa: ANN401 - of `runs.training_run`
    ) -> "AbstractContextManager[TrainingRun]":
        """Return a context manager of a run of an experiment, by default that of training; see `runs.training_run`."""
        from resources.mlflow.runs import training_run

        return training_run(self.client(), self.ensure_experiment(experiment or self.training_experiment), name, **run)

    def read_run_file(self, run_id: str, artifact_file: str) -> bytes | None:
        """Return a file that was stored with a run; None where the run or the file is not there."""
        from resources.mlflow.runs import read_file

        return read_file(self.client(), run_id, artifact_file)

    def write_run_file(self, run_id: str, artifact_file: str, content: bytes) -> None:
        """Store a file with a run, which may have ended."""
        from resources.mlflow.runs import log_file

        log_file(self.client(), run_id, content, artifact_file)

    def end_training_runs_of(self, dagster_run_ids: Collection[str]) -> int:
        """End what training runs of killed Dagster runs left RUNNING, as KILLED; returns how many there were."""
        if not dagster_run_ids:
            return 0
        from resources.mlflow.runs import end_runs

        return end_runs(self.client(), self.ensure_experiment(self.training_experiment), dagster_run_ids)

    def registry(self) -> "ModelRegistry":
        """Return the model registry."""
        from resources.mlflow.registry import ModelRegistry

        return ModelRegistry(self.client())

    def register_version(self, name: str, **version: Any) -> "ModelVersion":  # noqa: ANN401 - of `register`
        """Register an artifact, or return the version that holds the same one already; see `ModelRegistry.register`."""
        return self.registry().register(name, **version)

    def set_alias(self, name: str, alias: str, version: str) -> bool:
        """Let an alias name a version; returns whether it named another one before."""
        return self.registry().set_alias(name, alias, version)

    def version_by_alias(self, name: str, alias: str) -> "ModelVersion | None":
        """Return the version an alias names, or None."""
        return self.registry().by_alias(name, alias)

    def artifact_directory(self, version: "ModelVersion") -> Path:
        """Return the directory of a version's artifact on this machine, downloaded if it is elsewhere."""
        from resources.mlflow.registry import artifact_directory

        self.client()
        return artifact_directory(version, Path(self.artifact_cache) if self.artifact_cache else None)

    # Links

    def run_url(self, run_id: str, *, experiment: str | None = None) -> str:
        """Return the page of a run."""
        experiment_id = self.ensure_experiment(experiment or self.training_experiment)
        return f"{self._ui()}/#/experiments/{experiment_id}/runs/{quote(run_id)}"

    def trace_url(self, trace_id: str) -> str:
        """Return the page of a trace."""
        return f"{self._traces_page()}?selectedEvaluationId={quote(trace_id)}"

    def traces_url(self, release_bundle: str | None = None) -> str:
        """Return the page of all traces, or of a bundle's."""
        if release_bundle is None:
            return self._traces_page()
        # MLflow 3.17's trace page takes `tag=key=value`, both quoted, and shows the last days unless asked otherwise.
        tag = quote(f"release_bundle={quote(release_bundle, safe='')}", safe="")
        return f"{self._traces_page()}?tag={tag}&startTimeLabel=ALL"

    def model_version_url(self, name: str, version: str) -> str:
        """Return the page of a model version."""
        return f"{self._ui()}/#/models/{quote(name)}/versions/{quote(version)}"

    def logged_model_url(self, model_id: str, *, experiment: str | None = None) -> str:
        """Return the page of a model as a run left it, with the metrics of every evaluation."""
        experiment_id = self.ensure_experiment(experiment or self.training_experiment)
        return f"{self._ui()}/#/experiments/{experiment_id}/models/{quote(model_id)}"

    def _store_uri(self) -> str | None:
        return self.tracking_store_uri or os.environ.get("MANGAASSIST_TRACKING_STORE") or None

    def _reads_by_sql(self) -> bool:
        return self.trace_reader == "sql" or (self.trace_reader == "auto" and self._store_uri() is not None)

    def _tracking_store(self) -> "TrackingStore":
        from resources.mlflow.traces.store import TrackingStore

        with self._lock:
            if self._store is None:
                uri = self._store_uri()
                if uri is None:
                    raise TrackingUriError(
                        "trace_reader is sql, but tracking_store_uri names no store: give the SQLAlchemy URL of the "
                        "database behind the MLflow server, or set trace_reader to rest"
                    )
                self._store = TrackingStore(uri, timeout_s=self.request_timeout_s)
            store: TrackingStore = self._store
            return store

    def _traces_page(self) -> str:
        return f"{self._ui()}/#/experiments/{self.ensure_experiment(self.traces_experiment)}/traces"

    def _ui(self) -> str:
        return (self.ui_url or self._uri()).rstrip("/")

    def _uri(self) -> str:
        uri = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")
        if not uri:
            raise TrackingUriError(
                "no MLflow server is known: set MLFLOW_TRACKING_URI, or run the command against a home that is up"
            )
        return uri

    def _find_or_create(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        client = self.client()
        found = client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(client.create_experiment(name))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                # Another process made it in between.
                found = client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage != "active":
            raise TrackingUriError(f"MLflow experiment {name} was deleted: restore it, or configure another name")
        return str(found.experiment_id)


class _ArnPluginFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "resolving request headers" not in record.getMessage()


def _quiet_arn_plugin() -> None:
    """Silence one warning per request: sagemaker-mlflow takes every tracking URI for an ARN."""
    logger = logging.getLogger(_PLUGIN_LOGGER)
    if not any(isinstance(item, _ArnPluginFilter) for item in logger.filters):
        logger.addFilter(_ArnPluginFilter())


def credentials() -> dict[str, str]:
    """Return the authorization header that MLflow's own variables describe."""
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    if user and password:
        import base64

        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    return {}
