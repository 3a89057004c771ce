"""Groups of a report as people see them: so many a dimension, the largest, under names that cannot break a page.

What a prompt, a team or a stage is called comes from outside. The snapshot holds all of it as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mangaassist_assets.core.intervals import Interval
from mangaassist_assets.reporting.warehouse.queries import OVERALL

NOT_STATED = "(not stated)"
LONGEST_NAME = 60
MOST_GROUPS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRows:
    """Rows in their own order, and how many more each dimension has."""

    rows: list[dict[str, Any]]
    more: Mapping[str, int]

    @property
    def said(self) -> str:
        """What is not shown, in words; empty where all is."""
        return ", ".join(f"{count} more by {dimension}" for dimension, count in self.more.items() if count)


def largest_groups(rows: Iterable[Mapping[str, Any]], *, by: str, most: int = MOST_GROUPS) -> ShownRows:
    """Return the largest rows of each dimension; a dimension that nothing states says nothing and is left out.

    Args:
        rows: Rows with `dimension` and `value`.
        by: The column that says how large a row is.
        most: So many of a dimension are shown.
    """
    dimensions: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        dimensions.setdefault(row["dimension"], []).append(dict(row))
    shown: list[dict[str, Any]] = []
    more: dict[str, int] = {}
    for dimension, found in dimensions.items():
        if dimension != OVERALL and all(row["value"] is None for row in found):
            continue
        # Of equals the first stays.
        kept = {id(row) for row in sorted(found, key=lambda row: -row[by])[:most]}
        shown += [row for row in found if id(row) in kept]
        more[dimension] = len(found) - len(kept)
    return ShownRows(rows=shown, more=more)


def shown_groups(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str],
    *,
    by: str,
    names: Mapping[str, str] = MappingProxyType({}),
) -> ShownRows:
    """Return the largest rows of each dimension with some of their columns; see `largest_groups` and `shown_rows`."""
    found = largest_groups(rows, by=by)
    return ShownRows(rows=shown_rows(found.rows, columns, names=names), more=found.more)


def shown_rows(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, names: Mapping[str, str] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """Return rows with a name for what is not stated, and numbers rounded to four digits.

    Args:
        rows: Rows with `dimension` and `value`.
        columns: What is shown of them beside these.
        names: What a column is called where it is shown, such as with its unit.
    """

    def cell(value: object) -> object:
        return round(value, 4) if isinstance(value, float) else shown_name(value) if isinstance(value, str) else value

    return [
        {
            "dimension": row["dimension"],
            "value": shown_value(row),
            **{names.get(name, name): cell(row[name]) for name in columns},
        }
        for row in rows
    ]


def shown_value(row: Mapping[str, Any]) -> str:
    """Return what a row's group is called; nothing for the whole."""
    return "" if row["dimension"] == OVERALL else shown_name(row["value"])


def shown_name(name: str | None) -> str:
    """Return a name from outside on one line, cut where it is long."""
    if name is None:
        return NOT_STATED
    plain = printable(name)
    return plain if len(plain) <= LONGEST_NAME else f"{plain[: LONGEST_NAME - 1]}…"


def printable(name: str) -> str:
    """Return a name with a replacement character for each that cannot be seen, or turns the writing around."""
    return "".join(char if char.isprintable() else "\ufffd" for char in name)


def bounds(interval: Interval | None) -> tuple[float | None, float | None, float | None]:
    """Return value, low and high of an interval, None each where there is no interval."""
    return (None, None, None) if interval is None else (interval.value, interval.low, interval.high)
