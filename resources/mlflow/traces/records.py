"""What MLflow keeps of a trace, as plain records: the same whichever way it was read.

Every source ends here, so that two of them give equal records for one trace: tags and metadata cut as MLflow's REST
interface cuts them, numbers of assessments in one form, spans and assessments in one order.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

import orjson

from mangaassist_assets.tracing.contract.records import (
    AssessmentRecord,
    SpanEvent,
    SpanRecord,
    SpanStatus,
    TraceRecord,
    TraceState,
)

if TYPE_CHECKING:
    from mlflow.entities import Assessment, Span, Trace

SPAN_INPUTS = "mlflow.spanInputs"
SPAN_OUTPUTS = "mlflow.spanOutputs"
SPAN_TYPE = "mlflow.spanType"
REQUEST_ID = "mlflow.traceRequestId"
SPANS_LOCATION = "mlflow.trace.spansLocation"
USER = "mlflow.trace.user"
TAG_VALUE_LIMIT = 4_096
METADATA_LIMIT = 250
"""Characters that MLflow's REST interface returns of a tag value, and of a metadata key or value."""

_OWN = "mlflow."
_STATES: frozenset[str] = frozenset({"OK", "ERROR", "IN_PROGRESS"})
_SOURCE_TYPES = {"AI_JUDGE": "LLM_JUDGE"}
_logger = logging.getLogger(__name__)


def build_record(
    *,
    trace_id: str,
    timestamp_ms: int,
    duration_ms: int | None,
    state: str,
    tags: Mapping[str, str | None],
    metadata: Mapping[str, str | None],
    spans: Iterable[SpanRecord],
    assessments: Iterable[AssessmentRecord],
) -> TraceRecord:
    """Return a trace as a record; `tags` are all tags, MLflow's own included, and the spans come in any order.

    Assessments must be in the order of (last update, assessment id).
    """
    kept = own_metadata(metadata)
    return TraceRecord(
        trace_id=trace_id,
        timestamp_ms=timestamp_ms,
        duration_ms=duration_ms or 0,
        state=state_of(state),
        tags=foreign_tags(tags),
        user_key=kept.get(USER),
        metadata=kept,
        spans=in_order(spans),
        assessments=tuple(assessments),
    )


def state_of(state: str | None) -> TraceState:
    """Return a trace's state; what MLflow does not know is STATE_UNSPECIFIED."""
    return cast("TraceState", state) if state in _STATES else "STATE_UNSPECIFIED"


def foreign_tags(tags: Mapping[str, str | None]) -> dict[str, str]:
    """Return the tags that are not MLflow's own."""
    return {key: str(value)[:TAG_VALUE_LIMIT] for key, value in tags.items() if not key.startswith(_OWN)}


def own_metadata(metadata: Mapping[str, str | None]) -> dict[str, str]:
    """Return the metadata of a trace as the REST interface returns them."""
    return {key[:METADATA_LIMIT]: str(value)[:METADATA_LIMIT] for key, value in metadata.items()}


def in_order(spans: Iterable[SpanRecord]) -> tuple[SpanRecord, ...]:
    """Return spans with roots first, then by start and id."""
    return tuple(sorted(spans, key=lambda span: (span.parent_id is not None, span.start_ns, span.span_id)))


def assessment_record(
    *,
    name: str,
    kind: str,
    value: object,
    source_type: str | None,
    source_id: str | None,
    timestamp_ms: int,
) -> AssessmentRecord | None:
    """Return a feedback or an expectation; None for what is neither, such as a reference to an issue."""
    if kind not in ("feedback", "expectation"):
        return None
    source = (source_type or "SOURCE_TYPE_UNSPECIFIED").upper()
    return AssessmentRecord(
        name=name,
        kind=cast("Literal['feedback', 'expectation']", kind),
        value=_plain(value),
        source_type=_SOURCE_TYPES.get(source, source),
        source_id=source_id or "",
        timestamp_ms=timestamp_ms,
    )


def _plain(value: object) -> object:
    """Return a JSON value with whole numbers as integers: on the wire every number is a double."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            return value
        return int(number) if number.is_integer() else number
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def log_without_assessment(assessment_id: str, trace_id: str) -> None:
    """Say that an assessment is left out."""
    _logger.warning("assessment %s of trace %s is left out: its value is not JSON", assessment_id, trace_id)


def json_value(text: str) -> Any:  # noqa: ANN401  # any JSON value
    """Decode JSON text as MLflow does.

    Raises:
        ValueError: It is not JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # orjson refuses NaN and halves of surrogate pairs, which Python's JSON writes and reads.
        return _encodable(json.loads(text))


def _encodable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    return value


def make_span(
    *,
    span_id: str,
    parent_id: str | None,
    name: str,
    start_ns: int,
    end_ns: int | None,
    status: tuple[str, str | None],
    attributes: dict[str, Any],
    events: tuple[SpanEvent, ...],
) -> SpanRecord:
    """Return a span; `attributes` are decoded, and those that become fields are taken out of them.

    `status` is the code and its description.
    """
    code, message = status
    span_type = attributes.pop(SPAN_TYPE, None)
    attributes.pop(REQUEST_ID, None)
    return SpanRecord(
        span_id=span_id,
        parent_id=parent_id,
        name=name,
        start_ns=start_ns,
        end_ns=end_ns or start_ns,
        status=cast("SpanStatus", code if code in ("OK", "ERROR") else "UNSET"),
        # OpenTelemetry keeps a description of errors only.
        status_message=(message or "") if code == "ERROR" else "",
        inputs=attributes.pop(SPAN_INPUTS, None),
        outputs=attributes.pop(SPAN_OUTPUTS, None),
        attributes=attributes,
        span_type=span_type if isinstance(span_type, str) else None,
        events=events,
    )


def to_record(trace: Trace) -> TraceRecord:
    """Return an MLflow trace as a plain record."""
    info = trace.info
    items = [item for item in info.assessments or () if item.valid is not False]
    items.sort(key=lambda item: (_updated(item), item.assessment_id or ""))
    return build_record(
        trace_id=info.trace_id,
        timestamp_ms=info.timestamp_ms,
        duration_ms=info.execution_duration,
        state=str(info.state.value),
        tags=info.tags,
        metadata=info.trace_metadata,
        spans=map(span_record, trace.data.spans),
        assessments=filter(None, map(_assessment, items)),
    )


def span_record(span: Span) -> SpanRecord:
    """Return an MLflow span as a plain record."""
    return make_span(
        span_id=span.span_id,
        parent_id=span.parent_id,
        name=span.name,
        start_ns=span.start_time_ns,
        end_ns=span.end_time_ns,
        status=(str(getattr(span.status.status_code, "value", span.status.status_code)), span.status.description),
        attributes=dict(span.attributes),
        events=tuple(
            SpanEvent(name=event.name, timestamp_ns=event.timestamp, attributes=_lists(event.attributes))
            for event in span.events
        ),
    )


def _lists(attributes: Mapping[str, object]) -> dict[str, object]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in attributes.items()}


def _updated(item: Assessment) -> int:
    return item.last_update_time_ms or item.create_time_ms or 0


def _assessment(item: Assessment) -> AssessmentRecord | None:
    held = item.expectation or item.feedback
    return assessment_record(
        name=item.name,
        kind="expectation" if item.expectation else "feedback" if item.feedback else "issue",
        value=None if held is None else held.value,
        source_type=str(item.source.source_type),
        source_id=item.source.source_id,
        timestamp_ms=_updated(item),
    )
