"""Traces read through MLflow's REST interface: pages by start time, spans in batches, several at once."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from mangaassist_assets.core.bundles import validate_bundle
from mangaassist_assets.tracing.contract.names import Tag
from mangaassist_assets.tracing.contract.records import TraceRecord
from mangaassist_assets.tracing.ingestion.trace_sources import (
    AssessmentPosition,
    BundleSightings,
    TraceHeader,
    TracePosition,
    fingerprint_of,
)
from resources.mlflow.traces.records import SPANS_LOCATION, foreign_tags, in_order, state_of, to_record
from resources.mlflow.traces.span_json import SpanContentError
from resources.mlflow.traces.span_locations import (
    ARCHIVE,
    TRACKING_STORE,
    SpansUnavailableError,
    has_spans_elsewhere,
    load_spans,
    log_if_without_spans,
    log_without_spans,
)
from resources.mlflow.traces.wire import (
    NOT_FOUND,
    SEARCH_LIMIT,
    Json,
    TraceApi,
    TraceServerError,
    assessments_of,
    duration_of,
    record_of,
    timestamp_of,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

_THREADS = 4
# As many ids as fit into a request line of three kilobytes.
_BATCH = 50
_SPARE = 100
_FAILED = 500
# SQLite joins 64 tables at most, and each excluded bundle is one join.
_EXCLUDED_BUNDLES = 20
_DAMAGED = frozenset({400, _FAILED})
_SERVED = frozenset({TRACKING_STORE, ARCHIVE})

_Item = TypeVar("_Item")


class RestTraceSource:
    """The traces of one experiment."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._api = TraceApi(client)
        self._has_batches = True

    def traces_after(self, position: TracePosition | None, *, limit: int) -> list[TraceRecord]:
        """Return up to `limit` traces after a position, in order, with spans, those in progress included.

        A trace whose spans cannot be loaded comes without, and its id is logged.

        Raises:
            TraceServerError: The server refused, or answered every request for spans with an error.
        """
        records: list[TraceRecord] = []
        while len(records) < limit:
            wanted = limit - len(records)
            infos, found = self._with_spans(self._pages(position, wanted))
            records += found
            # Traces that were deleted in between leave room for others, unless there are no more.
            if len(found) == len(infos) or len(infos) < wanted:
                break
            position = TracePosition(timestamp_ms=timestamp_of(infos[-1]), trace_id=infos[-1]["trace_id"])
        return sorted(records, key=lambda record: (record.timestamp_ms, record.trace_id))

    def headers_after(
        self, position: TracePosition | None, *, limit: int, release_bundle: str | None = None
    ) -> list[TraceHeader]:
        """Return the same traces without spans; with `release_bundle` only those with that tag.

        Raises:
            InvalidBundleError: The key is not valid, and must not reach the filter.
        """
        tagged = "" if release_bundle is None else f"tags.{Tag.RELEASE_BUNDLE} = '{validate_bundle(release_bundle)}'"
        return [_header(info) for page in self._pages(position, limit, tagged) for info in page]

    def traces_by_id(self, trace_ids: Sequence[str]) -> list[TraceRecord]:
        """Return the traces with these ids that exist, in order, with spans."""
        _, found = self._with_spans(self._infos(trace_ids))
        return sorted(found, key=lambda record: (record.timestamp_ms, record.trace_id))

    def headers_by_id(self, trace_ids: Sequence[str]) -> list[TraceHeader]:
        """Return the headers of the traces with these ids that exist, in order."""
        return [_header(info) for info in _sorted(info for batch in self._infos(trace_ids) for info in batch)]

    def assessed_after(self, position: AssessmentPosition | None, *, limit: int) -> None:  # noqa: ARG002
        """Return None: MLflow's search knows no order of assessments."""
        return

    def bundles_since(self, timestamp_ms: int, *, known: Collection[str] = ()) -> BundleSightings:
        """Return the bundles of traces that started after a time; with `known`, all other bundles at any time as well.

        Cheaper with few traces since, and few bundles: the search has no list of distinct tags.
        """
        after = TracePosition(timestamp_ms=timestamp_ms + 1)
        recent = [(timestamp_of(info), _bundle(info)) for page in self._pages(after, sys.maxsize) for info in page]
        found = {bundle for _, bundle in recent if bundle}
        if known:
            seen = set(known) | found
            excluded = [name for name in sorted(seen, reverse=True) if "'" not in name][:_EXCLUDED_BUNDLES]
            others = _all_of(*(f"tags.{Tag.RELEASE_BUNDLE} != '{name}'" for name in excluded))
            late = {_bundle(info) for page in self._pages(None, sys.maxsize, others) for info in page}
            found |= {bundle for bundle in late if bundle and bundle not in seen}
        newest = max((started for started, _ in recent), default=0)
        return BundleSightings(bundles=tuple(sorted(found)), newest_ms=newest, traces=len(recent))

    def _infos(self, trace_ids: Sequence[str]) -> Iterator[list[Json]]:
        return (self._api.infos(self._experiment_id, batch) for batch in _batches(list(dict.fromkeys(trace_ids))))

    # Pages

    def _pages(self, position: TracePosition | None, limit: int, condition: str = "") -> Iterator[list[Json]]:
        """Yield traces without spans in order, until there are `limit` of them or no more.

        A page is cut by start time and never by offset, since traces written meanwhile shift offsets. Its last
        millisecond may be incomplete and is read again with the next page.
        """
        since, left = position, limit
        while left > 0:
            started = "" if since is None else f"timestamp_ms >= {since.timestamp_ms}"
            found, token = self._api.search(
                self._experiment_id, _all_of(condition, started), limit=min(SEARCH_LIMIT, left + _SPARE)
            )
            following: TracePosition | None = None
            if token and found:
                last = timestamp_of(found[-1])
                whole = [info for info in found if timestamp_of(info) < last]
                following = TracePosition(timestamp_ms=last)
                if not whole:
                    whole = self._millisecond(last, condition)
                    following = TracePosition(timestamp_ms=last + 1)
                found = whole
            page = [info for info in _sorted(found) if since is None or _position(info) > since][:left]
            if page:
                yield page
            left -= len(page)
            if following is None:
                return
            since = following

    def _millisecond(self, moment: int, condition: str) -> list[Json]:
        """Return all traces of a millisecond that has more of them than a page: only here an offset is needed."""
        found: dict[str, Json] = {}
        token: str | None = None
        while True:
            page, token = self._api.search(
                self._experiment_id,
                _all_of(condition, f"timestamp_ms = {moment}"),
                limit=SEARCH_LIMIT,
                token=token,
            )
            found.update((info["trace_id"], info) for info in page)
            if not token or not page:
                return list(found.values())

    # Spans

    def _with_spans(self, pages: Iterable[list[Json]]) -> tuple[list[Json], list[TraceRecord]]:
        """Return all traces of the pages and, of those that still exist, the records."""
        infos: list[Json] = []
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="trace-reader") as pool:
            waiting = []
            for page in pages:
                infos += page
                waiting += [pool.submit(self._batch, batch) for batch in _batches(page)]
            return infos, [record for one in waiting for record in one.result()]

    def _batch(self, infos: Sequence[Json]) -> list[TraceRecord]:
        served = [info for info in infos if _location(info) in _SERVED]
        got = self._served(served)
        records = list(got.values())
        records += self._singly([info for info in served if info["trace_id"] not in got])
        records += [self._from_artifacts(info) for info in infos if _location(info) not in _SERVED]
        return records

    def _served(self, infos: Sequence[Json]) -> dict[str, TraceRecord]:
        """Return the records of the traces that the server gives out whole; none where one of them is damaged."""
        if not infos or not self._has_batches:
            return {}
        try:
            traces = self._api.traces([info["trace_id"] for info in infos])
        except TraceServerError as error:
            if error.status == NOT_FOUND:
                # Traces that do not exist are left out of an answer: this is a server that knows no batches.
                self._has_batches = False
            elif error.status not in _DAMAGED:
                raise
            return {}
        found = (_or_without_spans(trace["trace_info"], trace.get("spans", ())) for trace in traces)
        return {record.trace_id: record for record in found}

    def _singly(self, infos: Sequence[Json]) -> list[TraceRecord]:
        """Return traces one by one: damaged ones, those not whole yet, and not those that are gone."""
        if not self._has_batches:
            return [self._by_client(info) for info in infos]
        records: list[TraceRecord] = []
        refused: list[TraceServerError] = []
        for info in infos:
            try:
                trace = self._api.trace(info["trace_id"])
            except TraceServerError as error:
                if error.status == NOT_FOUND:
                    continue
                if error.status not in _DAMAGED:
                    raise
                refused.append(error)
                records.append(_without_spans(info, error))
            else:
                records.append(_or_without_spans(trace["trace_info"], trace.get("spans", ())))
        if len(refused) == len(infos) > 1 and all(error.status == _FAILED for error in refused):
            # Not one could be read: the server is in trouble, and the traces need not be damaged.
            raise refused[0]
        return records

    def _by_client(self, info: Json) -> TraceRecord:
        from mlflow.exceptions import MlflowException

        try:
            return to_record(self._client.get_trace(info["trace_id"], display=False))
        except MlflowException as error:
            return _without_spans(info, error)

    def _from_artifacts(self, info: Json) -> TraceRecord:
        bare = record_of(info, ())
        tags: dict[str, str] = info.get("tags", {})
        if not has_spans_elsewhere(tags, bare.state):
            return bare
        try:
            return replace(bare, spans=in_order(load_spans(tags, tracking_uri=self._client.tracking_uri)))
        except SpansUnavailableError as error:
            return _without_spans(info, error)


