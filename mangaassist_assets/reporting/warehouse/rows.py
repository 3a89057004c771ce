"""Snapshots as rows of the warehouse: columnar from the turns, event by event from feedback, which is from outside."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from mangaassist_assets.core.codecs import SnapshotSchemaError, to_parquet
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.reporting.warehouse.tables import (
    BUNDLE_TABLES,
    CHAT_TURNS,
    FEEDBACK_EVENTS,
    LONGEST_TEXT,
    TURN_GENERATIONS,
    TURN_STAGES,
    Table,
    create_statement,
)
from mangaassist_assets.reporting.warehouse.types import WarehouseError
from mangaassist_assets.tracing.ingestion.turn_frames import TURN_SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackRows:
    """Events as rows of `feedback_events`, and what was no event: reason → how many."""

    frame: pl.DataFrame
    rejected: Mapping[str, int]


def turn_rows(turns: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return the rows of `chat_turns`, `turn_stages` and `turn_generations`, by table.

    Args:
        turns: Chat turns in TURN_SCHEMA, of this version or an earlier one.

    Raises:
        SnapshotSchemaError: The frame is no snapshot of turns.
    """
    turns = with_later_columns(turns)
    return {
        CHAT_TURNS.name: fitted(CHAT_TURNS, turns),
        TURN_STAGES.name: fitted(TURN_STAGES, unnested(turns, "stages")),
        TURN_GENERATIONS.name: fitted(TURN_GENERATIONS, unnested(turns, "generations")),
    }


def with_later_columns(turns: pl.DataFrame) -> pl.DataFrame:
    """Return the turns of an earlier version's snapshot with the columns that came later, which are null.

    Raises:
        SnapshotSchemaError: A column is missing that snapshots always had.
    """
    always = {*(column.name for column in CHAT_TURNS.columns if column.required), "stages", "generations"}
    missing = [name for name in TURN_SCHEMA if name not in turns.columns]
    if lost := sorted(always.intersection(missing)):
        raise SnapshotSchemaError(
            f"the snapshot of chat turns lacks the columns {lost}: materialize tagged_traces again"
        )
    return turns.with_columns(pl.lit(None, TURN_SCHEMA[name]).alias(name) for name in missing)


def unnested(turns: pl.DataFrame, column: str, *keep: str) -> pl.DataFrame:
    """Return one row per entry of a list of structs, with its turn's bundle and trace id and its `position` from 1."""
    return (
        turns.lazy()
        .select("release_bundle", "trace_id", *keep, column)
        .filter(pl.col(column).list.len() > 0)
        .with_columns(position=pl.int_ranges(1, pl.col(column).list.len() + 1, dtype=pl.Int64))
        .explode(column, "position")
        .unnest(column)
        .collect()
    )


def feedback_rows(events: Iterable[object], *, release_bundle: str) -> FeedbackRows:
    """Return feedback events as rows; what is none, or belongs to another bundle, is counted with its reason.

    An event id that comes twice counts once, as it first stands in the order of time.
    """
    rows: list[tuple[int, str, dict[str, object]]] = []
    rejected: Counter[str] = Counter()
    for event in events:
        row = _feedback_row(event, release_bundle)
        if isinstance(row, str):
            rejected[row] += 1
        else:
            rows.append(row)
    rows.sort(key=lambda row: row[:2])
    distinct: dict[str, dict[str, object]] = {}
    for _, event_id, values in rows:
        if event_id in distinct:
            rejected["the event id came before"] += 1
        else:
            distinct[event_id] = {**values, "position": len(distinct) + 1}
    frame = pl.DataFrame(list(distinct.values()), schema=FEEDBACK_EVENTS.schema, orient="row")
    return FeedbackRows(frame=fitted(FEEDBACK_EVENTS, frame), rejected=dict(rejected))


def _feedback_row(event: object, release_bundle: str) -> tuple[int, str, dict[str, object]] | str:
    if not isinstance(event, Mapping):
        return f"a JSON {type(event).__name__}, not an object"
    for name in ("event_id", "trace_id", "timestamp"):
        if not isinstance(event.get(name), str) or not event[name]:
            return f"{name} is not a text"
    if event.get("feedback") not in ("thumbs_up", "thumbs_down"):
        return "feedback is neither thumbs_up nor thumbs_down"
    if event.get("release_bundle") != release_bundle:
        return "an event of another release bundle"
    moment = _milliseconds(event["timestamp"])
    if moment is None:
        return "timestamp is not an ISO 8601 time with a zone"
    others = {name: value if isinstance(value := event.get(name), str) else None for name in ("session_id", "user_key")}
    return (
        moment,
        event["event_id"],
        {
            "release_bundle": release_bundle,
            "event_id": event["event_id"],
            "trace_id": event["trace_id"],
            "feedback": event["feedback"],
            "timestamp_ms": moment,
            **others,
        },
    )


def _milliseconds(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
        return round(moment.timestamp() * 1_000) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def fitted(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the table's columns of a frame, in its order and types; texts are cut at `LONGEST_TEXT` bytes.

    Raises:
        WarehouseError: A required column has nulls.
    """
    schema = table.schema
    columns = [pl.col(name).cast(kind) for name, kind in schema.items()]
    selected = frame.select(columns).with_columns(
        pl.when(pl.col(name).str.len_bytes() > LONGEST_TEXT).then(_cut(name)).otherwise(pl.col(name)).alias(name)
        for name, kind in schema.items()
        if kind == pl.String
    )
    empty = [column.name for column in table.columns if column.required and selected[column.name].null_count()]
    if empty:
        raise WarehouseError(
            f"rows for {table.name} have no value in {', '.join(empty)}: materialize what they come from again"
        )
    return selected


def _cut(name: str) -> pl.Expr:
    """Cut at a character: a character of UTF-8 has at most four bytes."""
    return pl.col(name).str.slice(0, LONGEST_TEXT // 4)


def checked_rows(rows: Mapping[str, pl.DataFrame], *, release_bundle: str) -> dict[Table, pl.DataFrame]:
    """Return the frames by table, sure to be those of one bundle.

    Raises:
        WarehouseError: A table is missing or unknown, has other columns, or rows of another bundle.
    """
    names = {table.name for table in BUNDLE_TABLES}
    if set(rows) != names:
        raise WarehouseError(f"a load needs the tables {sorted(names)}, and was given {sorted(rows)}")
    for table in BUNDLE_TABLES:
        frame = rows[table.name]
        if frame.schema != table.schema:
            raise WarehouseError(f"rows for {table.name} have the columns {dict(frame.schema)}, not {table.schema}")
        strangers = frame.filter(pl.col("release_bundle").ne_missing(release_bundle)).height
        if strangers:
            raise WarehouseError(f"{strangers} rows for {table.name} are not of release bundle {release_bundle}")
    return {table: rows[table.name] for table in BUNDLE_TABLES}


def rows_digest(rows: Mapping[Table, pl.DataFrame]) -> str:
    """Return a SHA-256 over rows and table definitions: equal rows in the same order have the same one."""
    parts = {
        table.name: [create_statement(table), hashlib.sha256(to_parquet(frame)).hexdigest()]
        for table, frame in rows.items()
    }
    return hashlib.sha256(canonical_json(parts)).hexdigest()
