"""What a warehouse does, whatever database it is, and how it fails."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

import polars as pl


class WarehouseError(RuntimeError):
    """The warehouse refused something; the message names the statement and what to do."""


class WarehouseBusyError(WarehouseError):
    """Another process holds the warehouse for longer than was waited."""


class Warehouse(Protocol):
    """Rows by release bundle, asked in SQL."""

    def load(self, rows: Mapping[str, pl.DataFrame], *, release_bundle: str) -> bool:
        """Replace a bundle's rows in every table of `BUNDLE_TABLES`, in one transaction.

        Args:
            rows: One frame a table, by its name, in its schema; only rows of this bundle.
            release_bundle: The bundle.

        Returns:
            False where the warehouse held exactly these rows already, so that nothing was written.

        Raises:
            WarehouseError: Nothing was changed.
        """
        ...

    def query(self, sql: str, parameters: Mapping[str, str] | None = None) -> pl.DataFrame:
        """Return what a statement selects; `:name` in it stands for a parameter, always a text."""
        ...

    def erase(self, column: str, values: Collection[str]) -> int:
        """Remove the rows whose column has one of the values, of every table that has the column.

        Returns:
            How many rows were removed.
        """
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...