def _batches(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    return (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))


def _all_of(*conditions: str) -> str:
    return " AND ".join(filter(None, conditions))


def _sorted(infos: Iterable[Json]) -> list[Json]:
    return sorted(infos, key=_position)


def _position(info: Json) -> TracePosition:
    return TracePosition(timestamp_ms=timestamp_of(info), trace_id=info["trace_id"])


def _location(info: Json) -> str | None:
    return info.get("tags", {}).get(SPANS_LOCATION)  # type: ignore[no-any-return]


def _bundle(info: Json) -> str | None:
    return info.get("tags", {}).get(Tag.RELEASE_BUNDLE)  # type: ignore[no-any-return]


def _header(info: Json) -> TraceHeader:
    state = state_of(info.get("state"))
    return TraceHeader(
        trace_id=info["trace_id"],
        timestamp_ms=timestamp_of(info),
        state=state,
        fingerprint=fingerprint_of(
            state=state,
            duration_ms=duration_of(info),
            tags=foreign_tags(info.get("tags", {})),
            assessments=assessments_of(info),
        ),
    )


def _or_without_spans(info: Json, spans: Iterable[Json]) -> TraceRecord:
    try:
        record = record_of(info, spans)
    except SpanContentError as error:
        return _without_spans(info, error)
    log_if_without_spans(record)
    return record


def _without_spans(info: Json, error: Exception) -> TraceRecord:
    log_without_spans(info["trace_id"], error)
    return record_of(info, ())
