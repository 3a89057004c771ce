"""Traces as they come to rest: read once in order, looked after when they change, redacted before they are written.

`TraceIngestion.advance` reads what is new: traces behind the frontier, late ones within the overlap, those that were
still being written, and those that were assessed since. Its cost is that of what is new, whatever the history.
`TraceIngestion.reconcile` compares one release bundle with the source, header by header, and reads what differs: late
tags, traces written long after their start time, traces that moved to another bundle or were deleted.
`TraceIngestion.sweep` compares everything, for late traces that name no bundle.

An ingested row is a turn or a quarantined trace; a newer row of the same trace takes its place. Reading a trace again
therefore never hurts, and a reading that was killed goes on at the page it had reached.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import polars as pl

from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.ingestion_tables import PARTITION, Checkpoint, IngestionConflictError, IngestionTable
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.privacy import Vocabulary
from mangaassist_assets.tracing.contract.records import TraceRecord
from mangaassist_assets.tracing.ingestion.ingested_traces import (
    INGESTED_SCHEMA,
    NO_BUNDLE,
    BundleTraces,
    IngestedTraces,
    ingested_row,
    tombstone,
)
from mangaassist_assets.tracing.ingestion.trace_sources import (
    AssessmentPosition,
    TraceHeader,
    TracePosition,
    TraceSource,
    fingerprint,
    header_pages,
)
from mangaassist_assets.tracing.reading.mapping import TraceMapping, read_mapping
from mangaassist_assets.tracing.reading.turn_reader import CONTRACT_VERSION, read_trace

OVERLAP_MS = 10 * 60 * 1000
"""How far behind the newest trace the reader looks for traces that were stored late."""
GIVE_UP_MS = 24 * 60 * 60 * 1000
"""After this age a trace that is still being written goes to quarantine; it is read again when it changes."""
_CLOCKS_DIFFER_MS = 60 * 1000
_ATTEMPTS = 5
_COMPACT_EVERY = 64

Progress = Callable[[int], None]


@dataclass(slots=True, kw_only=True)
class TraceCounts:
    """What one reading did, in traces. `waiting` are those still being written, `erased` those of erased users."""

    turns: int = 0
    quarantined: int = 0
    erased: int = 0
    gone: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class _State:
    """The checkpoint's value. `open` are traces in progress by id, with their start time."""

    frontier: TracePosition | None = None
    assessed: AssessmentPosition | None = None
    open: Mapping[str, int] = field(default_factory=dict)


