"""What is ingested of traces: rows of turns, quarantined traces and marks, and the newest row of each, by bundle."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from mangaassist_assets.core.codecs import ROW_GROUP
from mangaassist_assets.core.ingestion_tables import PARTITION, IngestionConflictError, IngestionTable
from mangaassist_assets.tracing.contract.turns import ChatTurn, Feedback
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

PRESENCE_SCHEMA = pl.Schema(
    (name, INGESTED_SCHEMA[name])
    for name in (
        *("trace_id", "kind", "state", "tags_present", "spans_present", "problems", "guardrail_blocked"),
        "candidate_count",
    )
)
_INDEX = ("trace_id", "timestamp_ms", "sequence", "kind", "reason", "shape", "reviewer")
_ORDER = ("timestamp_ms", "trace_id")


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

    Whole rows are read from the ingestion table when they are asked for, a portion at a time. `index` has a row for
    each turn and each quarantined trace: trace_id, timestamp_ms, sequence, kind, reason, shape and reviewer. `erased`
    counts traces of erased users, of which nothing else is known.
    """

    release_bundle: str
    index: pl.DataFrame
    erased: int
    table: IngestionTable
    portion: int

    @property
    def turns(self) -> pl.DataFrame:
        """The rows of `index` that are turns."""
        return self.index.filter(pl.col("kind") == "turn")

    @property
    def quarantined(self) -> pl.DataFrame:
        """The quarantined traces, in QUARANTINE_SCHEMA."""
        rows = self.index.filter(pl.col("kind") == "quarantined")
        return rows.with_columns(release_bundle=pl.lit(self.release_bundle)).select(QUARANTINE_SCHEMA.names())

    def turn_rows(self, feedback: Mapping[str, Feedback] | None = None) -> Iterator[pl.DataFrame]:
        """Yield the turns in TURN_SCHEMA, `portion` rows at a time.

        `feedback` takes the place of what the traces of these ids say themselves.

        Raises:
            IngestionConflictError: Rows went away since the bundle was looked up.
        """
        given = feedback or {}
        said = pl.DataFrame(
            {"trace_id": list(given), "said": list(given.values())}, schema={"trace_id": pl.String, "said": pl.String}
        )
        wanted = self.turns.join(said, on="trace_id", how="left", maintain_order="left")
        for rows in self._rows(wanted, TURN_SCHEMA.names()):
            yield rows.with_columns(user_feedback=pl.coalesce("said", "user_feedback")).select(TURN_SCHEMA.names())

    def presence_rows(self) -> Iterator[pl.DataFrame]:
        """Yield a row for each trace in PRESENCE_SCHEMA, `portion` rows at a time: what it has and what was odd.

        Raises:
            IngestionConflictError: As in `turn_rows`.
        """
        for rows in self._rows(self.index, PRESENCE_SCHEMA.names()):
            yield rows.select(PRESENCE_SCHEMA.names())

    def _rows(self, wanted: pl.DataFrame, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield these columns of the wanted rows; what begins at other times than a portion is not read for it."""
        for part in wanted.iter_slices(self.portion):
            of_part = part.select(pl.selectors.by_name("trace_id", "sequence", "said", require_all=False))
            rows = (
                self.table.rows(self.release_bundle)
                .filter(pl.col("timestamp_ms").is_between(part["timestamp_ms"].min(), part["timestamp_ms"].max()))
                .select(pl.selectors.by_name(*columns, "sequence", "timestamp_ms"))
                .join(of_part.lazy(), on=["trace_id", "sequence"], how="inner")
                .collect(engine="streaming")
                .sort(_ORDER)
            )
            if rows.height != part.height:
                raise IngestionConflictError(
                    f"rows of {self.release_bundle!r} went away while they were read (an erasure?): run again"
                )
            yield rows


class IngestedTraces:
    """Reads an ingestion table of traces."""

    def __init__(
        self, table: IngestionTable, *, erased_users: Collection[str] = frozenset(), portion: int = ROW_GROUP
    ) -> None:
        """Name the table, the users of whom nothing may be shown, and how many whole rows are read at a time."""
        self._table = table
        self._erased = erased_users
        self._portion = portion

    def bundle(self, release_bundle: str) -> BundleTraces:
        """Return what is ingested of a bundle."""
        rows = self._table.rows(release_bundle).select(*_INDEX, "user_key").collect(engine="streaming")
        newest = rows.filter(pl.col("sequence") == pl.col("sequence").max().over("trace_id"))
        # A user may have been erased after the trace was ingested.
        erased = (pl.col("kind") == "erased") | pl.col("user_key").is_in(sorted(self._erased)).fill_null(value=False)
        kept = newest.filter(~erased)
        return BundleTraces(
            release_bundle=release_bundle,
            index=kept.filter(pl.col("kind").is_in(["turn", "quarantined"])).sort(_ORDER).select(_INDEX),
            erased=newest.height - kept.height,
            table=self._table,
            portion=self._portion,
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
            self._table.rows(within=("timestamp_ms", min(times), max(times)))
            .filter(pl.col("trace_id").is_in([one.trace_id for one in headers]))
            .select("trace_id", "sequence", "fingerprint", "kind")
            .collect()
        )
        newest = rows.filter(pl.col("sequence") == pl.col("sequence").max().over("trace_id"))
        # A trace that moved has two rows of one commit: gone from one bundle, ingested in another.
        return dict(newest.filter(pl.col("kind").is_in(list(kinds))).select("trace_id", "fingerprint").iter_rows())
