"""Sensor cursors: small, versioned JSON. A cursor of another version is an error that says how to start afresh."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from mangaassist_assets.core.codecs import from_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

State = TypeVar("State")
_AGAIN = "reset the sensor's cursor to start afresh"


class CursorError(ValueError):
    """A stored cursor cannot be read; resetting the sensor's cursor starts it afresh."""


def to_cursor(kind: str, version: int, state: DataclassInstance) -> str:
    """Return a sensor's state as one line of JSON."""
    content = {"kind": kind, "version": version, "state": asdict(state)}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def cursor_version(kind: str, text: str | None) -> int | str | None:
    """Return the version of a cursor as it is written there; None for None and "", which is the first look.

    Raises:
        CursorError: the text is no JSON, or a cursor of another sensor.
    """
    if not text:
        return None
    version = _content(kind, text).get("version")
    return version if isinstance(version, int | str) else "unknown"


def from_cursor(kind: str, version: int, text: str | None, state: type[State]) -> State | None:
    """Return the state inside a cursor; None for None and "", which is the first look.

    Raises:
        CursorError: the text is no JSON, a cursor of another sensor or version, or its state is damaged.
    """
    if not text:
        return None
    value = _content(kind, text)
    if value.get("version") != version:
        raise CursorError(
            f"the cursor of {kind} has version {value.get('version')!r}, this code reads {version}: {_AGAIN}"
        )
    try:
        return from_json(state, json.dumps(value.get("state")).encode())
    except ValueError as error:
        raise CursorError(f"the cursor of {kind} is damaged ({error}): {_AGAIN}") from error


def _content(kind: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CursorError(f"the cursor of {kind} is no JSON: {_AGAIN}") from error
    if not isinstance(value, dict) or value.get("kind") != kind:
        raise CursorError(f"the stored cursor is none of {kind}: {_AGAIN}")
    return value
