"""What MLflow holds of a person: traces, which are deleted, and the runs and model versions that datasets led to."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mangaassist_assets.lineage.personal_data import TrainedModelVersion
from mangaassist_assets.privacy import Vocabulary, is_pseudonym
from mangaassist_assets.tracing.contract.turns import ChatTurn
from mangaassist_assets.tracing.erasure import FoundTraces, InvalidUserKeyError
from mangaassist_assets.tracing.ingestion.trace_sources import TracePosition, TraceSource
from mangaassist_assets.tracing.people import people_of
from mangaassist_assets.tracing.reading.turn_reader import read_trace
from resources.mlflow.rest import all_pages
from resources.mlflow.runs import DATASET_TAG
from resources.mlflow.traces.records import SPANS_LOCATION
from resources.mlflow.traces.search import infos_by_id
from resources.mlflow.traces.span_locations import ARTIFACT_LOCATION, TRACKING_STORE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion as MlflowModelVersion

    from mangaassist_assets.tracing.contract.records import TraceRecord
    from mangaassist_assets.tracing.person_marks import PersonMarks
    from mangaassist_assets.tracing.reading.mapping import TraceMapping

_PAGE = 200
_TRACES_PER_DELETION = 100
_READ_AT_ONCE = 500
_TEXT_FILES = (".json", ".md", ".txt", ".csv", ".html", ".jsonl", ".yaml")
_LARGEST_FILE = 50_000_000


class MlflowUserTraces:
    """The traces of users in one experiment, by whatever names they call their users."""

    def __init__(
        self,
        client: MlflowClient,
        experiment_id: str,
        source: TraceSource,
        *,
        pseudonym_key: bytes | None = None,
        mapping: TraceMapping | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        """Name an experiment and what reads its traces.

        Args:
            client: Of the tracking server.
            experiment_id: Of the traces.
            source: Reads the same traces with their spans, which say more of users than MLflow's search finds.
            pseudonym_key: The installation's secret; without it only traces with a pseudonym are found.
            mapping: Where the facts of a turn are found, by default the packaged mapping.
            vocabulary: The store's own words, which are no personal data.
        """
        self._client = client
        self._experiment_id = experiment_id
        self._source = source
        self._key = pseudonym_key
        self._mapping = mapping
        self._vocabulary = vocabulary

    def find(self, user_key: str) -> FoundTraces:
        """Return the traces that name a user, each with its message and answer; every trace is read.

        Raises:
            InvalidUserKeyError: The key is no pseudonym.
        """
        if not is_pseudonym(user_key):
            raise InvalidUserKeyError("only a pseudonym ('u-' and 20 hexadecimal digits) names a user in traces")
        own: dict[str, frozenset[str]] = {}
        others: set[str] = set()
        position = None
        while True:
            records = self._source.traces_after(position, limit=_READ_AT_ONCE)
            for record in records:
                people = people_of(record, pseudonym_key=self._key, mapping=self._mapping)
                if user_key in people:
                    own[record.trace_id] = self._said(record)
                elif people:
                    others.add(record.trace_id)
            if len(records) < _READ_AT_ONCE:
                return FoundTraces(own=own, others=frozenset(others))
            position = TracePosition(timestamp_ms=records[-1].timestamp_ms, trace_id=records[-1].trace_id)

    def existing(self, trace_ids: Collection[str]) -> frozenset[str]:
        """Return those of the traces that exist."""
        return frozenset(infos_by_id(self._client, self._experiment_id, trace_ids))

    def delete(self, trace_ids: Collection[str]) -> int:
        """Delete traces, with the artifacts of those that have any; those that are gone already do not count."""
        found = infos_by_id(self._client, self._experiment_id, trace_ids)
        for info in found.values():
            self._delete_artifacts(info.tags)
        ids = sorted(found)
        return sum(
            self._client.delete_traces(
                experiment_id=self._experiment_id, trace_ids=ids[start : start + _TRACES_PER_DELETION]
            )
            for start in range(0, len(ids), _TRACES_PER_DELETION)
        )

    def _said(self, record: TraceRecord) -> frozenset[str]:
        reading = read_trace(record, pseudonym_key=self._key, vocabulary=self._vocabulary, mapping=self._mapping)
        outcome = reading.outcome
        said = (outcome.message, outcome.answer) if isinstance(outcome, ChatTurn) else ()
        return frozenset(one for one in said if one)

    def _delete_artifacts(self, tags: Mapping[str, str]) -> None:
        """Delete the files of a trace whose spans lie outside the tracking store: MLflow leaves them."""
        uri = tags.get(ARTIFACT_LOCATION)
        if uri and tags.get(SPANS_LOCATION) != TRACKING_STORE:
            delete_files(self._client, uri)


class MlflowRunFiles:
    """The text files of all runs of some experiments: data cards, tables, decisions.

    Those that hold a person's data are deleted.
    """

    name = "files of MLflow runs"

    def __init__(self, client: MlflowClient, experiment_ids: Sequence[str]) -> None:
        self._client = client
        self._experiment_ids = list(experiment_ids)

    def erase(self, marks: PersonMarks) -> int:
        """Delete the files that hold the person's data; returns how many."""
        found = list(self._holding(marks))
        for uri, path in found:
            delete_files(self._client, uri, path)
        return len(found)

    def holds(self, marks: PersonMarks) -> bool:
        """Return whether a file holds the person's data."""
        return any(True for _ in self._holding(marks))

    def _holding(self, marks: PersonMarks) -> Iterator[tuple[str, str]]:
        import mlflow
        from mlflow.entities import ViewType

        runs = all_pages(
            lambda token: self._client.search_runs(
                self._experiment_ids, run_view_type=ViewType.ALL, max_results=_PAGE, page_token=token
            )
        )
        for run in runs:
            for path in self._files(run.info.run_id, None):
                text = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/{path}")
                if marks.are_in(text.encode()):
                    yield str(run.info.artifact_uri), path

    def _files(self, run_id: str, folder: str | None) -> Iterator[str]:
        for one in self._client.list_artifacts(run_id, folder):
            if one.is_dir:
                yield from self._files(run_id, one.path)
            elif one.path.endswith(_TEXT_FILES) and (one.file_size or 0) <= _LARGEST_FILE:
                yield one.path


