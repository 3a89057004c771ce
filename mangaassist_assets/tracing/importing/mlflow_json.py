"""Traces in the JSON of MLflow: `Trace.to_json()`, one trace an object with `info` and `data`.

Read are the forms of MLflow 3 (ids in base64, `start_time_unix_nano`), of 3.5.0 (ids in hexadecimal, `OK` for a
status) and of MLflow 2 (`context`, `start_time`, `status_code`; `request_id` and `request_metadata` in the info).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import cast, get_args

from mangaassist_assets.tracing.contract.records import SpanEvent, SpanStatus, TraceState
from mangaassist_assets.tracing.importing import fields
from mangaassist_assets.tracing.importing.imported_trace import (
    DIGEST_TAG,
    TRACE_TAG_PREFIX,
    AssessmentKind,
    ImportedAssessment,
    ImportedLink,
    ImportedSpan,
    ImportedTrace,
    UnreadableTraceError,
    trace_id_of,
)

_STATES = frozenset(get_args(TraceState))
_SOURCE_TYPES = frozenset({"HUMAN", "LLM_JUDGE", "CODE", "SOURCE_TYPE_UNSPECIFIED"})
_REQUEST_ID = "mlflow.traceRequestId"
# Where a trace's spans and files are belongs to the server that keeps it.
SERVER_TAGS = frozenset(
    {
        *("mlflow.artifactLocation", "mlflow.trace.spansLocation", "mlflow.trace.archiveLocation"),
        "mlflow.trace.archivalFailure",
    }
)
SERVER_METADATA = frozenset({"mlflow.trace.infoFinalized"})


def is_trace(document: Mapping[str, object]) -> bool:
    """Return whether a JSON object has the form of MLflow's traces."""
    return "info" in document and "data" in document


def read_trace(document: Mapping[str, object]) -> ImportedTrace:
    """Return the trace of one JSON object.

    Raises:
        UnreadableTraceError: A field is missing or wrong; says which.
    """
    info = fields.obj(document.get("info"), "info")
    data = fields.obj(document.get("data"), "data")
    given = info.get("trace_id") if info.get("trace_id") is not None else info.get("request_id")
    original = fields.string(given, "trace_id", longest=500)
    if not original:
        raise UnreadableTraceError("trace_id is empty")
    trace_id, foreign = trace_id_of(original)
    tags = fields.texts(info.get("tags"), "tags")
    metadata = fields.texts(info.get("trace_metadata", info.get("request_metadata")), "metadata")
    spans = tuple(_span(fields.obj(span, "span")) for span in fields.array(data.get("spans"), "spans"))
    return ImportedTrace(
        trace_id=trace_id,
        original_id=foreign,
        complete=True,
        timestamp_ms=fields.milliseconds(info.get("request_time", info.get("timestamp_ms")), "request_time"),
        duration_ms=_duration(info),
        state=_state(info.get("state", info.get("status"))),
        client_request_id=fields.string_or_none(info.get("client_request_id"), "client_request_id", longest=50),
        request_preview=fields.string_or_none(info.get("request_preview"), "request_preview"),
        response_preview=fields.string_or_none(info.get("response_preview"), "response_preview"),
        tags={key: value for key, value in tags.items() if key not in SERVER_TAGS and key != DIGEST_TAG},
        metadata={key: value for key, value in metadata.items() if key not in SERVER_METADATA},
        spans=spans,
        assessments=tuple(
            _assessment(fields.obj(one, "assessment"), trace_id)
            for one in fields.array(info.get("assessments"), "assessments")
        ),
    )


def _duration(info: Mapping[str, object]) -> int | None:
    for key in ("execution_duration_ms", "execution_duration", "execution_time_ms"):
        if info.get(key) is not None:
            return fields.duration_ms(info[key], key)
    return None


def _state(value: object) -> TraceState:
    if not isinstance(value, str) or value not in _STATES:
        raise UnreadableTraceError("state is none that MLflow knows")
    return cast("TraceState", value)


def _span(said: Mapping[str, object]) -> ImportedSpan:
    context = said.get("context")
    ids = fields.obj(context, "context") if context is not None else said
    parent = said.get("parent_id" if context is not None else "parent_span_id")
    end = said.get("end_time" if context is not None else "end_time_unix_nano")
    status, message = _status(said)
    return ImportedSpan(
        span_id=fields.identifier(ids.get("span_id"), 8, "span_id"),
        parent_id=None if parent in (None, "") else fields.identifier(parent, 8, "parent span id"),
        name=fields.string(said.get("name"), "span name"),
        start_ns=fields.nanoseconds(
            said.get("start_time" if context is not None else "start_time_unix_nano"), "start of a span"
        ),
        # Zero is how a span without an end is stored.
        end_ns=fields.nanoseconds(end, "end of a span") if end else None,
        status=status,
        status_message=message,
        attributes=_attributes(said.get("attributes")),
        events=tuple(_event(fields.obj(event, "event")) for event in fields.array(said.get("events"), "events")),
        links=tuple(_link(fields.obj(link, "link")) for link in fields.array(said.get("links"), "links")),
    )


