"""A trace id in whatever form somebody wrote it down, as MLflow has it.

MLflow calls a trace `tr-` and the 32 hexadecimal digits of its OpenTelemetry id. The same 16 bytes are written in other
ways: bare or as a UUID, as AWS X-Ray's `1-SECONDS-REST` or its header `Root=…;Parent=…`, as W3C's `traceparent`, and in
base64, as OTLP and MLflow's JSON of spans have it.
"""

from __future__ import annotations

import base64
import binascii
import re

_PREFIX = "tr-"
_BYTES = 16
_HEX = re.compile(r"(?:0x)?([0-9a-f]{32})", re.IGNORECASE)
_UUID = re.compile(r"\{?([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})\}?", re.IGNORECASE)
_XRAY = re.compile(r"1-([0-9a-f]{8})-([0-9a-f]{24})", re.IGNORECASE)
_XRAY_HEADER = re.compile(r"(?:^|;)\s*Root\s*=\s*([^;\s]+)", re.IGNORECASE)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?", re.IGNORECASE)
_BASE64 = re.compile(r"[0-9A-Za-z+/_-]{22}(?:==)?")
# What MLflow's table of traces can hold.
_OTHER = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:/-]{0,49}")


class TraceIdError(ValueError):
    """A text that no trace has as its id; the message does not repeat it."""


def mlflow_trace_id(text: str) -> str:
    """Return the id under which MLflow has the trace.

    An id in no known form stays as it is, for a tracking server may have its own; it is then compared letter by letter.

    Raises:
        TraceIdError: It is all zeros, which OpenTelemetry writes for no trace, or longer or stranger than an id of
            MLflow can be.
    """
    stripped = text.strip()
    header = _XRAY_HEADER.search(stripped)
    digits = _digits(header.group(1) if header else stripped)
    if digits is not None and not digits.strip("0"):
        raise TraceIdError("is all zeros, which is no trace")
    if digits is None and stripped[: len(_PREFIX)].lower() == _PREFIX:
        digits = _digits(stripped[len(_PREFIX) :], base64_too=False)
    if digits is not None:
        return _PREFIX + digits.lower()
    if _OTHER.fullmatch(stripped) is None:
        raise TraceIdError("is in no form that a trace id has")
    return stripped


def _digits(text: str, *, base64_too: bool = True) -> str | None:
    for pattern in (_HEX, _UUID, _XRAY, _TRACEPARENT):
        if match := pattern.fullmatch(text):
            return "".join(match.groups())
    if base64_too and _BASE64.fullmatch(text) and not text.lower().startswith(_PREFIX):
        return _from_base64(text)
    return None


def _from_base64(text: str) -> str | None:
    padded = text.rstrip("=") + "=="
    try:
        found = base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        return None
    return found.hex() if len(found) == _BYTES else None
