"""A report as it is stored: one JSON file that holds all of it, and each of its tables as Parquet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mangaassist_assets.core.snapshots import canonical_json

if TYPE_CHECKING:
    import polars as pl

REPORT_FILE = "report.json"


def report_files(report: object, tables: Mapping[str, pl.DataFrame]) -> dict[str, bytes]:
    """Return the files of a report by name; `report` is a dataclass or plain JSON values."""
    from mangaassist_assets.core.codecs import to_parquet

    return {
        REPORT_FILE: canonical_json(report),
        **{f"{name}.parquet": to_parquet(frame) for name, frame in tables.items()},
    }
