"""The warehouse's tables as data, and the statements that make and fill them.

Every statement runs unchanged on DuckDB, PostgreSQL and Amazon Redshift: four types, no constraint but NOT NULL, no
index, no collation. No table holds what a shopper wrote or was answered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import polars as pl

ColumnType = Literal["text", "integer", "real", "boolean"]

LONGEST_TEXT = 1_024
"""Bytes a text column holds. Redshift counts VARCHAR in bytes and refuses a COPY with a longer value."""

_SQL_TYPES = {
    "text": f"VARCHAR({LONGEST_TEXT})",
    "integer": "BIGINT",
    "real": "DOUBLE PRECISION",
    "boolean": "BOOLEAN",
}
_POLARS_TYPES: dict[str, type[pl.DataType]] = {
    "text": pl.String,
    "integer": pl.Int64,
    "real": pl.Float64,
    "boolean": pl.Boolean,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column; `required` means that it is never null."""

    name: str
    type: ColumnType
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table. Every table has the column `release_bundle`, by which its rows are replaced."""

    name: str
    description: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pl.Schema:
        """The columns as Polars has them, in the table's order, which COPY from Parquet relies on."""
        return pl.Schema({column.name: _POLARS_TYPES[column.type]() for column in self.columns})


def _columns(required: str, **names: str) -> tuple[Column, ...]:
    """Return columns from their names by type; `required` are those that are never null."""
    return tuple(
        Column(name=name, type=kind, required=name in required.split())
        for kind in get_args(ColumnType)
        for name in names.get(kind, "").split()
    )


CHAT_TURNS = Table(
    name="chat_turns",
    description="One row is one finished chat turn; timestamp_ms is its start, milliseconds since the epoch (UTC).",
    columns=_columns(
        "release_bundle trace_id timestamp_ms duration_ms state session_id guardrail_blocked",
        text="release_bundle trace_id session_id user_key state intent intent_model_version reranker_version "
        "prompt_version bedrock_model_id guardrail_ruleset_version routing_policy_version index_generation "
        "embedding_model_id experiment_id failed_span user_feedback expected_intent reviewer shape tenant team",
        integer="timestamp_ms duration_ms",
        real="intent_confidence",
        boolean="cache_hit guardrail_blocked",
    ),
)
TURN_STAGES = Table(
    name="turn_stages",
    description="One row is one span of a turn; position counts from 1 in the order of the trace.",
    columns=_columns(
        "release_bundle trace_id position name duration_ms failed",
        text="release_bundle trace_id name",
        integer="position",
        real="duration_ms",
        boolean="failed",
    ),
)
TURN_GENERATIONS = Table(
    name="turn_generations",
    description="One row is one call of a language model in a turn; position counts from 1.",
    columns=_columns(
        "release_bundle trace_id position",
        text="release_bundle trace_id model_id stop_reason",
        integer="position input_tokens output_tokens cache_read_tokens cache_write_tokens",
        real="reported_cost_usd",
    ),
)
FEEDBACK_EVENTS = Table(
    name="feedback_events",
    description="One row is one thumb; position counts from 1 in the order of (time, event id), so the last one holds.",
    columns=_columns(
        "release_bundle event_id trace_id feedback timestamp_ms position",
        text="release_bundle event_id trace_id session_id user_key feedback",
        integer="timestamp_ms position",
    ),
)
BUNDLE_LOADS = Table(
    name="bundle_loads",
    description="One row is one release bundle that was loaded: the digest of its rows, and how often it was loaded.",
    columns=_columns("release_bundle digest load_number", text="release_bundle digest", integer="load_number"),
)
BUNDLE_TABLES = (CHAT_TURNS, TURN_STAGES, TURN_GENERATIONS, FEEDBACK_EVENTS)
"""What one load of a release bundle replaces, all of it or nothing."""


ERASED = "erased"
_ERASED_AT_ONCE = 400


def erase_statements(column: str, values: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield what removes the rows with one of the values: how they are counted, then the statements of a transaction.

    A bundle that loses rows no longer counts as loaded, so that its next load writes it anew. Values are compared by
    their MD5, which no value can break out of.

    Raises:
        ValueError: No table has the column.
    """
    tables = [table for table in BUNDLE_TABLES if column in table.schema]
    if not tables:
        raise ValueError(f"no table of the warehouse has the column {column!r}")
    hashes = sorted(
        hashlib.md5(value.encode(errors="surrogatepass"), usedforsecurity=False).hexdigest() for value in set(values)
    )
    for start in range(0, len(hashes), _ERASED_AT_ONCE):
        listed = ", ".join(f"'{one}'" for one in hashes[start : start + _ERASED_AT_ONCE])
        for table in tables:
            rows = f"FROM {table.name} WHERE MD5({column}) IN ({listed})"
            bundles = f"SELECT release_bundle {rows}"
            lost = f"release_bundle IN ({bundles})"
            forgotten = f"UPDATE {BUNDLE_LOADS.name} SET digest = '{ERASED}' WHERE {lost}"  # noqa: S608 - all ours
            yield f"SELECT COUNT(*) AS n {rows}", [forgotten, f"DELETE {rows}"]


def create_statement(table: Table) -> str:
    """Return the statement that makes the table where it is missing."""
    columns = ", ".join(
        f"{column.name} {_SQL_TYPES[column.type]}{' NOT NULL' if column.required else ''}" for column in table.columns
    )
    return f"CREATE TABLE IF NOT EXISTS {table.name} ({columns})"


def insert_statement(table: Table, *, source: str) -> str:
    """Return the statement that copies every row of another relation with the same columns into the table."""
    names = ", ".join(column.name for column in table.columns)
    return f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {source}"  # noqa: S608 - names are this module's


def delete_statement(table: Table) -> str:
    """Return the statement that removes the rows of `:release_bundle`."""
    return f"DELETE FROM {table.name} WHERE release_bundle = :release_bundle"  # noqa: S608 - names are this module's
