"""Figures as plain values: what a report says of itself to whoever shows it, be it Dagster's page or a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Cell: TypeAlias = str | int | float | bool | None
Row: TypeAlias = dict[str, Cell]
Figure: TypeAlias = str | int | float | bool | Sequence[Mapping[str, Cell]]
"""A value, or the rows of a table."""
Figures: TypeAlias = dict[str, Figure]


def count_rows(counts: Mapping[str, int], *, what: str = "what", number: str = "number") -> list[Row]:
    """Return counts as rows of two columns, in their own order."""
    return [{what: name, number: count} for name, count in counts.items()]
