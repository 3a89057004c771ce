"""Snapshots as rows of the warehouse: turns, their stages and model calls, and feedback events."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict

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
from mangaassist_assets.tracing.feedback.events import FeedbackRecord
from mangaassist_assets.tracing.ingestion.turn_frames import TURN_SCHEMA


def turn_rows(turns: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return the rows of `chat_turns`, `turn_stages` and `turn_generations`, by table.

    Args:
        turns: Chat turns in TURN_SCHEMA.

    Raises:
        SnapshotSchemaError: The frame is no snapshot of turns.
    """
    if lost := [name for name in TURN_SCHEMA if name not in turns.columns]:
        raise SnapshotSchemaError(
            f"the snapshot of chat turns lacks the columns {lost}: materialize tagged_traces again"
        )
    return {
        CHAT_TURNS.name: fitted(CHAT_TURNS, turns),
        TURN_STAGES.name: fitted(TURN_STAGES, unnested(turns, "stages")),
        TURN_GENERATIONS.name: fitted(TURN_GENERATIONS, unnested(turns, "generations")),
    }


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


def feedback_rows(events: Iterable[FeedbackRecord]) -> pl.DataFrame:
    """Return feedback events as rows of `feedback_events`, numbered by time and then by id."""
    ordered = sorted(events, key=lambda one: (one.timestamp_ms, one.event_id))
    rows = [
        {**asdict(one), "timestamp_ms": one.timestamp_ms, "position": position}
        for position, one in enumerate(ordered, start=1)
    ]
    return fitted(FEEDBACK_EVENTS, pl.DataFrame(rows, schema=FEEDBACK_EVENTS.schema, orient="row"))


def fitted(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the table's columns of a frame, in its order and types; texts are cut at `LONGEST_TEXT` bytes.

    Raises:
        WarehouseError: A required column has nulls.
    """
    schema = table.schema
    columns = [pl.col(name).cast(kind) for name, kind in schema.items()]
    selected = frame.select(columns).with_columns(
        # Cut at a character: a character of UTF-8 has at most four bytes.
        pl.when(pl.col(name).str.len_bytes() > LONGEST_TEXT)
        .then(pl.col(name).str.slice(0, LONGEST_TEXT // 4))
        .otherwise(pl.col(name))
        .alias(name)
        for name, kind in schema.items()
        if kind == pl.String
    )
    empty = [column.name for column in table.columns if column.required and selected[column.name].null_count()]
    if empty:
        raise WarehouseError(
            f"rows for {table.name} have no value in {', '.join(empty)}: materialize what they come from again"
        )
    return selected


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
