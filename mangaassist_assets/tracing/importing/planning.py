"""What a store still lacks of a trace: what it has is kept, what it lacks is added.

A trace that was written completely carries the digest of what was written as a tag, set last; so a repeated import
sees at once what is there, and one that was killed knows what is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mangaassist_assets.tracing.contract.records import TraceState
from mangaassist_assets.tracing.importing.imported_trace import (
    DIGEST_TAG,
    ImportedAssessment,
    ImportedTrace,
    UnreadableTraceError,
    digest_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTrace:
    """What a store has of a trace. `settled`: its state and times were written as such, not derived."""

    trace_id: str
    here: bool
    state: TraceState
    timestamp_ms: int
    duration_ms: int | None
    settled: bool
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    assessment_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class WritingPlan:
    """What to write of a trace. `trace` holds only what is lacking; `digest` is set as a tag after the rest.

    `overriding` are assessments that replace another one and have to be written after it. `superseded` counts those
    that were replaced by one that the file does not hold: they cannot be written without coming back to life.
    """

    trace: ImportedTrace
    digest: str
    is_new: bool
    nothing_to_do: bool = False
    overriding: tuple[ImportedAssessment, ...] = ()
    superseded: int = 0

    @property
    def needs_spans_only(self) -> bool:
        """Whether the spans say all of the trace: it came as spans, is finished, and nothing of it is there yet."""
        trace = self.trace
        return (
            self.is_new
            and not trace.complete
            and trace.state != "IN_PROGRESS"
            and any(span.parent_id is None for span in trace.spans)
        )


def plan(trace: ImportedTrace, stored: StoredTrace | None, stored_spans: Mapping[str, bool] | None) -> WritingPlan:
    """Return what to write.

    Args:
        trace: The whole trace of the file.
        stored: What the store has of it, None if nothing.
        stored_spans: For each span in the store whether it has ended; None is read as no spans.

    Raises:
        UnreadableTraceError: The store has this trace id in another experiment.
    """
    digest = digest_of(trace)
    if stored is None:
        return _with_assessments(trace, frozenset(), digest, is_new=True)
    if not stored.here:
        raise UnreadableTraceError("the server has a trace of this id in another experiment")
    if is_complete(stored, digest):
        return WritingPlan(trace=trace, digest=digest, is_new=False, nothing_to_do=True)
    ended = stored_spans or {}
    keeps = stored.settled and stored.state != "IN_PROGRESS"
    lacking = replace(
        trace,
        spans=tuple(
            span
            for span in trace.spans
            if span.span_id not in ended or (span.end_ns is not None and not ended[span.span_id])
        ),
        tags={key: value for key, value in trace.tags.items() if key not in stored.tags},
        metadata={key: value for key, value in trace.metadata.items() if key not in stored.metadata},
        state=stored.state if keeps else trace.state,
        timestamp_ms=stored.timestamp_ms if keeps else trace.timestamp_ms,
        duration_ms=stored.duration_ms if keeps else trace.duration_ms,
        request_preview=None if keeps else trace.request_preview,
        response_preview=None if keeps else trace.response_preview,
    )
    return _with_assessments(lacking, stored.assessment_ids, digest, is_new=False)


def is_complete(stored: StoredTrace, digest: str) -> bool:
    """Return whether a trace of this content was written completely."""
    return stored.tags.get(DIGEST_TAG) == digest


def _with_assessments(trace: ImportedTrace, there: frozenset[str], digest: str, *, is_new: bool) -> WritingPlan:
    new = [one for one in trace.assessments if one.assessment_id not in there and one.original_id not in there]
    known = there | {one.assessment_id for one in trace.assessments}
    replaced = {one.overrides for one in trace.assessments if one.overrides}
    superseded = [one for one in new if not one.valid and one.assessment_id not in replaced]
    writable = [one if one.overrides in known else replace(one, overrides=None) for one in new if one not in superseded]
    return WritingPlan(
        trace=replace(trace, assessments=tuple(one for one in writable if one.overrides is None)),
        digest=digest,
        is_new=is_new,
        overriding=tuple(one for one in writable if one.overrides is not None),
        superseded=len(superseded),
    )
