"""How a person's data is recognised in a stored file: by the pseudonym, by traces, by what only this person said."""

from __future__ import annotations

import html
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import polars as pl

_WORD = re.compile(rb"[0-9A-Za-z._:/-]+")
_PARQUET = b"PAR1"
SHORTEST_TEXT = 24
"""Characters from which on a text counts as somebody's own: shorter ones many people say."""


@dataclass(frozen=True)
class PersonMarks:
    """What a person's data is known by.

    `texts` are messages and answers of the person's turns, redacted as they are stored, that no one else's turn has.
    """

    user_key: str
    trace_ids: frozenset[str]
    texts: frozenset[str] = frozenset()

    @cached_property
    def ids(self) -> frozenset[str]:
        """The pseudonym and the ids of the traces."""
        return self.trace_ids | {self.user_key}

    @cached_property
    def long_texts(self) -> frozenset[str]:
        """The texts that are long enough to be looked for."""
        return frozenset(one for one in self.texts if len(one) >= SHORTEST_TEXT)

    def are_in(self, content: bytes, *, texts: bool = True, quoted: bool = False) -> bool:
        """Return whether a file holds the person's data: Parquet, JSON, or any text.

        Args:
            content: The file. Pictures and arrays of numbers hold none.
            texts: Look for the person's texts too, not only for ids.
            quoted: They may stand within longer ones.
        """
        said = self.long_texts if texts else frozenset[str]()
        if content.startswith(_PARQUET):
            wanted = sorted(self.ids | said)
            # A column at a time: a bundle may have a million turns.
            columns = (
                pl.read_parquet(io.BytesIO(content), columns=[name])[name]
                for name, dtype in pl.read_parquet_schema(io.BytesIO(content)).items()
                if dtype == pl.String or dtype.is_nested()
            )
            return any(bool(one.is_in(wanted).any()) for column in columns for one in _texts(column))
        try:
            text = content.decode()
        except UnicodeDecodeError:
            return False
        if not self.ids.isdisjoint(word.decode() for word in _WORD.findall(content)):
            return True
        if not said:
            return False
        try:
            leaves = list(_leaves(json.loads(text)))
        except ValueError:
            leaves, quoted = [], True
        return not said.isdisjoint(leaves) or (
            quoted and any(one in text or html.escape(one) in text or json.dumps(one)[1:-1] in text for one in said)
        )

    def rows_of(self, frame: pl.DataFrame) -> pl.Series:
        """Return for each row whether a text column of it, not a nested one, holds an id of the person."""
        wanted = sorted(self.ids)
        columns = [name for name, dtype in frame.schema.items() if dtype == pl.String]
        if not columns:
            return pl.Series(values=[False] * frame.height, dtype=pl.Boolean)
        named = pl.any_horizontal(pl.col(columns).is_in(wanted).fill_null(value=False))
        return frame.select(named.alias("of_person")).to_series()


def _texts(column: pl.Series) -> Iterator[pl.Series]:
    """Yield the columns of texts in a column, however deep."""
    if column.dtype == pl.String:
        yield column
    elif isinstance(column.dtype, pl.List | pl.Array):
        yield from _texts(column.explode())
    elif isinstance(column.dtype, pl.Struct):
        for name in column.struct.fields:
            yield from _texts(column.struct.field(name))


def _leaves(value: object) -> Iterator[str]:
    """Yield the texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _all(value.values())
    elif isinstance(value, list):
        yield from _all(value)


def _all(values: Iterable[object]) -> Iterator[str]:
    for one in values:
        yield from _leaves(one)