class TraceIngestion:
    """Ingests the traces of one source in one table."""

    def __init__(
        self,
        table: IngestionTable,
        source: TraceSource,
        *,
        erased_users: Collection[str] = frozenset(),
        pseudonym_key: bytes | None = None,
        vocabulary: Vocabulary | None = None,
        mapping: TraceMapping | None = None,
        page: int = 500,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        progress: Progress = lambda _: None,
    ) -> None:
        """Name a source, and a table in INGESTED_SCHEMA.

        Turns of `erased_users` (pseudonyms) leave nothing but a mark that they were read. Traces that were read with
        another vocabulary or mapping (see `read_trace`) are read again when they are compared. A `page` is the traces
        of one request and one commit; `progress` is called after each commit with the traces ingested so far.
        """
        self._table = table
        self._source = source
        self._erased = erased_users
        self._ingested = IngestedTraces(table, erased_users=erased_users)
        self._key = pseudonym_key
        self._vocabulary = vocabulary
        self._mapping = mapping or read_mapping()
        words = "" if vocabulary is None else vocabulary.digest
        self._reader = f"{CONTRACT_VERSION}.{self._mapping.digest[:16]}.{words}"
        self._page = page
        self._now_ms = now_ms
        self._progress = progress

    def advance(self) -> TraceCounts:
        """Read what is new since the last reading, all bundles; returns what was ingested.

        Raises:
            IngestionConflictError: Other processes ingest all the time; nothing is lost, run again.
        """
        ingested = TraceCounts()
        self._retried(lambda: self._start(ingested))
        self._retried(lambda: self._look_back(ingested))
        self._retried(lambda: self._look_after_open(ingested))
        self._retried(lambda: self._go_on(ingested))
        self._retried(lambda: self._read_assessed(ingested))
        _, state = self._load()
        ingested.waiting = len(state.open)
        return ingested

    def reconcile(self, release_bundle: str) -> TraceCounts:
        """Compare a bundle with the source and read what differs; returns what was ingested.

        Raises:
            IngestionConflictError: As in `advance`.
        """
        ingested = TraceCounts()
        self._retried(lambda: self._reconcile(release_bundle, ingested))
        return ingested

    def sweep(self) -> TraceCounts:
        """Compare every trace of the source with what is ingested; finds late traces that belong to no bundle.

        Raises:
            IngestionConflictError: As in `advance`.
        """
        ingested = TraceCounts()
        self._retried(lambda: self._sweep(ingested))
        return ingested

    def bundle(self, release_bundle: str) -> BundleTraces:
        """Return what is ingested of a bundle."""
        return self._ingested.bundle(release_bundle)

    def unassigned(self) -> pl.DataFrame:
        """Return the quarantined traces that name no valid release bundle, in QUARANTINE_SCHEMA."""
        return self._ingested.unassigned()

    # The steps of a reading. Each can be done again from the start at no harm.

    def _retried(self, step: Callable[[], None]) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                return step()
            except IngestionConflictError:
                if attempt == _ATTEMPTS - 1:
                    raise
        return None

    def _start(self, ingested: TraceCounts) -> None:
        """Remember, before the first trace is read, from when on assessments have to be looked for."""
        checkpoint, state = self._load()
        if state.assessed is None and self._source.assessed_after(None, limit=1) is not None:
            since = AssessmentPosition(timestamp_ms=self._now_ms() - OVERLAP_MS)
            self._commit(checkpoint, [], _State(state.frontier, since, state.open), ingested)

    def _look_back(self, ingested: TraceCounts) -> None:
        """Find traces that appeared behind the frontier, as far as the overlap reaches."""
        _, state = self._load()
        frontier = state.frontier
        if frontier is None:
            return
        overlap = TracePosition(timestamp_ms=frontier.timestamp_ms - OVERLAP_MS)
        for headers in header_pages(self._source, page=self._page, after=overlap):
            within = [one for one in headers if one.position <= frontier]
            # A trace may end before all its spans are stored, which no header says: one in quarantine is read again.
            self._ingest_changed(within, ingested, trusting_quarantine=False)
            if len(within) < len(headers):
                return

    def _look_after_open(self, ingested: TraceCounts) -> None:
        _, state = self._load()
        for ids in _portions(sorted(state.open), self._page):
            headers = {one.trace_id: one for one in self._source.headers_by_id(ids)}
            self._forget_open([trace_id for trace_id in ids if trace_id not in headers], ingested)
            self._ingest_changed(list(headers.values()), ingested)

    def _go_on(self, ingested: TraceCounts) -> None:
        while True:
            checkpoint, state = self._load()
            records = self._source.traces_after(state.frontier, limit=self._page)
            if records:
                last = records[-1]
                frontier = TracePosition(timestamp_ms=last.timestamp_ms, trace_id=last.trace_id)
                self._ingest(checkpoint, state, records, ingested, frontier=frontier)
            if len(records) < self._page:
                return

    def _read_assessed(self, ingested: TraceCounts) -> None:
        """Find traces that were assessed; assessments carry their writers' clocks, so a little is looked at again."""
        _, state = self._load()
        if state.assessed is None:
            return
        position = AssessmentPosition(timestamp_ms=state.assessed.timestamp_ms - _CLOCKS_DIFFER_MS)
        while True:
            found = self._source.assessed_after(position, limit=self._page)
            if found is None or found.position is None:
                return
            self._ingest_changed(self._source.headers_by_id(found.trace_ids), ingested)
            position = found.position
            checkpoint, state = self._load()
            if state.assessed is None or position > state.assessed:
                self._commit(checkpoint, [], _State(state.frontier, position, state.open), ingested)
            if found.at_end:
                return

    def _reconcile(self, release_bundle: str, ingested: TraceCounts) -> None:
        known = self._ingested.known(release_bundle, ("turn", "quarantined", "erased"))
        listed: set[str] = set()
        for headers in header_pages(self._source, page=self._page, release_bundle=release_bundle):
            listed.update(one.trace_id for one in headers)
            self._ingest_listed([one for one in headers if not self._is_known(one, known)], ingested)
        for ids in _portions(sorted(set(known) - listed), self._page):
            self._leave(release_bundle, {one: known[one][1] for one in ids}, ingested)
        self._recheck_unassigned(ingested)

    def _sweep(self, ingested: TraceCounts) -> None:
        for headers in header_pages(self._source, page=self._page):
            self._ingest_changed(headers, ingested)

    def _recheck_unassigned(self, ingested: TraceCounts) -> None:
        """Look again at traces that named no bundle: somebody may have given them one."""
        known = self._ingested.known(NO_BUNDLE, ("quarantined",))
        for ids in _portions(sorted(known), self._page):
            headers = {one.trace_id: one for one in self._source.headers_by_id(ids)}
            same = {one for one, header in headers.items() if self._is_known(header, known)}
            self._leave(NO_BUNDLE, {one: known[one][1] for one in ids if one not in same}, ingested)

    def _is_known(self, header: TraceHeader, known: Mapping[str, tuple[str, int]]) -> bool:
        return header.trace_id in known and known[header.trace_id][0] == self._mark(header)

    # Ingestion

    def _ingest_changed(
        self, headers: Sequence[TraceHeader], ingested: TraceCounts, *, trusting_quarantine: bool = True
    ) -> None:
        if not headers:
            return
        kinds = ("turn", "erased", "quarantined") if trusting_quarantine else ("turn", "erased")
        known = self._ingested.marks(headers, kinds)
        self._ingest_listed([one for one in headers if known.get(one.trace_id) != self._mark(one)], ingested)

    def _ingest_listed(self, headers: Sequence[TraceHeader], ingested: TraceCounts) -> None:
        _, state = self._load()
        # A trace that is known to be in progress and still is can wait.
        due = [
            one.trace_id
            for one in headers
            if one.state != "IN_PROGRESS" or one.trace_id not in state.open or self._is_given_up(one.timestamp_ms)
        ]
        for ids in _portions(due, self._page):
            checkpoint, state = self._load()
            self._ingest(checkpoint, state, self._source.traces_by_id(ids), ingested)

    def _is_given_up(self, timestamp_ms: int) -> bool:
        return self._now_ms() - timestamp_ms > GIVE_UP_MS

    def _ingest(
        self,
        checkpoint: Checkpoint,
        state: _State,
        records: Iterable[TraceRecord],
        ingested: TraceCounts,
        *,
        frontier: TracePosition | None = None,
    ) -> None:
        """Commit the rows of some traces; those in progress are remembered, and leave what was ingested of them."""
        rows, waiting = self._rows(records, checkpoint, state)
        if rows or frontier is not None or waiting != state.open:
            self._commit(checkpoint, rows, _State(frontier or state.frontier, state.assessed, waiting), ingested)

    def _rows(
        self, records: Iterable[TraceRecord], checkpoint: Checkpoint, state: _State
    ) -> tuple[list[dict[str, Any]], dict[str, int]]:
        sequence = checkpoint.number + 1
        waiting = dict(state.open)
        rows: dict[str, dict[str, Any]] = {}
        for record in records:
            reading = read_trace(record, pseudonym_key=self._key, vocabulary=self._vocabulary, mapping=self._mapping)
            mark = f"{record.timestamp_ms}-{fingerprint(record)}-{self._reader}"
            row = ingested_row(reading, sequence=sequence, fingerprint=mark, erased_users=self._erased)
            if record.state == "IN_PROGRESS" and not self._is_given_up(record.timestamp_ms):
                waiting[record.trace_id] = record.timestamp_ms
                row = tombstone(record.trace_id, record.timestamp_ms, row[PARTITION], sequence)
            else:
                waiting.pop(record.trace_id, None)
            rows[record.trace_id] = row
        return list(rows.values()), waiting

    def _leave(self, release_bundle: str, started: Mapping[str, int], ingested: TraceCounts) -> None:
        """Mark traces as gone from a bundle; those that are elsewhere in the source are ingested there.

        `started` are their ingested start times by id.
        """
        if not started:
            return
        checkpoint, state = self._load()
        rows, waiting = self._rows(self._source.traces_by_id(sorted(started)), checkpoint, state)
        stays = {row["trace_id"] for row in rows if row[PARTITION] == release_bundle}
        rows += [
            tombstone(one, timestamp_ms, release_bundle, checkpoint.number + 1)
            for one, timestamp_ms in started.items()
            if one not in stays
        ]
        self._commit(checkpoint, rows, _State(state.frontier, state.assessed, waiting), ingested)

    def _forget_open(self, trace_ids: Sequence[str], ingested: TraceCounts) -> None:
        if trace_ids:
            checkpoint, state = self._load()
            left = {trace_id: start for trace_id, start in state.open.items() if trace_id not in trace_ids}
            self._commit(checkpoint, [], _State(state.frontier, state.assessed, left), ingested)

    def _load(self) -> tuple[Checkpoint, _State]:
        checkpoint = self._table.checkpoint()
        try:
            return checkpoint, from_json(_State, canonical_json(checkpoint.value))
        except ValueError as error:
            msg = f"another version of this program ingested traces here ({error}): move the trace ingestion away"
            raise IngestionConflictError(msg) from error

    def _commit(self, checkpoint: Checkpoint, rows: list[dict[str, Any]], state: _State, ingested: TraceCounts) -> None:
        frame = pl.DataFrame(rows, schema=INGESTED_SCHEMA, orient="row")
        written = self._table.append(frame, after=checkpoint, value=asdict(state))
        if written.number % _COMPACT_EVERY == 0:
            # In the middle of a long reading too: every file makes each further commit dearer.
            self._table.compact()
        kinds = Counter(row["kind"] for row in rows)
        ingested.turns += kinds["turn"]
        ingested.quarantined += kinds["quarantined"]
        ingested.erased += kinds["erased"]
        ingested.gone += kinds["gone"]
        if rows:
            self._progress(ingested.turns + ingested.quarantined)

    def _mark(self, header: TraceHeader) -> str:
        """Return a mark that differs where a trace, or the way of reading it, is not what is ingested.

        A trace that was written anew may begin elsewhere.
        """
        return f"{header.timestamp_ms}-{header.fingerprint}-{self._reader}"


def _portions(items: Sequence[str], size: int) -> Iterator[list[str]]:
    remaining = iter(items)
    while portion := list(islice(remaining, size)):
        yield portion
