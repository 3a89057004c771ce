"""One ingested row: a turn, a quarantined trace, or the mark of one that is gone or was erased."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import polars as pl

from mangaassist_assets.core.ingestion_tables import PARTITION
from mangaassist_assets.tracing.contract.turns import ChatTurn
from mangaassist_assets.tracing.ingestion.turn_frames import TURN_SCHEMA, turn_row
from mangaassist_assets.tracing.reading.turn_reader import TraceReading

NO_BUNDLE = "_none"
"""The partition of quarantined traces that name no valid release bundle; no valid key begins with `_`."""

_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    **TURN_SCHEMA,
    "sequence": pl.Int64,
    "kind": pl.String,
    "fingerprint": pl.String,
    "reason": pl.String,
    "tags_present": pl.List(pl.String),
    "spans_present": pl.List(pl.String),
    "problems": pl.List(pl.String),
}
INGESTED_SCHEMA = pl.Schema(_COLUMNS)


def ingested_row(
    reading: TraceReading, *, sequence: int, fingerprint: str, erased_users: Collection[str]
) -> dict[str, Any]:
    """Return the row of a trace.

    Args:
        reading: What the contract says of it.
        sequence: Number of the commit; of two rows of a trace the higher one counts.
        fingerprint: What the trace was when it was read.
        erased_users: Pseudonyms of users of whom nothing may be kept.
    """
    outcome = reading.outcome
    row: dict[str, Any] = {
        "trace_id": outcome.trace_id,
        "timestamp_ms": outcome.timestamp_ms,
        PARTITION: outcome.release_bundle or NO_BUNDLE,
        "state": reading.state,
        "sequence": sequence,
        "fingerprint": fingerprint,
    }
    if reading.user_key is not None and reading.user_key in erased_users:
        return {**row, "kind": "erased"}
    row |= {
        "tags_present": sorted(reading.tags),
        "spans_present": sorted(reading.spans),
        "problems": list(reading.problems),
    }
    if isinstance(outcome, ChatTurn):
        return {**row, **turn_row(outcome), "kind": "turn"}
    return {**row, "kind": "quarantined", "reason": outcome.reason}


def tombstone(trace_id: str, timestamp_ms: int, partition: str, sequence: int) -> dict[str, Any]:
    """Return the row that says: this trace, which began at this time, is not in this bundle any more."""
    return {
        "trace_id": trace_id,
        "timestamp_ms": timestamp_ms,
        PARTITION: partition,
        "sequence": sequence,
        "kind": "gone",
    }
