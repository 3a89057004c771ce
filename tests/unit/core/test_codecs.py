"""Claims about stored values: what is written is read back, and nothing else is read."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import polars as pl
import pytest

from mangaassist_assets.core.codecs import from_json, to_parquet
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