def delete_files(client: MlflowClient, uri: str, path: str | None = None) -> None:
    """Delete a file or all files at a place of the artifact store; what is gone already is fine."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(uri, tracking_uri=client.tracking_uri)
    try:
        repository.delete_artifacts(path)  # type: ignore[no-untyped-call]
    except FileNotFoundError:
        return
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


class MlflowTrainingRecords:
    """Runs of the training experiment by the digest they carry, and the model versions that name those runs."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self._client = client
        self._experiment_id = experiment_id

    def trained_on(self, digests: Collection[str]) -> list[TrainedModelVersion]:
        """Return the runs of these datasets, deleted ones included, with their model versions."""
        found: list[TrainedModelVersion] = []
        for digest in sorted(digests):
            for run in self._runs_of(digest):
                registered = [self._registered(digest, version) for version in self._versions_of(run.info.run_id)]
                found += registered or [TrainedModelVersion(dataset_digest=digest, run_id=run.info.run_id)]
        return found

    def _runs_of(self, digest: str) -> Iterator[Run]:
        from mlflow.entities import ViewType

        return all_pages(
            lambda token: self._client.search_runs(
                [self._experiment_id],
                f"tags.{DATASET_TAG} = '{digest}'",
                run_view_type=ViewType.ALL,
                max_results=_PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
        )

    def _versions_of(self, run_id: str) -> Iterator[MlflowModelVersion]:
        return all_pages(
            lambda token: self._client.search_model_versions(f"run_id='{run_id}'", max_results=_PAGE, page_token=token)
        )

    def _registered(self, digest: str, version: MlflowModelVersion) -> TrainedModelVersion:
        # A search leaves the aliases out.
        aliases = self._client.get_model_version(version.name, str(version.version)).aliases
        return TrainedModelVersion(
            dataset_digest=digest,
            run_id=version.run_id or "",
            model=version.name,
            version=str(version.version),
            aliases=tuple(sorted(aliases)),
        )
