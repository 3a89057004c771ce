"""Stored bytes of plain values: dataclasses read back from JSON, tables as Parquet.

`canonical_json` writes what `from_json` reads.
"""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import polars as pl
    from pydantic import TypeAdapter

T = TypeVar("T")


class SnapshotSchemaError(ValueError):
    """A stored table of other columns or types than this version reads."""


def from_json(kind: type[T], content: bytes) -> T:
    """Return the value of a type, of dataclasses and containers of them, that JSON holds.

    Nothing is converted and nothing passed over: a number in quotes, a missing field and an unknown one are errors.

    Raises:
        ValueError: The content is no JSON, or no such value; the message names the place.
    """
    hashable: Any = kind
    value: T = _adapter(hashable).validate_json(content, strict=True, extra="forbid")
    return value


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:  # noqa: ANN401 - any type
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def to_parquet(frame: pl.DataFrame) -> bytes:
    """Return a table as Parquet; the same table gives the same bytes."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=3, statistics=True, row_group_size=50_000)
    return buffer.getvalue()


def check_schema(frame: pl.DataFrame, schema: pl.Schema, asset: str, *, first: str = "") -> pl.DataFrame:
    """Return a stored table of an asset unchanged; `first` is what to do before the asset can be materialized again.

    Raises:
        SnapshotSchemaError: It has other columns or types than the schema; names those.
    """
    if frame.schema != schema:
        wrong = sorted({name for name, _ in frame.schema.items() ^ schema.items()})
        raise SnapshotSchemaError(
            f"the table is no snapshot of {asset}, these columns differ: {wrong}; {first}materialize {asset} again "
            "with this version"
        )
    return frame
