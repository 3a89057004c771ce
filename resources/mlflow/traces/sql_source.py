"""Traces read from MLflow's tracking store by SQL: keyset pages, and each page in one read-only transaction."""

from __future__ import annotations

import gc
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mangaassist_assets.tracing.contract.records import AssessmentRecord, SpanRecord, TraceRecord
from mangaassist_assets.tracing.ingestion.trace_sources import (
    AssessedTraces,
    AssessmentPosition,
    BundleSightings,
    TraceHeader,
    TracePosition,
    fingerprint_of,
)
from resources.mlflow.traces.records import (
    assessment_record,
    build_record,
    foreign_tags,
    json_value,
    log_without_assessment,
    state_of,
)
from resources.mlflow.traces.span_json import SpanContentError, stored_span
from resources.mlflow.traces.span_locations import (
    gather,
    has_spans_elsewhere,
    load_spans,
    log_if_without_spans,
    log_without_spans,
)
from resources.mlflow.traces.sql_queries import TraceQueries
from resources.mlflow.traces.store import TrackingStore, TrackingStoreError

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.engine import Connection, Row

_BATCH = 500
_EVER = -1
_SESSION = "mlflow.trace.session"
_TOKEN_USAGE = "mlflow.trace.tokenUsage"  # noqa: S105  # a name of MLflow
_COST = "mlflow.trace.cost"
_PROMOTED = frozenset({_SESSION, _TOKEN_USAGE, _COST})
_TOKENS = (
    *("input_tokens", "output_tokens", "total_tokens", "cache_read_input_tokens"),
    *("cache_creation_input_tokens", "cache_creation_input_tokens_above_1hr"),
)
_COSTS = ("input_cost", "output_cost", "total_cost")


@dataclass(slots=True)
class _Parts:
    """What belongs to the traces of one batch, by trace id."""

    tags: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    metadata: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    assessments: dict[str, list[AssessmentRecord]] = field(default_factory=lambda: defaultdict(list))
    contents: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


class SqlTraceSource:
    """The traces of one experiment."""

    def __init__(
        self,
        store: TrackingStore,
        experiment_id: str,
        *,
        experiment_name: str | None = None,
        tracking_uri: str | None = None,
    ) -> None:
        """Name an experiment of a store.

        Args:
            store: The tracking store.
            experiment_id: MLflow's id of the experiment, a number.
            experiment_name: Its name, to make sure that the store is the one behind the server that gave the id.
            tracking_uri: The MLflow server, for spans in its artifact store; None where it is not needed.

        Raises:
            TrackingStoreError: The id is no number.
        """
        if not experiment_id.isdecimal():
            raise TrackingStoreError(f"experiment id {experiment_id[:50]!r} is not a number, as ids of MLflow are")
        self._store = store
        self._experiment_id = int(experiment_id)
        self._experiment_name = experiment_name
        self._tracking_uri = tracking_uri
        self._queries: TraceQueries | None = None

    def traces_after(self, position: TracePosition | None, *, limit: int) -> list[TraceRecord]:
        """Return up to `limit` traces after a position, in order, with spans, those in progress included.

        A trace whose spans cannot be loaded comes without, and its id is logged.
        """
        return self._records(self._made().page(position, limit))

    def headers_after(
        self, position: TracePosition | None, *, limit: int, release_bundle: str | None = None
    ) -> list[TraceHeader]:
        """Return the same traces without spans; with `release_bundle` only those with that tag."""
        return self._headers(self._made().page(position, limit, release_bundle=release_bundle))

    def traces_by_id(self, trace_ids: Sequence[str]) -> list[TraceRecord]:
        """Return the traces with these ids that exist, in order, with spans."""
        found = [record for batch in _batches(trace_ids) for record in self._records(self._made().by_id(batch))]
        return sorted(found, key=lambda record: (record.timestamp_ms, record.trace_id))

    def headers_by_id(self, trace_ids: Sequence[str]) -> list[TraceHeader]:
        """Return the headers of the traces with these ids that exist, in order."""
        found = [header for batch in _batches(trace_ids) for header in self._headers(self._made().by_id(batch))]
        return sorted(found, key=lambda header: (header.timestamp_ms, header.trace_id))

    def assessed_after(self, position: AssessmentPosition | None, *, limit: int) -> AssessedTraces:
        """Return what was assessed after a position, in the order in which assessments were written or changed."""
        with self._store.transaction() as connection:
            rows = connection.execute(self._made().assessed(position, limit)).all()
        if not rows:
            return AssessedTraces(trace_ids=(), position=position, at_end=True)
        last = rows[-1]
        return AssessedTraces(
            trace_ids=tuple(dict.fromkeys(row.trace_id for row in rows)),
            position=AssessmentPosition(timestamp_ms=last.last_updated_timestamp, assessment_id=last.assessment_id),
            at_end=len(rows) < limit,
        )

    def bundles_since(self, timestamp_ms: int, *, known: Collection[str] = ()) -> BundleSightings:
        """Return the bundles of traces that started after a time; with `known`, all other bundles at any time as well.

        `known` may name any number of bundles.
        """
        queries = self._made()
        with self._store.transaction() as connection:
            newest, count = connection.execute(queries.totals_since(timestamp_ms)).one()
            found = set(connection.execute(queries.bundles_since(timestamp_ms)).scalars())
            if known:
                found |= set(connection.execute(queries.bundles_since(_EVER)).scalars()) - set(known)
        return BundleSightings(bundles=tuple(sorted(filter(None, found))), newest_ms=newest or 0, traces=count)

    def _made(self) -> TraceQueries:
        if self._queries is None:
            with self._store.transaction() as connection:
                queries = TraceQueries(self._experiment_id, c_collation=self._store.is_postgresql)
                name = connection.execute(queries.experiment()).scalar()
            if name is None or (self._experiment_name or name) != name:
                raise TrackingStoreError(
                    f"experiment {self._experiment_id} is {name!r} in the tracking store and "
                    f"{self._experiment_name!r} on the server: tracking_store_uri names the store of another server"
                )
            self._queries = queries
        return self._queries

    def _headers(self, statement: sa.Select[Any]) -> list[TraceHeader]:
        with self._store.transaction() as connection:
            rows = connection.execute(statement).all()
            parts = self._parts(connection, [row.request_id for row in rows], whole=False)
        return [_header(row, parts) for row in rows]

    def _records(self, statement: sa.Select[Any]) -> list[TraceRecord]:
        with _collector_paused():
            with self._store.transaction() as connection:
                rows = connection.execute(statement).all()
                parts = self._parts(connection, [row.request_id for row in rows], whole=True)
            away = [
                row.request_id for row in rows if has_spans_elsewhere(parts.tags[row.request_id], state_of(row.status))
            ]
            loaded = gather(away, lambda trace_id: load_spans(parts.tags[trace_id], tracking_uri=self._tracking_uri))
            return [_record(row, parts, loaded) for row in rows]

    def _parts(self, connection: Connection, trace_ids: Sequence[str], *, whole: bool) -> _Parts:
        queries, parts = self._made(), _Parts()
        for batch in _batches(trace_ids):
            for trace_id, key, value in connection.execute(queries.tags, {"ids": batch}).all():
                parts.tags[trace_id][key] = value
            rows = connection.execute(queries.assessments, {"ids": batch}).all()
            for row in sorted(rows, key=lambda row: (_updated(row), row.assessment_id)):
                if (assessment := _assessment(row)) is not None:
                    parts.assessments[row.trace_id].append(assessment)
            if not whole:
                continue
            for trace_id, key, value in connection.execute(queries.metadata, {"ids": batch}).all():
                parts.metadata[trace_id][key] = value
            for trace_id, content in connection.execute(queries.spans, {"ids": batch}).all():
                parts.contents[trace_id].append(content)
        return parts


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the garbage collector from looking through the page again and again while it grows: a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _batches(trace_ids: Sequence[str]) -> Iterable[list[str]]:
    wanted = list(dict.fromkeys(trace_ids))
    return (wanted[start : start + _BATCH] for start in range(0, len(wanted), _BATCH))


