"""Imported traces in the forms that an MLflow server takes: OTLP JSON for spans, TraceInfo JSON for the rest.

Spans go as MLflow's own client sends them: attributes as decoded values. The info goes as `POST /api/3.0/mlflow/traces`
takes it, without the client's shortening of metadata to 250 characters.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from mangaassist_assets.tracing.importing.import_run import SpansToWrite
from mangaassist_assets.tracing.importing.imported_trace import (
    TRACE_TAG_PREFIX,
    ImportedAssessment,
    ImportedSpan,
    ImportedTrace,
)
from mangaassist_assets.tracing.otlp import STATUS_CODES, encoded_events, key_values, request_body

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def spans_request(traces: Iterable[SpansToWrite]) -> bytes:
    """Return the body of one OTLP/HTTP request (`application/json`) with spans of traces.

    Tags stand on the root span, from where MLflow takes them.
    """
    spans = [_span(trace.trace_id, span, trace.tags) for trace in traces for span in trace.spans]
    return request_body(spans)


def _span(trace_id: str, span: ImportedSpan, tags: Mapping[str, str]) -> dict[str, Any]:
    attributes = dict(span.attributes)
    if span.parent_id is None:
        attributes |= {f"{TRACE_TAG_PREFIX}{name}": value for name, value in tags.items()}
    encoded: dict[str, Any] = {
        "traceId": trace_id.removeprefix("tr-"),
        "spanId": span.span_id,
        "name": span.name,
        "startTimeUnixNano": str(span.start_ns),
        # Zero is OTLP's way to say that a span has not ended.
        "endTimeUnixNano": str(span.end_ns or 0),
        "status": {"code": STATUS_CODES[span.status], "message": span.status_message},
        "attributes": key_values(attributes),
        "events": encoded_events(span.events),
        # MLflow turns the hexadecimal ids of spans into bytes, but takes those of links as base64.
        "links": [
            {
                "traceId": base64.b64encode(bytes.fromhex(link.trace_id)).decode(),
                "spanId": base64.b64encode(bytes.fromhex(link.span_id)).decode(),
                "attributes": key_values(link.attributes),
            }
            for link in span.links
        ],
    }
    if span.parent_id is not None:
        encoded["parentSpanId"] = span.parent_id
    return encoded


def info_request(trace: ImportedTrace, experiment_id: str) -> dict[str, Any]:
    """Return the body that writes tags, metadata, state, times, previews and assessments of a trace."""
    info: dict[str, Any] = {
        "trace_id": trace.trace_id,
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment_id}},
        "request_time": moment(trace.timestamp_ms or 0),
        "state": trace.state or "STATE_UNSPECIFIED",
        "tags": dict(trace.tags),
        "trace_metadata": dict(trace.metadata),
        "assessments": [assessment(one, trace.trace_id) for one in trace.assessments],
    }
    if trace.duration_ms is not None:
        info["execution_duration"] = f"{trace.duration_ms // 1_000}.{trace.duration_ms % 1_000:03d}s"
    optional = {
        "client_request_id": trace.client_request_id,
        "request_preview": trace.request_preview,
        "response_preview": trace.response_preview,
    }
    return {"trace": {"trace_info": info | {key: value for key, value in optional.items() if value is not None}}}


def assessment(one: ImportedAssessment, trace_id: str) -> dict[str, Any]:
    """Return one assessment as MLflow's REST takes it."""
    said: dict[str, Any] = {
        "assessment_id": one.assessment_id,
        "assessment_name": one.name,
        "trace_id": trace_id,
        "source": {"source_type": one.source_type, "source_id": one.source_id or ""},
        "create_time": moment(one.created_ms),
        "last_update_time": moment(one.updated_ms),
        "metadata": dict(one.metadata),
    }
    if one.kind == "feedback":
        said["feedback"] = {"value": one.value} | ({"error": dict(one.error)} if one.error else {})
    elif one.kind == "issue":
        said["issue"] = {"issue_name": one.value}
    elif one.value is None or isinstance(one.value, str | bool | int | float):
        said["expectation"] = {"value": one.value}
    else:
        serialized = {"serialization_format": "JSON_FORMAT", "value": json.dumps(one.value)}
        said["expectation"] = {"serialized_value": serialized}
    optional = {"rationale": one.rationale, "span_id": one.span_id, "overrides": one.overrides}
    return said | {key: value for key, value in optional.items() if value}


def moment(milliseconds: int) -> str:
    """Return a time in milliseconds since the epoch as ISO 8601 in UTC."""
    return (_EPOCH + timedelta(milliseconds=milliseconds)).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
