"""Sensor cursors: small, versioned JSON. A cursor of another version is an error that says how to start afresh."""

from __future__ import annotations

import json
from typing import Any


class CursorError(ValueError):
    """A stored cursor cannot be read; resetting the sensor's cursor starts it afresh."""


def cursor_to_json(kind: str, version: int, state: dict[str, Any]) -> str:
    """Return the cursor as one line of JSON."""
    return json.dumps(
        {"kind": kind, "version": version, "state": state}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )


def cursor_from_json(kind: str, version: int, text: str) -> dict[str, Any]:
    """Return the state inside a cursor.

    Raises:
        CursorError: the text is no JSON, or a cursor of another sensor or version.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f"the cursor of {kind} is no JSON: reset the sensor's cursor to start afresh"
        raise CursorError(msg) from error
    if not isinstance(value, dict) or value.get("kind") != kind or not isinstance(value.get("state"), dict):
        msg = f"the stored cursor is none of {kind}: reset the sensor's cursor to start afresh"
        raise CursorError(msg)
    if value.get("version") != version:
        msg = (
            f"the cursor of {kind} has version {value.get('version')!r}, this code reads {version}: "
            "reset the sensor's cursor to start afresh"
        )
        raise CursorError(msg)
    state: dict[str, Any] = value["state"]
    return state
