"""Spans in OTLP JSON: an `ExportTraceServiceRequest` (OpenTelemetry, "OTLP specification: JSON Protobuf encoding").

A request holds spans of many traces, and a trace may be spread over many requests: each gives a part of a trace.
What MLflow has no place for becomes an attribute by the names of "Mapping OpenTelemetry to non-OTLP formats"; the
resource's attributes get the prefix `resource.` on the first span of each part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mangaassist_assets.tracing.adapters.otel_genai import RESOURCE_PREFIX
from mangaassist_assets.tracing.contract.records import SpanEvent, SpanStatus
from mangaassist_assets.tracing.importing import fields
from mangaassist_assets.tracing.importing.imported_trace import (
    ImportedLink,
    ImportedSpan,
    ImportedTrace,
    UnreadableTraceError,
    trace_id_of,
)

_KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
_SCALARS = ("string", "bool", "double", "bytes")


def is_request(document: Mapping[str, object]) -> bool:
    """Return whether a JSON object has the form of an OTLP request."""
    return "resourceSpans" in document or "resource_spans" in document


def read_request(document: Mapping[str, object]) -> tuple[list[ImportedTrace], list[str]]:
    """Return the parts of traces in a request, and why spans were refused; one bad span stops no other.

    Raises:
        UnreadableTraceError: The request itself has the wrong form.
    """
    traces: dict[str, list[ImportedSpan]] = {}
    refused: list[str] = []
    for resource_spans in fields.array(_of(document, "resourceSpans"), "resourceSpans"):
        group = fields.obj(resource_spans, "an entry of resourceSpans")
        resource = _attributes(fields.obj(group.get("resource"), "resource").get("attributes"), "resource")
        described: set[str] = set()
        for scope_spans in fields.array(_of(group, "scopeSpans"), "scopeSpans"):
            scoped = fields.obj(scope_spans, "an entry of scopeSpans")
            scope = _scope(fields.obj(scoped.get("scope"), "scope"))
            for said in fields.array(scoped.get("spans"), "spans"):
                try:
                    trace_id, span = _span(fields.obj(said, "span"), scope)
                except UnreadableTraceError as reason:
                    refused.append(str(reason))
                    continue
                if trace_id not in described:
                    described.add(trace_id)
                    described_by = {f"{RESOURCE_PREFIX}{key}": value for key, value in resource.items()}
                    span = replace(span, attributes={**described_by, **span.attributes})
                traces.setdefault(trace_id, []).append(span)
    parts = [ImportedTrace(trace_id=trace_id_of(trace_id)[0], spans=tuple(spans)) for trace_id, spans in traces.items()]
    return parts, refused


def _of(said: Mapping[str, object], camel: str) -> object:
    """Return a field by its JSON name or, as some writers have it, by its name in the protocol."""
    if camel in said:
        return said[camel]
    return said.get("".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in camel))


def _scope(said: Mapping[str, object]) -> dict[str, object]:
    found = {"otel.scope.name": said.get("name"), "otel.scope.version": said.get("version")}
    scope = {key: fields.storable(value) for key, value in found.items() if isinstance(value, str) and value}
    return {**_attributes(said.get("attributes"), "scope"), **scope}


def _span(said: Mapping[str, object], scope: Mapping[str, object]) -> tuple[str, ImportedSpan]:
    parent = _of(said, "parentSpanId")
    end = _of(said, "endTimeUnixNano")
    status = fields.obj(said.get("status"), "status")
    attributes = {**scope, **_more(said), **_attributes(said.get("attributes"), "span")}
    span = ImportedSpan(
        span_id=fields.identifier(_of(said, "spanId"), 8, "spanId"),
        parent_id=None if parent in (None, "") else fields.identifier(parent, 8, "parentSpanId"),
        name=fields.string(said.get("name", ""), "name of a span"),
        start_ns=fields.nanoseconds(_of(said, "startTimeUnixNano"), "startTimeUnixNano"),
        end_ns=None if end in (None, "", 0, "0") else fields.nanoseconds(end, "endTimeUnixNano"),
        status=_status(status.get("code")),
        status_message=fields.string(status.get("message") or "", "status message"),
        attributes=attributes,
        events=tuple(_event(fields.obj(one, "event")) for one in fields.array(said.get("events"), "events")),
        links=tuple(_link(fields.obj(one, "link")) for one in fields.array(said.get("links"), "links")),
    )
    return fields.identifier(_of(said, "traceId"), 16, "traceId"), span


def _more(said: Mapping[str, object]) -> dict[str, object]:
    """Return what MLflow's spans have no field for, as attributes."""
    more: dict[str, object] = {}
    kind = said.get("kind")
    if isinstance(kind, str):
        kind = {f"SPAN_KIND_{name.upper()}": number for number, name in _KINDS.items()}.get(kind)
    if isinstance(kind, int) and kind in _KINDS and kind != 1:
        more["span.kind"] = _KINDS[kind]
    state = _of(said, "traceState")
    if isinstance(state, str) and state:
        more["w3c.tracestate"] = fields.storable(state)
    for what in ("Attributes", "Events", "Links"):
        dropped = _of(said, f"dropped{what}Count")
        if isinstance(dropped, int) and dropped:
            more[f"otel.dropped_{what.lower()}_count"] = dropped
    return more