def _header(row: Row[Any], parts: _Parts) -> TraceHeader:
    state = state_of(row.status)
    return TraceHeader(
        trace_id=row.request_id,
        timestamp_ms=row.timestamp_ms,
        state=state,
        fingerprint=fingerprint_of(
            state=state,
            duration_ms=row.execution_time_ms or 0,
            tags=foreign_tags(parts.tags[row.request_id]),
            assessments=parts.assessments[row.request_id],
        ),
    )


def _record(row: Row[Any], parts: _Parts, loaded: Mapping[str, Iterable[SpanRecord]]) -> TraceRecord:
    trace_id: str = row.request_id
    metadata = {key: value for key, value in parts.metadata[trace_id].items() if key not in _PROMOTED}
    spans, damage = loaded.get(trace_id, ()), None
    if trace_id not in loaded:
        try:
            spans = [stored_span(content) for content in parts.contents[trace_id] if content]
        except SpanContentError as error:
            damage = error
    record = build_record(
        trace_id=trace_id,
        timestamp_ms=row.timestamp_ms,
        duration_ms=row.execution_time_ms,
        state=row.status,
        tags=parts.tags[trace_id],
        metadata=metadata | _promoted(row),
        spans=spans,
        assessments=parts.assessments[trace_id],
    )
    if damage is not None:
        log_without_spans(trace_id, damage)
    elif trace_id not in loaded:
        log_if_without_spans(record)
    return record


def _promoted(row: Row[Any]) -> dict[str, str]:
    """Return the metadata that MLflow keeps in columns, in the form in which its REST interface returns them."""
    metadata = {} if row.session_id is None else {_SESSION: row.session_id}
    for key, columns in ((_TOKEN_USAGE, _TOKENS), (_COST, _COSTS)):
        if values := {column: value for column in columns if (value := getattr(row, column)) is not None}:
            metadata[key] = json.dumps(values)
    return metadata


def _updated(row: Row[Any]) -> int:
    return int(row.last_updated_timestamp or row.created_timestamp or 0)


def _assessment(row: Row[Any]) -> AssessmentRecord | None:
    try:
        value = json_value(row.value)
    except ValueError:
        log_without_assessment(row.assessment_id, row.trace_id)
        return None
    return assessment_record(
        name=row.name,
        kind=row.assessment_type,
        value=value,
        source_type=row.source_type,
        source_id=row.source_id,
        timestamp_ms=_updated(row),
    )
