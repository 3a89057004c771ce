"""Typed reading of the TOML tables that mining rules are written in; every error names file and key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from mangaassist_assets.mining.blame.rule_names import Number


class MiningRulesError(ValueError):
    """A rules file that cannot be used; the message names the file, the key and what is wrong."""


@dataclass(frozen=True, slots=True)
class TableReader:
    """Checked access to parsed TOML; `file` is what messages call it, `where` is the name of the table at hand."""

    file: str

    def keys(
        self,
        table: Mapping[str, Any],
        where: str,
        wanted: set[str],
        *,
        optional: frozenset[str] | set[str] = frozenset(),
    ) -> None:
        """Refuse keys that nobody reads and those that are missing."""
        prefix = f"{where}." if where else ""
        for key in sorted(set(table) - wanted - optional):
            raise self.wrong(f"{prefix}{key[:60]}", f"is unknown; there are {', '.join(sorted(wanted | optional))}")
        for key in sorted(wanted - set(table)):
            raise self.wrong(f"{prefix}{key}", "is missing: a rules file is complete, copy the packaged one")

    def table(self, table: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
        """Return a table within a table; `where` is the full name of the inner one."""
        value = table[key]
        if not isinstance(value, dict):
            raise self.wrong(where, f"is {short(value)}, not a table")
        return value

    def number(self, table: Mapping[str, Any], key: str, where: str, kind: Number) -> float:
        """Return a number within its bounds."""
        value = table[key]
        if not _is_number(value) or not kind.low <= value <= kind.high:
            raise self.wrong(f"{where}.{key}", f"is {short(value)}, not a number from {kind.low:g} to {kind.high:g}")
        return float(value)

    def boolean(self, table: Mapping[str, Any], key: str, where: str) -> bool:
        """Return true or false."""
        value = table[key]
        if not isinstance(value, bool):
            raise self.wrong(f"{where}.{key}", f"is {short(value)}, neither true nor false")
        return value

    def names(self, table: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
        """Return a list of names, each once in its order."""
        value = table[key]
        if not isinstance(value, list) or not all(isinstance(name, str) and name.strip() for name in value):
            raise self.wrong(f"{where}.{key}", f"is {short(value)}, not a list of names")
        return tuple(dict.fromkeys(name.strip() for name in value))

    def wrong(self, key: str, why: str) -> MiningRulesError:
        """Return the error of a key."""
        return MiningRulesError(f"mining rules {self.file}: {key} {why}")


def short(value: object) -> str:
    """Return a value as an error shows it."""
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:79]}…"


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
