"""Where feedback events come to rest: an ingestion table, and the table of distinct events that is made of it.

Events, rejected records and the position in the source are one commit, so a killed consumer reads the same records
again from the last whole commit. The table of a bundle depends on nothing but the set of distinct events that were
ingested: not on repeats, order, batches, or the shards that they came through.

An event that does not say its trace, bundle or session waits in a partition of its own until the trace names them
(`joining`). What is ingested holds no id of a person: `StoredIds` has seen to it.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import polars as pl

from mangaassist_assets.core.codecs import check_schema, to_parquet
from mangaassist_assets.core.ingestion_tables import Checkpoint, IngestionConflictError, IngestionTable, storage_options
from mangaassist_assets.tracing.feedback.events import CONTENT_DIGITS, CONTENT_ID, FeedbackRecord, StoredIds
from mangaassist_assets.tracing.feedback.sources import FeedbackSource, RejectedRecord

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore

EVENTS_FILE = "events.parquet"
EVENT_SCHEMA = pl.Schema(dict.fromkeys((one.name for one in fields(FeedbackRecord)), pl.String))
INGESTION_SCHEMA = pl.Schema(
    {
        **dict.fromkeys((*EVENT_SCHEMA, "place", "reason", "response_id", "stated_bundle"), pl.String),
        "size": pl.Int64,
    }
)
WAITING_COLUMNS = (*(name for name in EVENT_SCHEMA if name != "release_bundle"), "response_id", "stated_bundle")
_WAITING_SCHEMA = pl.Schema(dict.fromkeys(WAITING_COLUMNS, pl.String))
_JOINED = ("trace_id", "release_bundle", "session_id")

# No release bundle begins with an underscore, so these partitions can be nobody's bundle.
_REJECTED = "_rejected"
_GAPS = "_gaps"
_ERASED = "_erased"
_WAITING = "_waiting"
_LIMIT = 50_000
_CONFLICTS = 5
_COMMITS_BEFORE_COMPACTION = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackTable:
    """The distinct events of one release bundle in EVENT_SCHEMA, sorted by (timestamp, event_id).

    Events without an id of their own are distinct where another thumb of the trace stands between them.
    `duplicates` counts repeated deliveries that were dropped; `conflicts` counts deliveries of an event id that said
    something else than the one that was kept, which is the earliest, and of those the least in the order of columns.
    """

    frame: pl.DataFrame
    duplicates: int
    conflicts: int

    @property
    def events(self) -> tuple[FeedbackRecord, ...]:
        """The events, oldest first."""
        return tuple(FeedbackRecord(**row) for row in self.frame.iter_rows(named=True))

    def count(self, feedback: str) -> int:
        """Return how many events say `feedback` (`thumbs_up` or `thumbs_down`)."""
        return int((self.frame["feedback"] == feedback).sum())

    def to_parquet(self) -> bytes:
        """Return the events as Parquet; the same events give the same bytes with the same version of polars."""
        return to_parquet(self.frame)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackCounts:
    """What one reading of the source brought in; `erased` events were of users who were erased, and not kept.

    `clipped` events named a time after they arrived, `unreadable_times` are those whose time was none: both have the
    time of their arrival.
    """

    events: int = 0
    rejects: int = 0
    erased: int = 0
    clipped: int = 0
    unreadable_times: int = 0
    gaps: tuple[RejectedRecord, ...] = ()


def events_from_parquet(content: bytes) -> tuple[FeedbackRecord, ...]:
    """Return the events stored by `FeedbackTable.to_parquet`, in their order.

    Raises:
        SnapshotSchemaError: the table has other columns or types.
    """
    frame = check_schema(pl.read_parquet(io.BytesIO(content)), EVENT_SCHEMA, "feedback_events")
    return FeedbackTable(frame=frame, duplicates=0, conflicts=0).events


def read_feedback(store: SnapshotStore, release_bundle: str) -> tuple[FeedbackRecord, ...]:
    """Return the stored feedback events of a bundle, oldest first."""
    return events_from_parquet(store.read(store.latest("feedback_events", partition=release_bundle), EVENTS_FILE))


class FeedbackIngestion:
    """Feedback events at rest."""

    def __init__(self, table: IngestionTable) -> None:
        self._table = table

    @classmethod
    def at(cls, uri: str) -> FeedbackIngestion:
        """Name the ingestion in a directory or under an `s3://` URL; nothing is touched."""
        return cls(IngestionTable(uri, schema=INGESTION_SCHEMA, storage_options=storage_options(uri)))

    def checkpoint(self) -> Checkpoint:
        """Return the position in the source, and the number of the commit that holds it."""
        return self._table.checkpoint()

    def cursor(self) -> dict[str, Any]:
        """Return the position in the source after what was ingested; empty at first."""
        return dict(self.checkpoint().value)

    def append(
        self,
        *,
        events: Sequence[Mapping[str, Any]],
        rejects: Sequence[RejectedRecord],
        cursor: Mapping[str, Any],
        gaps: Sequence[RejectedRecord] = (),
        erased: Collection[str] = (),
        after: Checkpoint | None = None,
    ) -> bool:
        """Store what was read, with the position after it, in one commit.

        Events are as `FeedbackRecord.to_dict` or `StoredIds.row` gives them; one that lacks its trace, bundle or
        session waits, and of one of an erased user only a hash of its id is kept. `after` is the checkpoint that was
        read from, by default the newest. Returns whether there was anything to commit.

        Raises:
            IngestionConflictError: Somebody ingested records since `after`; nothing was written.
        """
        start = self.checkpoint() if after is None else after
        if not (events or rejects or gaps) and dict(cursor) == dict(start.value):
            return False
        rows = [_new_row(event, frozenset(erased)) for event in events]
        rows += [_reject_row(reject, _REJECTED) for reject in rejects]
        rows += [_reject_row(gap, _GAPS) for gap in gaps]
        self._table.append(pl.DataFrame(rows, schema=INGESTION_SCHEMA, orient="row"), after=start, value=dict(cursor))
        return True

    def table(self, release_bundle: str, *, erased: Collection[str] = ()) -> FeedbackTable:
        """Return the distinct events of one bundle, without those of `erased` users; no other bundle is read."""
        ingested = self._table.rows(release_bundle).select(EVENT_SCHEMA.names()).collect()
        if erased:
            ingested = ingested.filter(~pl.col("user_key").is_in(sorted(erased)).fill_null(value=False))
        distinct = ingested.unique()
        order = ["event_id", "timestamp", *(name for name in EVENT_SCHEMA if name not in ("event_id", "timestamp"))]
        kept = distinct.sort(order, nulls_last=True).unique("event_id", keep="first", maintain_order=True)
        said = _without_echoes(kept)
        return FeedbackTable(
            frame=said.sort("timestamp", "event_id"),
            duplicates=ingested.height - distinct.height + kept.height - said.height,
            conflicts=distinct.height - kept.height,
        )

    def waiting(self) -> list[dict[str, Any]]:
        """Return the distinct events that wait for their traces, in WAITING_COLUMNS, oldest first."""
        rows = self._table.rows(_WAITING).select(WAITING_COLUMNS).collect()
        return rows.unique().sort("timestamp", "event_id", nulls_last=True).to_dicts()

    def settle(
        self, waited: Sequence[Mapping[str, Any]], joined: Sequence[Mapping[str, Any]], *, erased: Collection[str] = ()
    ) -> None:
        """Move events that waited into their bundles; those of erased users leave only the hash of their id.

        A process that is killed in between leaves some in both places: moved again, they fall away as repeats.

        `waited` are events as `waiting` gave them, `joined` the same with their trace and bundle.

        Raises:
            IngestionConflictError: Others ingested records meanwhile; run again.
        """
        if not joined:
            return
        start = self.checkpoint()
        rows = [_ingested_row(event, frozenset(erased)) for event in joined]
        frame = pl.DataFrame(rows, schema=INGESTION_SCHEMA, orient="row")
        self._table.append(frame, after=start, value=dict(start.value))
        settled = pl.DataFrame(list(waited), schema=_WAITING_SCHEMA, orient="row").unique()
        left = self._table.rows(_WAITING).collect().join(settled, on=WAITING_COLUMNS, how="anti", nulls_equal=True)
        self._table.replace(_WAITING, left)

    def bundles(self) -> list[str]:
        """Return the release bundles that have events, sorted."""
        return [name for name in self._table.bundles() if not name.startswith("_")]

    def rejects(self) -> list[RejectedRecord]:
        """Return the records that were no feedback events, each place once."""
        return self._records(_REJECTED)

    def gaps(self) -> list[RejectedRecord]:
        """Return the places where records were lost, each once."""
        return self._records(_GAPS)

    def dropped_of_erased_users(self) -> int:
        """Return how many events of erased users arrived after the erasure and were dropped."""
        return int(self._table.rows(_ERASED).select(pl.col("place").n_unique()).collect().item())

    def erase(self, *, user_keys: Collection[str] = (), trace_ids: Collection[str] = ()) -> int:
        """Remove the events of users, and those about traces, for good; returns how many rows there were."""
        removed = self._table.erase("user_key", user_keys)
        return removed + (self._table.erase("trace_id", trace_ids) if trace_ids else 0)

    def trace_ids_of(self, user_keys: Collection[str]) -> frozenset[str]:
        """Return the traces that events of these users are about."""
        found = self._table.rows().filter(pl.col("user_key").is_in(sorted(user_keys))).select("trace_id").collect()
        return frozenset(found["trace_id"].to_list())

    def compact(self) -> None:
        """Join small files; what is read stays the same."""
        self._table.compact()

    def _records(self, partition: str) -> list[RejectedRecord]:
        rows = self._table.rows(partition).select("place", "size", "reason").unique().sort("place", "reason").collect()
        found: list[RejectedRecord] = []
        for place, size, reason in rows.iter_rows():
            part, _, number = str(place).rpartition("/")
            found.append(RejectedRecord(part=part, sequence_number=number, size=size, reason=reason))
        return found


def ingest_new(
    source: FeedbackSource,
    ingestion: FeedbackIngestion,
    *,
    erased: Collection[str] = (),
    pseudonym_key: bytes | None = None,
    limit: int = _LIMIT,
) -> FeedbackCounts:
    """Ingest everything new of a source, in batches and commits of `limit` records.

    Events of `erased` users are dropped. `pseudonym_key` is the installation's secret, which makes pseudonyms of
    people's ids; without it they are dropped.

    Raises:
        IngestionConflictError: Others ingested records of the same source again and again meanwhile.
    """
    counts: Counter[str] = Counter()
    gaps: tuple[RejectedRecord, ...] = ()
    conflicts = 0
    ids = StoredIds(pseudonym_key)
    while True:
        start = ingestion.checkpoint()
        batch = source.read_new(start.value, limit=limit)
        rows = [ids.row(event) for event in batch.events]
        try:
            committed = ingestion.append(
                events=rows, rejects=batch.rejects, gaps=batch.gaps, cursor=batch.cursor, erased=erased, after=start
            )
        except IngestionConflictError:
            # The other one ingested these records: going on from its checkpoint is all that is left to do.
            conflicts += 1
            if conflicts >= _CONFLICTS:
                raise
            continue
        if committed and (start.number + 1) % _COMMITS_BEFORE_COMPACTION == 0:
            ingestion.compact()
        dropped = sum(1 for row in rows if row["user_key"] in erased)
        times = Counter(event.time_from for event in batch.events)
        counts.update(events=len(rows) - dropped, rejects=len(batch.rejects), erased=dropped)
        counts.update(clipped=times["clipped"], unreadable_times=times["unreadable"])
        gaps += batch.gaps
        if batch.size < limit:
            return FeedbackCounts(**counts, gaps=gaps)


def _without_echoes(events: pl.DataFrame) -> pl.DataFrame:
    """Return the events without those that say again what their trace's last event said, neither having an id."""
    ordered = events.sort("trace_id", "timestamp", "event_id")
    content = pl.when(pl.col("event_id").str.starts_with(CONTENT_ID)).then(pl.col("event_id").str.tail(CONTENT_DIGITS))
    return ordered.filter((content == content.shift(1).over("trace_id")).fill_null(value=False).not_())


def _ingested_row(event: Mapping[str, Any], gone: frozenset[str]) -> dict[str, Any]:
    if event.get("user_key") not in gone:
        return {name: event.get(name) for name in INGESTION_SCHEMA}
    hashed = hashlib.sha256(str(event["event_id"]).encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return {
        **dict.fromkeys(INGESTION_SCHEMA),
        "release_bundle": _ERASED,
        "place": hashed,
        "reason": "the user was erased",
    }


def _new_row(event: Mapping[str, Any], gone: frozenset[str]) -> dict[str, Any]:
    row = _ingested_row(event, gone)
    if row["release_bundle"] == _ERASED or all(row[name] is not None for name in _JOINED):
        return row
    return {**row, "release_bundle": _WAITING, "stated_bundle": row["release_bundle"]}


def _reject_row(reject: RejectedRecord, partition: str) -> dict[str, Any]:
    return {"release_bundle": partition, "place": reject.place, "size": reject.size, "reason": reject.reason}
