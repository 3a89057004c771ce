"""A trace as a plain record: what the tracer writes and every reader returns, whatever the tracking server is.

The same record goes both ways, so what the contract says is tested without a server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

AttributeValue = str | int | float | bool | list[str] | list[float] | list[int] | list[bool]
SpanStatus = Literal["OK", "ERROR", "UNSET"]
TraceState = Literal["OK", "ERROR", "IN_PROGRESS", "STATE_UNSPECIFIED"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanEvent:
    """Something that happened inside a span, such as an `exception`. The time is nanoseconds since the epoch (UTC)."""

    name: str
    timestamp_ns: int
    attributes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanRecord:
    """One span. Times are nanoseconds since the epoch (UTC); `inputs` and `outputs` are JSON values.

    `attributes` are all that the span has, MLflow's own (`mlflow.chat.tokenUsage`) included, but for inputs, outputs
    and type, which have fields here. `span_type` is MLflow's (`LLM`, `CHAT_MODEL`, `RETRIEVER`).
    """

    span_id: str
    parent_id: str | None
    name: str
    start_ns: int
    end_ns: int
    status: SpanStatus = "OK"
    status_message: str = ""
    attributes: Mapping[str, object] = field(default_factory=dict)
    inputs: object = None
    outputs: object = None
    span_type: str | None = None
    events: tuple[SpanEvent, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AssessmentRecord:
    """A feedback or an expectation that somebody put on a trace after the turn."""

    name: str
    kind: Literal["feedback", "expectation"]
    value: object
    source_type: str
    source_id: str
    timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRecord:
    """One trace with everything on it. `timestamp_ms` is its start, milliseconds since the epoch (UTC).

    `tags` are without MLflow's own; `metadata` are MLflow's trace metadata (`mlflow.trace.session`,
    `mlflow.trace.tokenUsage`), which nobody changes after the trace is written.
    """

    trace_id: str
    timestamp_ms: int
    duration_ms: int
    state: TraceState
    tags: Mapping[str, str]
    user_key: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    spans: tuple[SpanRecord, ...] = ()
    assessments: tuple[AssessmentRecord, ...] = ()
