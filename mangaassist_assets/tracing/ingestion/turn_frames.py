"""Chat turns as a frame and as Parquet bytes: the stored form of one release bundle's traces.

The same turns give the same bytes whatever order they came in, so that the digest of a snapshot identifies its content.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from operator import attrgetter
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import polars as pl

from mangaassist_assets.core.bundles import TURNS_ASSET
from mangaassist_assets.core.codecs import check_schema
from mangaassist_assets.tracing.contract.turns import (
    ChatTurn,
    Generation,
    RankedCandidate,
    Review,
    StageTiming,
    ToolCall,
    Verdict,
)

T = TypeVar("T")
_SCALARS: Mapping[object, pl.DataType] = {
    str: pl.String(), int: pl.Int64(), float: pl.Float64(), bool: pl.Boolean(),
}  # fmt: skip


def _columns_of(kind: type[Any]) -> dict[str, pl.DataType]:
    return {name: _column_type(hint) for name, hint in get_type_hints(kind).items()}


def _column_type(hint: Any) -> pl.DataType:  # noqa: ANN401 - any annotation
    inside = [one for one in get_args(hint) if one not in (NoneType, ...)]
    if get_origin(hint) is tuple:
        return pl.List(_column_type(inside[0]))
    if get_origin(hint) is Literal:
        return pl.String()
    if is_dataclass(hint):
        return pl.Struct(_columns_of(hint))  # type: ignore[arg-type]
    return _column_type(inside[0]) if inside else _SCALARS[hint]


TURN_SCHEMA = pl.Schema(_columns_of(ChatTurn))
QUARANTINE_SCHEMA = pl.Schema(
    {"trace_id": pl.String, "timestamp_ms": pl.Int64, "reason": pl.String, "release_bundle": pl.String}
)
_NESTED_KINDS = {
    "candidates": RankedCandidate,
    "stages": StageTiming,
    "generations": Generation,
    "reviews": Review,
    "tools": ToolCall,
    "verdicts": Verdict,
}
_FIELDS = {kind: tuple(one.name for one in fields(kind)) for kind in (ChatTurn, *_NESTED_KINDS.values())}
_VALUES = {kind: attrgetter(*names) for kind, names in _FIELDS.items()}
_LISTS = {
    kind: tuple(name for name, hint in get_type_hints(kind).items() if get_origin(hint) is tuple) for kind in _FIELDS
}


def turn_row(turn: ChatTurn) -> dict[str, Any]:
    """Return the turn as plain values; `dataclasses.asdict` copies each of them, at three times the cost."""
    row = _plain(turn)
    for name in _NESTED_KINDS:
        row[name] = [_plain(one) for one in row[name]]
    return row


def _plain(
    value: ChatTurn | RankedCandidate | StageTiming | Generation | Review | ToolCall | Verdict,
) -> dict[str, Any]:
    kind = type(value)
    return dict(zip(_FIELDS[kind], _VALUES[kind](value), strict=True))


def turns_of(frame: pl.DataFrame) -> Iterator[ChatTurn]:
    """Yield the turns of a frame in its order, each made when it is asked for.

    Raises:
        SnapshotSchemaError: The frame has other columns or types than TURN_SCHEMA.
    """
    return map(_turn, check_schema(frame, TURN_SCHEMA, TURNS_ASSET).iter_rows(named=True))


def _turn(row: dict[str, Any]) -> ChatTurn:
    for name, kind in _NESTED_KINDS.items():
        row[name] = [_built(kind, values) for values in row[name]]
    return _built(ChatTurn, row)


def _built(kind: type[T], row: dict[str, Any]) -> T:
    for name in _LISTS[kind]:
        row[name] = tuple(row[name] or ())
    return kind(**row)
