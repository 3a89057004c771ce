"""Parts of traces on disk, to be read again trace by trace: a file may spread a trace over any of its lines.

The spool is a private temporary database of SQLite, which has no name in the file system: nothing of it stays behind,
however the process ends. It holds scrubbed traces only. Its folder is that of temporary files (TMPDIR).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.tracing.importing.imported_trace import ImportedTrace, UnreadableTraceError
from mangaassist_assets.tracing.importing.merging import check_storable, merged, with_contract_tags
from mangaassist_assets.tracing.importing.parsing import ImportReject, Part
from mangaassist_assets.tracing.reading.mapping import TraceMapping

MAXIMUM_TRACE = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledTrace:
    """A whole trace, the line on which it begins, and about how many bytes it is."""

    line_number: int
    size: int
    trace: ImportedTrace


class Spool:
    """Collects parts, then yields traces in the order in which they first appear. Used by one thread."""

    def __init__(self, connection: sqlite3.Connection, mapping: TraceMapping | None = None) -> None:
        self._connection = connection
        self._mapping = mapping
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("CREATE TABLE part (trace_id TEXT, line INTEGER, content BLOB)")
        connection.execute("CREATE TABLE trace (trace_id TEXT PRIMARY KEY, digest TEXT)")

    def add(self, part: Part) -> None:
        """Keep a part; it must be scrubbed."""
        trace_id = part.trace.trace_id
        self._connection.execute(
            "INSERT INTO part VALUES (?, ?, ?)", (trace_id, part.line_number, canonical_json(part.trace))
        )
        self._connection.execute("INSERT OR IGNORE INTO trace VALUES (?, NULL)", (trace_id,))

    def close_input(self) -> None:
        """Prepare for reading: no part comes any more."""
        self._connection.execute("CREATE INDEX part_of_trace ON part (trace_id)")

    def count(self) -> int:
        """Return how many traces there are."""
        return int(self._connection.execute("SELECT COUNT(*) FROM trace").fetchone()[0])

    def duplicates(self) -> int:
        """Return how many parts are the same, byte for byte, as another part of their trace."""
        row = self._connection.execute(
            "SELECT COALESCE(SUM(copies - 1), 0) FROM (SELECT COUNT(*) AS copies FROM part GROUP BY trace_id, content)"
        ).fetchone()
        return int(row[0])

    def traces(self, *, tagged: bool = True) -> Iterator[SpooledTrace | ImportReject]:
        """Yield every trace, merged of its parts, or why it cannot be imported; `tagged` as it will be written."""
        ids = self._connection.cursor()
        for (trace_id,) in ids.execute("SELECT trace_id FROM trace ORDER BY rowid"):
            first, size = self._connection.execute(
                "SELECT MIN(line), SUM(LENGTH(content)) FROM part WHERE trace_id = ?", (trace_id,)
            ).fetchone()
            if size > MAXIMUM_TRACE:
                yield ImportReject(line_number=first, reason=f"the trace is larger than {MAXIMUM_TRACE:,} bytes")
                continue
            rows = self._connection.execute("SELECT content FROM part WHERE trace_id = ? ORDER BY rowid", (trace_id,))
            try:
                trace = merged([from_json(ImportedTrace, content) for (content,) in rows])
                if tagged:
                    trace = with_contract_tags(trace, self._mapping)
                check_storable(trace)
            except UnreadableTraceError as reason:
                yield ImportReject(line_number=first, reason=str(reason))
                continue
            yield SpooledTrace(line_number=first, size=size, trace=trace)

    def expect(self, trace_id: str, digest: str) -> None:
        """Remember what a store should hold of a trace now."""
        self._connection.execute("UPDATE trace SET digest = ? WHERE trace_id = ?", (digest, trace_id))

    def expected(self) -> Iterator[tuple[str, str]]:
        """Yield id and digest of every trace that a store should hold."""
        cursor = self._connection.cursor()
        yield from cursor.execute("SELECT trace_id, digest FROM trace WHERE digest IS NOT NULL ORDER BY rowid")


@contextmanager
def spool(mapping: TraceMapping | None = None) -> Iterator[Spool]:
    """Open an empty spool that is gone when the block ends; `mapping` says where traces name bundle and session."""
    # The empty name is SQLite's for a private database on disk.
    connection = sqlite3.connect("", isolation_level=None)
    try:
        yield Spool(connection, mapping)
    finally:
        connection.close()
