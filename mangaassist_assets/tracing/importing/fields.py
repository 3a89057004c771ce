"""Checking the fields of a trace in a file: each function returns a valid value or raises with the field's name.

Limits are those of MLflow's tables (trace tags and metadata: keys of 250, values of 8,000 characters; names of
assessments 250). A longer value is refused, because a shortened one would be lost in silence.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

from mangaassist_assets.tracing.importing.imported_trace import UnreadableTraceError

MAXIMUM_KEY = 250
MAXIMUM_VALUE = 8_000
MAXIMUM_SOURCE = 250
MAXIMUM_DEPTH = 64
_LATEST_NS = 2**63 - 1
_LATEST_MS = _LATEST_NS // 1_000_000
_INTEGER = 2**63
_TIMESTAMP = re.compile(
    r"(?P<seconds>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d{1,9}))?(?P<zone>Z|[+-]\d\d:\d\d)?"
)


def obj(value: object, where: str) -> Mapping[str, object]:
    """Return a JSON object; None is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UnreadableTraceError(f"{where} is not an object")
    return value


def array(value: object, where: str) -> list[object]:
    """Return a JSON array; None is an empty one."""
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise UnreadableTraceError(f"{where} is not a list")
    return list(value)


def string(value: object, where: str, *, longest: int | None = None) -> str:
    """Return a text without NUL and lone surrogates, which databases cannot keep."""
    if not isinstance(value, str):
        raise UnreadableTraceError(f"{where} is not a text")
    if longest is not None and len(value) > longest:
        raise UnreadableTraceError(f"{where} is longer than {longest} characters")
    return storable(value)


def storable(value: str) -> str:
    """Return a text with NUL and lone surrogates replaced."""
    return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def string_or_none(value: object, where: str, *, longest: int | None = None) -> str | None:
    """Return a text, or None where there is none."""
    return None if value is None else string(value, where, longest=longest)


def texts(value: object, where: str) -> dict[str, str]:
    """Return tags or metadata: an object of texts within MLflow's limits."""
    return {
        string(key, f"a key of {where}", longest=MAXIMUM_KEY): string(one, f"a value of {where}", longest=MAXIMUM_VALUE)
        for key, one in obj(value, where).items()
        if one is not None
    }


def identifier(value: object, size: Literal[8, 16], where: str) -> str:
    """Return an id of OpenTelemetry as lower-case hexadecimal; it comes in hexadecimal, with 0x or not, or base64."""
    if isinstance(value, str):
        digits = value.removeprefix("0x")
        whole = len(digits) == size * 2 or (value.startswith("0x") and len(digits) < size * 2)
        if whole and re.fullmatch(r"[0-9a-fA-F]+", digits):
            return _not_zero(digits.lower().rjust(size * 2, "0"), where)
        try:
            found = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            found = b""
        if len(found) == size:
            return _not_zero(found.hex(), where)
    raise UnreadableTraceError(f"{where} is not an id of {size} bytes in hexadecimal or base64")


def _not_zero(digits: str, where: str) -> str:
    if not digits.strip("0"):
        raise UnreadableTraceError(f"{where} is zero")
    return digits


def nanoseconds(value: object, where: str) -> int:
    """Return a time in nanoseconds since the epoch."""
    return _time(value, where, _LATEST_NS)


def milliseconds(value: object, where: str) -> int:
    """Return a time in milliseconds since the epoch, from a number or an ISO 8601 text."""
    if isinstance(value, str) and (match := _TIMESTAMP.fullmatch(value)):
        try:
            moment = datetime.fromisoformat(match["seconds"] + (match["zone"] or "Z"))
        except ValueError:
            raise UnreadableTraceError(f"{where} is not a time") from None
        whole = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
        return _time(whole * 1_000 + int((match["fraction"] or "0").ljust(9, "0")[:3]), where, _LATEST_MS)
    return _time(value, where, _LATEST_MS)


def duration_ms(value: object, where: str) -> int | None:
    """Return a duration in milliseconds, from a number or a text such as `1.5s`."""
    if value is None:
        return None
    if isinstance(value, str) and re.fullmatch(r"\d{1,15}(\.\d{1,9})?s", value):
        seconds, _, fraction = value.removesuffix("s").partition(".")
        return int(seconds) * 1_000 + int(fraction.ljust(9, "0")[:3])
    return _time(value, where, _LATEST_MS)


def _time(value: object, where: str, latest: int) -> int:
    if isinstance(value, str) and re.fullmatch(r"\d{1,19}", value):
        value = int(value)
    if isinstance(value, float) and math.isfinite(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= latest:
        raise UnreadableTraceError(f"{where} is not a time since the epoch")
    return value


def json_object(value: object, where: str) -> dict[str, object]:
    """Return an object that can be stored."""
    return {storable(str(key)): json_value(item, where, 1) for key, item in obj(value, where).items()}


def json_value(value: object, where: str, depth: int = 0) -> object:
    """Return a JSON value that can be stored: texts storable, numbers finite and of 64 bits, not too deep."""
    if depth > MAXIMUM_DEPTH:
        raise UnreadableTraceError(f"{where} is nested deeper than {MAXIMUM_DEPTH} levels")
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool) and not -_INTEGER <= value < _INTEGER:
        return str(value) if value.bit_length() < 10_000 else "too large"
    if isinstance(value, Mapping):
        return {storable(str(key)): json_value(item, where, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item, where, depth + 1) for item in value]
    return value
