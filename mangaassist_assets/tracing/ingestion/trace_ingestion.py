"""Traces as they come to rest: read once in order, looked after when they change, redacted before they are written.

`TraceLanding.advance` reads what is new: traces behind the frontier, late ones within the overlap, those that were
still being written, and those that were assessed since. Its cost is that of what is new, whatever the history.
`TraceLanding.reconcile` compares one release bundle with the source, header by header, and reads what differs: late
tags, traces written long after their start time, traces that moved to another bundle or were deleted.
`TraceLanding.sweep` compares everything, for late traces that name no bundle.

A landed row is a turn or a quarantined trace; a newer row of the same trace takes its place. Reading a trace again
therefore never hurts, and a reading that was killed goes on at the page it had reached.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import polars as pl

from mangaassist_assets.core.ingestion_tables import PARTITION, Checkpoint, LandingConflictError, LandingTable
from mangaassist_assets.privacy import Vocabulary
from mangaassist_assets.tracing.contract.mapping import TraceMapping, read_mapping
from mangaassist_assets.tracing.contract.records import TraceRecord
from mangaassist_assets.tracing.contract.turn_reader import CONTRACT_VERSION, TraceReading, read_trace
from mangaassist_assets.tracing.ingestion.ingested_rows import LANDED_SCHEMA, NO_BUNDLE, landed_row, tombstone
from mangaassist_assets.tracing.ingestion.ingested_traces import BundleTraces, LandedTraces
from mangaassist_assets.tracing.ingestion.ingestion_state import Landed, LandingState
from mangaassist_assets.tracing.ingestion.trace_sources import (
    AssessmentPosition,
    TraceHeader,
    TracePosition,
    TraceSource,
    fingerprint,
)

OVERLAP_MS = 10 * 60 * 1000
"""How far behind the newest trace the reader looks for traces that were stored late."""
GIVE_UP_MS = 24 * 60 * 60 * 1000
"""After this age a trace that is still being written goes to quarantine; it is read again when it changes."""
_CLOCKS_DIFFER_MS = 60 * 1000
_ATTEMPTS = 5
_COMPACT_EVERY = 64

Progress = Callable[[int], None]


class TraceLanding:
    """Lands the traces of one source in one table."""

    def __init__(
        self,
        table: LandingTable,
        source: TraceSource,
        *,
        erased_users: Collection[str] = frozenset(),
        pseudonym_key: bytes | None = None,
        vocabulary: Vocabulary | None = None,
        mapping: TraceMapping | None = None,
        page: int = 500,
        overlap_ms: int = OVERLAP_MS,
        give_up_ms: int = GIVE_UP_MS,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        progress: Progress = lambda _: None,
    ) -> None:
        """Name source and table.

        Args:
            table: A landing table in LANDED_SCHEMA.
            source: Where traces are read.
            erased_users: Pseudonyms of users whose turns leave nothing but a mark that they were read.
            pseudonym_key: See `read_trace`.
            vocabulary: See `read_trace`; traces that were read with other words are read again when they are compared.
            mapping: See `read_trace`; traces that were read through another mapping are read again likewise.
            page: Traces of one request and one commit.
            overlap_ms: See OVERLAP_MS.
            give_up_ms: See GIVE_UP_MS.
            now_ms: The clock, milliseconds since the epoch.
            progress: Called after each commit with the traces landed so far.
        """
        self._table = table
        self._source = source
        self._erased = erased_users
        self._landed = LandedTraces(table, erased_users=erased_users)
        self._key = pseudonym_key
        self._vocabulary = vocabulary
        self._mapping = mapping or read_mapping()
        words = "" if vocabulary is None else vocabulary.digest
        self._reader = f"{CONTRACT_VERSION}.{self._mapping.digest[:16]}.{words}"
        self._page = page
        self._overlap_ms = overlap_ms
        self._give_up_ms = give_up_ms
        self._now_ms = now_ms
        self._progress = progress

    def advance(self) -> Landed:
        """Read what is new since the last reading, all bundles; returns what was landed.

        Raises:
            LandingConflictError: Other processes land all the time; nothing is lost, run again.
        """
        landed = Landed()
        self._retried(lambda: self._start(landed))
        self._retried(lambda: self._look_back(landed))
        self._retried(lambda: self._look_after_open(landed))
        self._retried(lambda: self._go_on(landed))
        self._retried(lambda: self._read_assessed(landed))
        checkpoint = self._table.checkpoint()
        landed.waiting = len(LandingState.from_json(checkpoint.value).open)
        if checkpoint.number and checkpoint.number % _COMPACT_EVERY == 0:
            self._table.compact()
        return landed

    def reconcile(self, release_bundle: str) -> Landed:
        """Compare a bundle with the source and read what differs; returns what was landed.

        Raises:
            LandingConflictError: As in `advance`.
        """
        landed = Landed()
        self._retried(lambda: self._reconcile(release_bundle, landed))
        return landed

    def sweep(self) -> Landed:
        """Compare every trace of the source with what is landed; finds late traces that belong to no bundle.

        Raises:
            LandingConflictError: As in `advance`.
        """
        landed = Landed()
        self._retried(lambda: self._sweep(landed))
        return landed

    def bundle(self, release_bundle: str) -> BundleTraces:
        """Return what is landed of a bundle."""
        return self._landed.bundle(release_bundle)

    def unassigned(self) -> pl.DataFrame:
        """Return the quarantined traces that name no valid release bundle, in QUARANTINE_SCHEMA."""
        return self._landed.unassigned()

    # The steps of a reading. Each can be done again from the start at no harm.

    def _retried(self, step: Callable[[], None]) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                return step()
            except LandingConflictError:
                if attempt == _ATTEMPTS - 1:
                    raise
        return None

    def _start(self, landed: Landed) -> None:
        """Remember, before the first trace is read, from when on assessments have to be looked for."""
        checkpoint, state = self._load()
        if state.assessed is None and self._source.assessed_after(None, limit=1) is not None:
            since = AssessmentPosition(timestamp_ms=self._now_ms() - self._overlap_ms)
            self._commit(checkpoint, [], LandingState(state.frontier, since, state.open), landed)

    def _look_back(self, landed: Landed) -> None:
        """Find traces that appeared behind the frontier, as far as the overlap reaches."""
        _, state = self._load()
        frontier = state.frontier
        if frontier is None:
            return
        position = TracePosition(timestamp_ms=frontier.timestamp_ms - self._overlap_ms)
        while True:
            headers = self._source.headers_after(position, limit=self._page)
            within = [one for one in headers if TracePosition(**_place(one)) <= frontier]
            # A trace may end before all its spans are stored, which no header tells: one in quarantine is read again.
            self._land_changed(within, landed, trusting_quarantine=False)
            if len(headers) < self._page or len(within) < len(headers):
                return
            position = TracePosition(**_place(headers[-1]))

    def _look_after_open(self, landed: Landed) -> None:
        _, state = self._load()
        for ids in _portions(sorted(state.open), self._page):
            headers = {one.trace_id: one for one in self._source.headers_by_id(ids)}
            self._forget_open([trace_id for trace_id in ids if trace_id not in headers], landed)
            self._land_changed(list(headers.values()), landed)

    def _go_on(self, landed: Landed) -> None:
        """Read page by page behind the frontier."""
        while True:
            checkpoint, state = self._load()
            records = self._source.traces_after(state.frontier, limit=self._page)
            if records:
                last = records[-1]
                frontier = TracePosition(timestamp_ms=last.timestamp_ms, trace_id=last.trace_id)
                self._land(checkpoint, state, records, landed, frontier=frontier)
            if len(records) < self._page:
                return

    def _read_assessed(self, landed: Landed) -> None:
        """Find traces that were assessed; assessments carry their writers' clocks, so a little is looked at again."""
        _, state = self._load()
        if state.assessed is None:
            return
        position = AssessmentPosition(timestamp_ms=state.assessed.timestamp_ms - _CLOCKS_DIFFER_MS)
        while True:
            found = self._source.assessed_after(position, limit=self._page)
            if found is None or found.position is None:
                return
            self._land_changed(self._source.headers_by_id(found.trace_ids), landed)
            position = found.position
            checkpoint, state = self._load()
            if state.assessed is None or position > state.assessed:
                self._commit(checkpoint, [], LandingState(state.frontier, position, state.open), landed)
            if found.at_end:
                return

    def _reconcile(self, release_bundle: str, landed: Landed) -> None:
        known = self._landed.known(release_bundle, ("turn", "quarantined", "erased"))
        listed: set[str] = set()
        position: TracePosition | None = None
        while True:
            headers = self._source.headers_after(position, limit=self._page, release_bundle=release_bundle)
            listed.update(one.trace_id for one in headers)
            self._land_listed([one for one in headers if not self._is_known(one, known)], landed)
            if len(headers) < self._page:
                break
            position = TracePosition(**_place(headers[-1]))
        for ids in _portions(sorted(set(known) - listed), self._page):
            self._leave(release_bundle, {one: known[one][1] for one in ids}, landed)
        self._recheck_unassigned(landed)

    def _sweep(self, landed: Landed) -> None:
        position: TracePosition | None = None
        while True:
            headers = self._source.headers_after(position, limit=self._page)
            self._land_changed(headers, landed)
            if len(headers) < self._page:
                return
            position = TracePosition(**_place(headers[-1]))

    def _recheck_unassigned(self, landed: Landed) -> None:
        """Look again at traces that named no bundle: somebody may have given them one."""
        known = self._landed.known(NO_BUNDLE, ("quarantined",))
        for ids in _portions(sorted(known), self._page):
            headers = {one.trace_id: one for one in self._source.headers_by_id(ids)}
            same = {one for one, header in headers.items() if self._is_known(header, known)}
            self._leave(NO_BUNDLE, {one: known[one][1] for one in ids if one not in same}, landed)

    def _is_known(self, header: TraceHeader, known: Mapping[str, tuple[str, int]]) -> bool:
        return header.trace_id in known and known[header.trace_id][0] == self._mark(header)

    # Landing

    def _land_changed(
        self, headers: Sequence[TraceHeader], landed: Landed, *, trusting_quarantine: bool = True
    ) -> None:
        """Read the traces whose header is not what is landed of them."""
        if not headers:
            return
        kinds = ("turn", "erased", "quarantined") if trusting_quarantine else ("turn", "erased")
        known = self._landed.marks(headers, kinds)
        self._land_listed([one for one in headers if known.get(one.trace_id) != self._mark(one)], landed)

    def _land_listed(self, headers: Sequence[TraceHeader], landed: Landed) -> None:
        _, state = self._load()
        due = [one.trace_id for one in headers if self._is_due(one.trace_id, one.timestamp_ms, one.state, state)]
        for ids in _portions(due, self._page):
            checkpoint, state = self._load()
            self._land(checkpoint, state, self._source.traces_by_id(ids), landed)

    def _is_due(self, trace_id: str, timestamp_ms: int, trace_state: str, state: LandingState) -> bool:
        """Whether a trace is worth reading: one that is known to be in progress and still is can wait."""
        return trace_state != "IN_PROGRESS" or trace_id not in state.open or self._is_given_up(timestamp_ms)

    def _is_given_up(self, timestamp_ms: int) -> bool:
        return self._now_ms() - timestamp_ms > self._give_up_ms

    def _land(
        self,
        checkpoint: Checkpoint,
        state: LandingState,
        records: Iterable[TraceRecord],
        landed: Landed,
        *,
        frontier: TracePosition | None = None,
    ) -> None:
        """Commit the rows of some traces; those still in progress are remembered, and leave what was landed of them."""
        rows, waiting = self._rows(records, checkpoint, state)
        if rows or frontier is not None or waiting != state.open:
            self._commit(checkpoint, rows, LandingState(frontier or state.frontier, state.assessed, waiting), landed)

    def _rows(
        self, records: Iterable[TraceRecord], checkpoint: Checkpoint, state: LandingState
    ) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """Return one row a trace for the next commit, and which traces are in progress after it."""
        sequence = checkpoint.number + 1
        waiting = dict(state.open)
        rows: dict[str, dict[str, Any]] = {}
        for record in records:
            reading = read_trace(record, pseudonym_key=self._key, vocabulary=self._vocabulary, mapping=self._mapping)
            row = self._row(reading, record, sequence)
            if record.state == "IN_PROGRESS" and not self._is_given_up(record.timestamp_ms):
                waiting[record.trace_id] = record.timestamp_ms
                row = tombstone(record.trace_id, record.timestamp_ms, row[PARTITION], sequence)
            else:
                waiting.pop(record.trace_id, None)
            rows[record.trace_id] = row
        return list(rows.values()), waiting

    def _row(self, reading: TraceReading, record: TraceRecord, sequence: int) -> dict[str, Any]:
        return landed_row(reading, sequence=sequence, fingerprint=self._mark_of(record), erased_users=self._erased)

    def _leave(self, release_bundle: str, started: Mapping[str, int], landed: Landed) -> None:
        """Mark traces as gone from a bundle; those that are elsewhere in the source are landed there.

        `started` are their landed start times by id.
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
        self._commit(checkpoint, rows, LandingState(state.frontier, state.assessed, waiting), landed)

    def _forget_open(self, trace_ids: Sequence[str], landed: Landed) -> None:
        """Stop waiting for traces that were deleted while they were being written."""
        if trace_ids:
            checkpoint, state = self._load()
            left = {trace_id: start for trace_id, start in state.open.items() if trace_id not in trace_ids}
            self._commit(checkpoint, [], LandingState(state.frontier, state.assessed, left), landed)

    def _load(self) -> tuple[Checkpoint, LandingState]:
        checkpoint = self._table.checkpoint()
        return checkpoint, LandingState.from_json(checkpoint.value)

    def _commit(self, checkpoint: Checkpoint, rows: list[dict[str, Any]], state: LandingState, landed: Landed) -> None:
        frame = pl.DataFrame(rows, schema=LANDED_SCHEMA, orient="row")
        self._table.append(frame, after=checkpoint, value=state.to_json())
        for row in rows:
            landed.count(row["kind"])
        if rows:
            self._progress(landed.turns + landed.quarantined)

    def _mark(self, header: TraceHeader) -> str:
        """Return what tells that a trace, or the way of reading it, is not what is landed.

        A trace that was written anew may begin elsewhere.
        """
        return f"{header.timestamp_ms}-{header.fingerprint}-{self._reader}"

    def _mark_of(self, record: TraceRecord) -> str:
        return f"{record.timestamp_ms}-{fingerprint(record)}-{self._reader}"


def _place(header: TraceHeader) -> dict[str, Any]:
    return {"timestamp_ms": header.timestamp_ms, "trace_id": header.trace_id}


def _portions(items: Sequence[str], size: int) -> Iterator[list[str]]:
    remaining = iter(items)
    while portion := list(islice(remaining, size)):
        yield portion
