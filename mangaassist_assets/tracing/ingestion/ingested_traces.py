"""What is ingested of traces: rows of turns, quarantined traces and marks, and the newest row of each, by bundle."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from mangaassist_assets.core.ingestion_tables import PARTITION, IngestionTable
from mangaassist_assets.tracing.contract.turns import ChatTurn
from mangaassist_assets.tracing.ingestion.trace_sources import TraceHeader
from mangaassist_assets.tracing.ingestion.turn_frames import QUARANTINE_SCHEMA, TURN_SCHEMA, turn_row
from mangaassist_assets.tracing.reading.turn_reader import TraceReading

NO_BUNDLE = "_none"
"""The partition of quarantined traces that name no valid release bundle; no valid key begins with `_`."""

INGESTED_SCHEMA = pl.Schema(
    {
        **TURN_SCHEMA,
        "sequence": pl.Int64(),
        **dict.fromkeys(("kind", "fingerprint", "reason"), pl.String()),
        **dict.fromkeys(("tags_present", "spans_present", "problems"), pl.List(pl.String)),
    }
)

PRESENCE_COLUMNS = (
    *("trace_id", "kind", "state", "tags_present", "spans_present", "problems", "guardrail_blocked"),
    "candidate_count",
)


def ingested_row(
    reading: TraceReading, *, sequence: int, fingerprint: str, erased_users: Collection[str]
) -> dict[str, Any]:
    """Return the row of a trace; of two rows of it the one with the higher `sequence`, the commit's number, counts.

    `fingerprint` is what the trace was when it was read. Of `erased_users` (pseudonyms) nothing is kept.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleTraces:
    """The newest state of each trace of a release bundle, sorted by (timestamp_ms, trace_id).

    `turns` is in TURN_SCHEMA, `quarantined` in QUARANTINE_SCHEMA, `presence` has a row for each of both with the
    tags and spans it has and what was odd about it. `erased` counts traces of erased users, of which nothing else is
    known.
    """

    turns: pl.DataFrame
    quarantined: pl.DataFrame
    presence: pl.DataFrame
    erased: int


class IngestedTraces:
    """Reads an ingestion table of traces."""

    def __init__(self, table: IngestionTable, *, erased_users: Collection[str] = frozenset()) -> None:
        """Name the table, and the users of whom nothing may be shown."""
        self._table = table
        self._erased = erased_users

    def bundle(self, release_bundle: str) -> BundleTraces:
        """Return what is ingested of a bundle."""
        rows = self.newest(release_bundle).collect(engine="streaming").sort("timestamp_ms", "trace_id")
        # A user may have been erased after the trace was ingested.
        erased = (pl.col("kind") == "erased") | pl.col("user_key").is_in(sorted(self._erased)).fill_null(value=False)
        kept = rows.filter(~erased)
        quarantined = kept.filter(pl.col("kind") == "quarantined")
        presence = kept.filter(pl.col("kind").is_in(["turn", "quarantined"]))
        return BundleTraces(
            turns=kept.filter(pl.col("kind") == "turn").select(TURN_SCHEMA.names()),
            quarantined=quarantined.select(QUARANTINE_SCHEMA.names()),
            presence=presence.select(PRESENCE_COLUMNS),
            erased=rows.height - kept.height,
        )

    def unassigned(self) -> pl.DataFrame:
        """Return the quarantined traces that name no valid release bundle, in QUARANTINE_SCHEMA."""
        rows = self.newest(NO_BUNDLE).filter(pl.col("kind") == "quarantined").collect()
        return rows.sort("timestamp_ms", "trace_id").select(
            pl.lit(None, pl.String).alias(name) if name == PARTITION else pl.col(name)
            for name in QUARANTINE_SCHEMA.names()
        )

    def newest(self, release_bundle: str) -> pl.LazyFrame:
        """Return the newest row of each trace that ever was in a bundle."""
        rows = self._table.rows(release_bundle)
        newest = rows.group_by("trace_id").agg(pl.col("sequence").max())
        return rows.join(newest, on=["trace_id", "sequence"], how="semi")

    def known(self, release_bundle: str, kinds: Collection[str]) -> dict[str, tuple[str, int]]:
        """Return mark and start time of the traces of a bundle whose newest row is of one of these kinds."""
        rows = self.newest(release_bundle).filter(pl.col("kind").is_in(list(kinds)))
        found = rows.select("trace_id", "fingerprint", "timestamp_ms").collect()
        return {trace_id: (mark, timestamp_ms) for trace_id, mark, timestamp_ms in found.iter_rows()}

    def marks(self, headers: Sequence[TraceHeader], kinds: Collection[str]) -> dict[str, str]:
        """Return the mark of those of the traces whose newest row is of one of these kinds.

        Files of other times are not opened.
        """
        times = [one.timestamp_ms for one in headers]
        rows = (
            self._table.rows()
            .filter(pl.col("timestamp_ms").is_between(min(times), max(times)))
            .filter(pl.col("trace_id").is_in([one.trace_id for one in headers]))
            .select("trace_id", "sequence", "fingerprint", "kind")
            .collect()
        )
        newest = rows.filter(pl.col("sequence") == pl.col("sequence").max().over("trace_id"))
        # A trace that moved has two rows of one commit: gone from one bundle, ingested in another.
        return dict(newest.filter(pl.col("kind").is_in(list(kinds))).select("trace_id", "fingerprint").iter_rows())
