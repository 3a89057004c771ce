"""Cells of a table that people open in a spreadsheet: what would be a formula there is text, and text again here."""

from __future__ import annotations

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # full width, as Excel takes them
_MARK = "'"


def guarded(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula (OWASP, "CSV Injection")."""
    return f"{_MARK}{text}" if text.lstrip(_MARK).startswith(_FORMULA) else text


def unguarded(cell: str) -> str:
    """Return what `guarded` was given."""
    return cell[1:] if cell.startswith(_MARK) and cell.lstrip(_MARK).startswith(_FORMULA) else cell
