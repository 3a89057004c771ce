"""A trace as a file holds it, whatever the file's form: complete, so that writing it loses nothing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.tracing.contract.records import (
    AssessmentRecord,
    SpanEvent,
    SpanRecord,
    SpanStatus,
    TraceRecord,
    TraceState,
)

DIGEST_TAG = "import_digest"
ORIGINAL_ID_TAG = "original_trace_id"
TRACE_TAG_PREFIX = "mlflow.traceTag."
INPUTS = "mlflow.spanInputs"
OUTPUTS = "mlflow.spanOutputs"
SPAN_TYPE = "mlflow.spanType"
_OWN_ID = re.compile(r"tr-[0-9a-f]{32}")
_HEX_ID = re.compile(r"[0-9a-fA-F]{32}")

AssessmentKind = Literal["feedback", "expectation", "issue"]


class UnreadableTraceError(ValueError):
    """A trace in a file that cannot be imported; the message holds nothing of the file's content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedLink:
    """A link to a span of another trace; ids in lower-case hexadecimal, 32 and 16 digits."""

    trace_id: str
    span_id: str
    attributes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedSpan:
    """One span with all its attributes, MLflow's own included, as JSON values.

    `span_id` and `parent_id` are 16 hexadecimal digits; times are nanoseconds since the epoch, `end_ns` is None while
    the span is open.
    """

    span_id: str
    parent_id: str | None
    name: str
    start_ns: int
    end_ns: int | None
    status: SpanStatus = "UNSET"
    status_message: str = ""
    attributes: Mapping[str, object] = field(default_factory=dict)
    events: tuple[SpanEvent, ...] = ()
    links: tuple[ImportedLink, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedAssessment:
    """A feedback, an expectation or a reference to an issue. Times are milliseconds since the epoch.

    `assessment_id` is the one it is stored under, `original_id` the file's. `overrides` is the `assessment_id` of the
    one that this one replaces; a replaced one is not `valid`.
    """

    assessment_id: str
    original_id: str | None = None
    name: str
    kind: AssessmentKind
    value: object
    source_type: str
    source_id: str | None
    created_ms: int
    updated_ms: int
    rationale: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    span_id: str | None = None
    error: Mapping[str, str] | None = None
    overrides: str | None = None
    valid: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedTrace:
    """One trace. `complete` is a whole trace (MLflow's form) not a part of one (spans of one OTLP request).

    `trace_id` is MLflow's form, `tr-` and 32 hexadecimal digits; `original_id` what the file calls it, where that
    was another form. Times are milliseconds; None is unknown, and follows from the spans.
    """

    trace_id: str
    original_id: str | None = None
    complete: bool = False
    timestamp_ms: int | None = None
    duration_ms: int | None = None
    state: TraceState | None = None
    client_request_id: str | None = None
    request_preview: str | None = None
    response_preview: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    spans: tuple[ImportedSpan, ...] = ()
    assessments: tuple[ImportedAssessment, ...] = ()


def trace_id_of(original: str) -> tuple[str, str | None]:
    """Return MLflow's trace id of any id, and the original where that had another form.

    MLflow's ids and bare OpenTelemetry ids are kept; any other is hashed, so the same id gives the same trace.
    """
    if _OWN_ID.fullmatch(original):
        return original, None
    if _HEX_ID.fullmatch(original):
        return f"tr-{original.lower()}", None
    digest = hashlib.sha256(original.encode("utf-8", "surrogatepass")).hexdigest()
    return f"tr-{digest[:32]}", original


def digest_of(trace: ImportedTrace) -> str:
    """Return a digest of a trace's content.

    The order of spans and assessments does not count, nor what an export of the imported trace would say otherwise:
    ids of assessments, the digest itself, the original id, which is a tag by then.
    """
    ordered = replace(
        trace,
        original_id=None,
        tags={key: value for key, value in trace.tags.items() if key != DIGEST_TAG},
        spans=tuple(sorted(trace.spans, key=lambda span: span.span_id)),
        assessments=(),
    )
    said = sorted(
        canonical_json(replace(one, assessment_id="", original_id=None, overrides="another" if one.overrides else None))
        for one in trace.assessments
    )
    return hashlib.sha256(canonical_json(ordered) + b"".join(said)).hexdigest()


def to_record(trace: ImportedTrace) -> TraceRecord:
    """Return the trace as the readers of a tracking server return it."""
    return TraceRecord(
        trace_id=trace.trace_id,
        timestamp_ms=trace.timestamp_ms or 0,
        duration_ms=trace.duration_ms or 0,
        state=trace.state or "STATE_UNSPECIFIED",
        tags={key: value for key, value in trace.tags.items() if not key.startswith("mlflow.")},
        user_key=trace.metadata.get("mlflow.trace.user"),
        metadata=trace.metadata,
        spans=tuple(_span_record(span) for span in trace.spans),
        assessments=tuple(
            AssessmentRecord(
                name=one.name,
                kind="feedback" if one.kind == "feedback" else "expectation",
                value=one.value,
                source_type=one.source_type,
                source_id=one.source_id or "",
                timestamp_ms=one.updated_ms,
            )
            for one in trace.assessments
            if one.valid and one.kind != "issue"
        ),
    )


def _span_record(span: ImportedSpan) -> SpanRecord:
    span_type = span.attributes.get(SPAN_TYPE)
    return SpanRecord(
        span_id=span.span_id,
        parent_id=span.parent_id,
        name=span.name,
        start_ns=span.start_ns,
        end_ns=span.start_ns if span.end_ns is None else span.end_ns,
        status=span.status,
        status_message=span.status_message,
        attributes={key: value for key, value in span.attributes.items() if key not in (INPUTS, OUTPUTS, SPAN_TYPE)},
        inputs=span.attributes.get(INPUTS),
        outputs=span.attributes.get(OUTPUTS),
        span_type=span_type if isinstance(span_type, str) else None,
        events=span.events,
    )
