"""Claims about stored values: what is written is read back, and nothing else is read."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import polars as pl
import pytest

from mangaassist_assets.core.codecs import ROW_GROUP, from_json, parquet_of, to_parquet
from mangaassist_assets.core.snapshots import canonical_json


class Place(NamedTuple):
    row: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    name: str
    kind: Literal["a", "b"] = "a"
    places: tuple[Place, ...] = ()
    score: float | None = None


ITEMS = (Item(name="ひとつ", places=(Place(1, 2), Place(3, 4))), Item(name="two", kind="b", score=1.0))


def test_dataclasses_come_back_from_their_json_and_the_same_values_are_the_same_bytes():
    content = canonical_json(ITEMS)
    assert from_json(tuple[Item, ...], content) == ITEMS
    assert canonical_json(from_json(tuple[Item, ...], content)) == content
    by_name = {one.name: one for one in ITEMS}
    assert from_json(dict[str, Item], canonical_json(by_name)) == by_name


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"name":1}',
        b'{"name":"x","kind":"c"}',
        b'{"name":"x","score":"1.0"}',
        b'{"name":"x","places":[[1]]}',
        b'{"name":"x","places":[["1",2]]}',
        b'{"name":"x","unknown":1}',
    ],
)
def test_what_is_no_such_value_is_refused_and_nothing_is_converted(content):
    with pytest.raises(ValueError, match="Item"):
        from_json(Item, content)


def test_what_is_neither_json_nor_a_dataclass_cannot_be_written():
    for value in ({1, 2}, object(), Item, float("nan")):
        with pytest.raises((TypeError, ValueError)):
            canonical_json({"value": value})


def test_the_same_table_is_the_same_parquet():
    frame = pl.DataFrame({"id": ["a", "b"], "value": [1.5, None]})
    assert to_parquet(frame) == to_parquet(frame.clone())
    assert pl.read_parquet(to_parquet(frame)).equals(frame)


def listed(rows: int, *, start: int = 0) -> pl.DataFrame:
    """A table with a list in each row, gathered anew."""
    numbers = pl.DataFrame({"number": range(start, start + rows)})
    return numbers.with_columns(words=pl.format("w{}", "number").repeat_by(pl.col("number") % 3)).sort("number")


def test_a_table_that_is_written_in_parts_has_the_bytes_of_the_whole_one():
    small = listed(1_000)
    assert parquet_of([small], small.schema) == to_parquet(small)
    assert parquet_of([], small.schema) == parquet_of([small.clear()], small.schema) == to_parquet(small.clear())
    parts = [listed(ROW_GROUP), listed(ROW_GROUP, start=ROW_GROUP), listed(7, start=2 * ROW_GROUP)]
    content = parquet_of(iter(parts), small.schema)
    assert content == to_parquet(pl.concat(parts))
    assert pl.read_parquet(content).equals(pl.concat(parts))


def test_a_part_of_another_size_that_is_not_the_last_is_refused():
    short = listed(3)
    with pytest.raises(ValueError, match="row group"):
        parquet_of([short, short], short.schema)
    with pytest.raises(ValueError, match="row group"):
        parquet_of([listed(ROW_GROUP + 1)], short.schema)
