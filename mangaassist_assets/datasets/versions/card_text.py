"""Parts of a data card's Markdown: cells, tables of counts, moments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from mangaassist_assets.datasets.schema import SPLITS

_YEAR_10000_MS = 253_402_300_800_000


def moment(timestamp_ms: int) -> str:
    """Return milliseconds since the epoch as ISO 8601 in UTC; what no calendar has (a "never") as the number."""
    if not 0 <= timestamp_ms < _YEAR_10000_MS:
        return f"{timestamp_ms} ms since 1970"
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def cell(text: str) -> str:
    """Return a text as one cell of a Markdown table: no new column, no line break, no HTML."""
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return " ".join(escaped.split())


def count_table(title: str, counts: Mapping[str, int], *, unit: str = "Examples") -> list[str]:
    """Return a table of counts, no line where there are none."""
    if not counts:
        return []
    return [f"| {title} | {unit} |", "|---|---:|", *(f"| {cell(key)} | {n} |" for key, n in counts.items()), ""]


def side_table(title: str, counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return a table of counts by side, no line where there are none."""
    if not counts:
        return []
    lines = [f"| {title} | train | validation | test |", "|---|---:|---:|---:|"]
    for name, sides in counts.items():
        lines.append(f"| {cell(name)} | {' | '.join(str(sides.get(side, 0)) for side in SPLITS)} |")
    return [*lines, ""]