def _status(said: Mapping[str, object]) -> tuple[SpanStatus, str]:
    if "status_code" in said:
        code, message = said.get("status_code"), said.get("status_message")
    else:
        status = fields.obj(said.get("status"), "status")
        code, message = status.get("code"), status.get("message")
    known: dict[str, SpanStatus] = {"OK": "OK", "ERROR": "ERROR"}
    return known.get(str(code).removeprefix("STATUS_CODE_"), "UNSET"), fields.string(message or "", "status message")


def _attributes(value: object) -> dict[str, object]:
    """Return attributes as JSON values: MLflow keeps each as its JSON text."""
    return {
        fields.storable(key): fields.json_value(_decoded(one), "an attribute")
        for key, one in fields.obj(value, "attributes").items()
        if key not in (_REQUEST_ID, f"{TRACE_TAG_PREFIX}{DIGEST_TAG}")
    }


def _decoded(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _event(said: Mapping[str, object]) -> SpanEvent:
    return SpanEvent(
        name=fields.string(said.get("name"), "event name"),
        timestamp_ns=fields.nanoseconds(said.get("time_unix_nano", said.get("timestamp")), "time of an event"),
        attributes=fields.json_object(said.get("attributes"), "attributes of an event"),
    )


def _link(said: Mapping[str, object]) -> ImportedLink:
    target = fields.string(said.get("trace_id"), "trace id of a link").rpartition("/")[2].removeprefix("tr-")
    return ImportedLink(
        trace_id=fields.identifier(target, 16, "trace id of a link"),
        span_id=fields.identifier(said.get("span_id"), 8, "span id of a link"),
        attributes=fields.json_object(said.get("attributes"), "attributes of a link"),
    )


def _assessment(said: Mapping[str, object], trace_id: str) -> ImportedAssessment:
    source = fields.obj(said.get("source"), "source of an assessment")
    source_type = str(source.get("source_type", "SOURCE_TYPE_UNSPECIFIED")).upper()
    if source_type == "AI_JUDGE":
        source_type = "LLM_JUDGE"
    if source_type not in _SOURCE_TYPES:
        raise UnreadableTraceError("source type of an assessment is none that MLflow knows")
    kind, value, error = _value(said)
    created = fields.milliseconds(said.get("create_time"), "create_time of an assessment")
    updated = said.get("last_update_time")
    span_id, given = said.get("span_id"), said.get("assessment_id")
    overrides = fields.string_or_none(said.get("overrides"), "overrides of an assessment", longest=500)
    return ImportedAssessment(
        assessment_id=own_assessment_id(
            trace_id, given if isinstance(given, str) and given else json.dumps(said, sort_keys=True, default=str)
        ),
        original_id=fields.string_or_none(said.get("assessment_id"), "id of an assessment", longest=500) or None,
        name=fields.string(said.get("assessment_name"), "name of an assessment", longest=fields.MAXIMUM_KEY),
        kind=kind,
        value=value,
        source_type=source_type,
        source_id=fields.string_or_none(
            source.get("source_id"), "source of an assessment", longest=fields.MAXIMUM_SOURCE
        ),
        created_ms=created,
        updated_ms=created if updated is None else fields.milliseconds(updated, "last_update_time of an assessment"),
        rationale=fields.string_or_none(said.get("rationale"), "rationale of an assessment"),
        metadata={
            fields.storable(str(key)): fields.string(one, "metadata of an assessment")
            for key, one in fields.obj(said.get("metadata"), "metadata of an assessment").items()
        },
        span_id=None if span_id in (None, "") else fields.identifier(span_id, 8, "span id of an assessment"),
        error=error,
        overrides=own_assessment_id(trace_id, overrides) if overrides else None,
        valid=said.get("valid") is not False,
    )


def own_assessment_id(trace_id: str, original: str) -> str:
    """Return the id under which an assessment is stored.

    MLflow's ids of assessments are unique in a server: a file that names one of another trace must not move it.
    """
    digest = hashlib.sha256(f"{trace_id}/{original}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"a-{digest[:32]}"


def _value(said: Mapping[str, object]) -> tuple[AssessmentKind, object, Mapping[str, str] | None]:
    if said.get("expectation") is not None:
        expectation = fields.obj(said["expectation"], "expectation")
        if "value" in expectation:
            return "expectation", fields.json_value(expectation["value"], "an expectation"), None
        serialized = fields.obj(expectation.get("serialized_value"), "expectation").get("value")
        try:
            value: object = json.loads(fields.string(serialized, "value of an expectation"))
        except (ValueError, RecursionError):
            raise UnreadableTraceError("value of an expectation is not JSON") from None
        return "expectation", fields.json_value(value, "an expectation"), None
    if said.get("feedback") is not None:
        feedback = fields.obj(said["feedback"], "feedback")
        error = feedback.get("error")
        problem = None if error is None else fields.texts(error, "error of a feedback")
        return "feedback", fields.json_value(feedback.get("value"), "a feedback"), problem
    if said.get("issue") is not None:
        issue = fields.obj(said["issue"], "issue")
        return "issue", fields.string(issue.get("issue_name"), "name of an issue"), None
    raise UnreadableTraceError("an assessment is neither feedback nor expectation nor issue")