def _status(code: object) -> SpanStatus:
    if code in (1, "1", "STATUS_CODE_OK"):
        return "OK"
    return "ERROR" if code in (2, "2", "STATUS_CODE_ERROR") else "UNSET"


def _event(said: Mapping[str, object]) -> SpanEvent:
    return SpanEvent(
        name=fields.string(said.get("name", ""), "name of an event"),
        timestamp_ns=fields.nanoseconds(_of(said, "timeUnixNano"), "timeUnixNano of an event"),
        attributes=_attributes(said.get("attributes"), "event"),
    )


def _link(said: Mapping[str, object]) -> ImportedLink:
    return ImportedLink(
        trace_id=fields.identifier(_of(said, "traceId"), 16, "traceId of a link"),
        span_id=fields.identifier(_of(said, "spanId"), 8, "spanId of a link"),
        attributes=_attributes(said.get("attributes"), "link"),
    )


def _attributes(value: object, where: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for entry in fields.array(value, f"attributes of a {where}"):
        pair = fields.obj(entry, f"an attribute of a {where}")
        key = fields.string(pair.get("key"), f"key of an attribute of a {where}")
        found[key] = fields.json_value(_any_value(pair.get("value"), where, 0), f"an attribute of a {where}")
    return found


def _any_value(value: object, where: str, depth: int) -> object:
    if depth > fields.MAXIMUM_DEPTH:
        raise UnreadableTraceError(f"an attribute of a {where} is nested deeper than {fields.MAXIMUM_DEPTH} levels")
    said = fields.obj(value, f"value of an attribute of a {where}")
    for kind in _SCALARS:
        if (found := _of(said, f"{kind}Value")) is not None:
            # The JSON encoding writes numbers that are not finite as text.
            return str(found) if kind == "double" and not isinstance(found, int | float) else found
    if (number := _of(said, "intValue")) is not None:
        return _integer(number, where)
    if (listed := _of(said, "arrayValue")) is not None:
        entries = fields.array(fields.obj(listed, "arrayValue").get("values"), "arrayValue")
        return [_any_value(entry, where, depth + 1) for entry in entries]
    if (pairs := _of(said, "kvlistValue")) is not None:
        entries = fields.array(fields.obj(pairs, "kvlistValue").get("values"), "kvlistValue")
        return {
            fields.string(pair.get("key"), "a key of kvlistValue"): _any_value(pair.get("value"), where, depth + 1)
            for pair in (fields.obj(entry, "kvlistValue") for entry in entries)
        }
    return None


def _integer(value: object, where: str) -> int:
    if isinstance(value, str) and len(value) <= 20:
        try:
            return int(value)
        except ValueError:
            pass
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise UnreadableTraceError(f"an intValue of a {where} is not an integer")
