"""Spans as JSON: as MLflow's tracking store keeps them, and as its REST interface sends them.

Both are decoded without MLflow's own entities, which take ten times as long; what has an unusual form goes to them.
"""

from __future__ import annotations

import binascii
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from mangaassist_assets.tracing.contract.records import SpanEvent, SpanRecord
from resources.mlflow.traces.records import REQUEST_ID, SPAN_TYPE, json_value, make_span, span_record

_STATUS = {"STATUS_CODE_OK": "OK", "STATUS_CODE_ERROR": "ERROR", "STATUS_CODE_UNSET": "UNSET"}
_BASE64_SPAN_ID = 12
_NO_PARENT = "0" * 16
_MARK = secrets.token_hex(8)
_BETWEEN = f',"{_MARK}",'


class SpanContentError(ValueError):
    """A stored span that is no span."""


def stored_span(content: str) -> SpanRecord:
    """Return the span of one `spans.content` value.

    Raises:
        SpanContentError: It is not JSON, or not what MLflow stores of a span.
    """
    try:
        data = json_value(content)
        if _is_usual(data):
            return _usual_span(data)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise SpanContentError(f"its content cannot be read ({type(error).__name__})") from error
    return _unusual_span(data)


def _is_usual(data: Mapping[str, Any]) -> bool:
    return (
        "context" not in data
        and len(data["span_id"]) == _BASE64_SPAN_ID
        and data["status"]["code"] in _STATUS
        and bool(data["attributes"].get(REQUEST_ID))
    )


def _usual_span(data: Mapping[str, Any]) -> SpanRecord:
    attributes = _stored_values(data["attributes"])
    if attributes.get(SPAN_TYPE) in (None, "UNKNOWN"):
        _translate_type(data["attributes"], attributes)
    status = data["status"]
    end = data.get("end_time_unix_nano")
    return make_span(
        span_id=_identifier(data["span_id"]),
        parent_id=_parent(data["parent_span_id"]),
        name=data["name"],
        start_ns=int(data["start_time_unix_nano"]),
        end_ns=int(end) if end else None,
        status=(_STATUS[status["code"]], status.get("message")),
        attributes=attributes,
        events=tuple(
            SpanEvent(
                name=event["name"],
                timestamp_ns=int(event["time_unix_nano"]),
                attributes=event.get("attributes") or {},
            )
            for event in data.get("events") or ()
        ),
    )


def _unusual_span(data: dict[str, Any]) -> SpanRecord:
    from mlflow.entities import Span
    from mlflow.exceptions import MlflowException
    from mlflow.tracing.otel.translation import translate_loaded_span

    try:
        return span_record(Span.from_dict(translate_loaded_span(data)))
    except (MlflowException, AttributeError, TypeError) as error:
        raise SpanContentError(f"MLflow does not take it for a span ({type(error).__name__})") from error


def _stored_values(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Decode all attributes of a span, at once where all are JSON text, as most spans' are."""
    try:
        values = orjson.loads("[" + _BETWEEN.join(stored.values()) + "]")
    except (TypeError, ValueError):
        values = ()
    # Text that is no JSON by itself could become so beside its neighbours: then a mark is not in its place.
    if len(values) == 2 * len(stored) - 1 and values[1::2] == [_MARK] * (len(stored) - 1):
        return dict(zip(stored, values[::2], strict=True))
    return {key: _stored_value(value) for key, value in stored.items()}


def _stored_value(value: object) -> object:
    """Decode an attribute: MLflow keeps values as JSON text, and takes other text and values as they are."""
    if not value:
        return None
    if not isinstance(value, str):
        return value
    try:
        return json_value(value)
    except ValueError:
        return value


def _translate_type(stored: Mapping[str, Any], attributes: dict[str, Any]) -> None:
    """Name the type of a span whose writer followed another convention, as MLflow does when it loads spans."""
    # Names of those conventions have a dot, such as gen_ai.operation.name.
    if not any("." in key and not key.startswith("mlflow.") for key in stored):
        return
    from mlflow.tracing.otel.translation import translate_span_type_from_otel

    if translated := translate_span_type_from_otel(dict(stored)):
        attributes[SPAN_TYPE] = translated


def wire_span(data: Mapping[str, Any]) -> SpanRecord:
    """Return the span of one entry of `spans` in a trace of MLflow's REST interface (OpenTelemetry's JSON).

    Raises:
        SpanContentError: It is not of that form.
    """
    try:
        status = data.get("status") or {}
        end = data.get("end_time_unix_nano")
        return make_span(
            span_id=_identifier(data["span_id"]),
            parent_id=_parent(data.get("parent_span_id")),
            name=data.get("name", ""),
            start_ns=int(data.get("start_time_unix_nano", 0)),
            end_ns=int(end) if end else None,
            status=(_STATUS.get(status.get("code", ""), "UNSET"), status.get("message")),
            attributes=_wire_values(data.get("attributes")),
            events=tuple(
                SpanEvent(
                    name=event.get("name", ""),
                    timestamp_ns=int(event.get("time_unix_nano", 0)),
                    attributes=_wire_values(event.get("attributes")),
                )
                for event in data.get("events") or ()
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise SpanContentError(f"it is not in OpenTelemetry's form ({type(error).__name__})") from error


def _wire_values(pairs: Iterable[Mapping[str, Any]] | None) -> dict[str, Any]:
    return {pair.get("key", ""): _wire_value(pair.get("value")) for pair in pairs or ()}


def _wire_value(value: Mapping[str, Any] | None) -> object:
    if not value:
        return None
    ((kind, held),) = value.items()
    if kind in ("string_value", "bool_value", "bytes_value"):
        return held
    if kind == "int_value":
        return int(held)
    if kind == "double_value":
        return float(held)
    if kind == "array_value":
        return [_wire_value(item) for item in held.get("values") or ()]
    if kind == "kvlist_value":
        return _wire_values(held.get("values"))
    msg = f"a value of kind {kind[:40]!r} is unknown"
    raise ValueError(msg)


def _identifier(encoded: str) -> str:
    identifier = binascii.a2b_base64(encoded)
    if len(identifier) != 8:
        msg = "a span id has 8 bytes"
        raise ValueError(msg)
    return identifier.hex()


def _parent(encoded: str | None) -> str | None:
    parent = _identifier(encoded) if encoded else None
    return None if parent == _NO_PARENT else parent
