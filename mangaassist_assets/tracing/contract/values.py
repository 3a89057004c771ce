"""Reading values of any type that other tools put into spans: what cannot be read is None, nothing raises."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence

_LONGEST_JSON = 5_000_000
_LONGEST_NAME = 250
_LARGEST_COUNT = 2**53
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_JSON_STARTS = ("{", "[", '"')
_RESULT_KINDS = ("tool_result", "tool_call_response")
_TEXT_KINDS = (None, "text", "output_text", "input_text")


def decoded(value: object) -> object:
    """Return the JSON that a text or bytes hold; any other value, and what is not JSON, as it is."""
    if type(value) is str:
        if not value or value.lstrip()[:1] not in _JSON_STARTS:
            return value
    elif isinstance(value, bytes | bytearray):
        value = bytes(value).decode("utf-8", "replace")
    if not isinstance(value, str) or not value or len(value) > _LONGEST_JSON or value.lstrip()[:1] not in _JSON_STARTS:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def mapping(value: object) -> Mapping[str, object]:
    """Return an object, decoded where it came as text; an empty one for anything else."""
    value = decoded(value)
    return value if isinstance(value, Mapping) else {}


def sequence(value: object) -> Sequence[object]:
    """Return a list, decoded where it came as text; an empty one for anything else."""
    value = decoded(value)
    return value if isinstance(value, list | tuple) else ()


def first_of(value: object) -> object:
    """Return the first entry of a list, or None."""
    entries = sequence(value)
    return entries[0] if entries else None


def text(value: object) -> str | None:
    """Return a text that is not empty, or None."""
    return value if isinstance(value, str) and value.strip() else None


def name(value: object) -> str | None:
    """Return a text that the contract takes as an identifier: up to 250 characters, none of control; or None."""
    found = text(value)
    return None if found is None or len(found) > _LONGEST_NAME or _CONTROL.search(found) else found


def count(value: object) -> int | None:
    """Return a number of things, also where it came as text, or None."""
    found = number(value)
    return None if found is None or found < 0 or found > _LARGEST_COUNT or found != int(found) else int(found)


def number(value: object) -> float | None:
    """Return a finite number, also where it came as text, or None."""
    if isinstance(value, str) and len(value) <= 40:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def truth(value: object) -> bool | None:
    """Return a boolean, also where it came as text, or None."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return None


def first_text(*values: object) -> str | None:
    """Return the first that is a text and not empty."""
    return next((found for value in values if (found := text(value)) is not None), None)


def first_name(*values: object) -> str | None:
    """Return the first that can be an identifier."""
    return next((found for value in values if (found := name(value)) is not None), None)


def first_count(*values: object) -> int | None:
    """Return the first that is a count."""
    return next((found for value in values if (found := count(value)) is not None), None)


def first_number(*values: object) -> float | None:
    """Return the first that is a finite number."""
    return next((found for value in values if (found := number(value)) is not None), None)


def content_text(content: object) -> str | None:
    """Return the text parts of a message's content, joined by line ends.

    Content is a text, or a list of parts: `{"text": …}` (Bedrock), `{"type": "text", "text": …}` (Anthropic,
    OpenAI), `{"type": "text", "content": …}` (OpenTelemetry). Tool calls, their results, images and documents are
    not text.
    """
    if isinstance(content, str):
        return text(content)
    parts: list[str] = []
    for part in sequence(content):
        if isinstance(part, str):
            parts.append(part)
        elif isinstance(part, Mapping) and part.get("type") in _TEXT_KINDS:
            found = first_text(part.get("text"), part.get("content"))
            if found is not None:
                parts.append(found)
    return text("\n".join(parts))


def message_text(messages: object, role: str) -> str | None:
    """Return the text of the last message of a role that has text: `content` or OpenTelemetry's `parts`.

    What stands beside the results of tools is a word of the application to its model, not a user's.
    """
    for message in reversed(sequence(messages)):
        if isinstance(message, Mapping) and message.get("role") == role:
            body = message.get("content") if message.get("content") is not None else message.get("parts")
            found = content_text(body)
            if found is not None and not (role == "user" and _brings_results(body)):
                return found
    return None


def _brings_results(content: object) -> bool:
    return any(
        isinstance(part, Mapping) and ("toolResult" in part or part.get("type") in _RESULT_KINDS)
        for part in sequence(content)
    )
