"""Stored bytes of plain values: dataclasses read back from JSON, tables as Parquet.

`canonical_json` writes what `from_json` reads.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import polars as pl
    from pydantic import TypeAdapter

T = TypeVar("T")
ROW_GROUP = 50_000
"""Rows of one row group of a stored table: so much of it is in memory where it is written or read in parts."""
_PARQUET: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 3,
    "statistics": True,
    "row_group_size": ROW_GROUP,
}


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
    frame.write_parquet(buffer, **_PARQUET)
    return buffer.getvalue()


def parquet_of(row_groups: Iterable[pl.DataFrame], schema: pl.Schema) -> bytes:
    """Return the table that these frames are, one after another, as Parquet; few of them are in memory at once.

    Frames that were just gathered (sorted, joined) give the same bytes for the same rows. A slice does not: its pages
    of lists are cut by the size of the table that it is a part of.

    Raises:
        ValueError: a frame that is not the last has another number of rows than `ROW_GROUP`.
    """
    from polars.io.plugins import register_io_source

    def frames(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        del with_columns, predicate, n_rows, batch_size  # The whole table is written, nothing is pushed down.
        short = False
        for frame in row_groups:
            if short or frame.height > ROW_GROUP:
                raise ValueError(f"a row group that is not the last has other than {ROW_GROUP} rows")
            short = frame.height < ROW_GROUP
            yield frame

    buffer = io.BytesIO()
    register_io_source(frames, schema=schema).sink_parquet(buffer, **_PARQUET)
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
