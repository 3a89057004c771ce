"""Putting the parts of a trace together: duplicates, parts in any order, an earlier and a later export of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mangaassist_assets.tracing.adapters.building import SESSION_METADATA
from mangaassist_assets.tracing.contract.records import TraceState
from mangaassist_assets.tracing.importing.fields import MAXIMUM_KEY, MAXIMUM_SOURCE, MAXIMUM_VALUE
from mangaassist_assets.tracing.importing.imported_trace import (
    ORIGINAL_ID_TAG,
    SPAN_TYPE,
    TRACE_TAG_PREFIX,
    ImportedAssessment,
    ImportedSpan,
    ImportedTrace,
    UnreadableTraceError,
    to_record,
)
from mangaassist_assets.tracing.reading.mapping import TraceMapping
from mangaassist_assets.tracing.reading.turn_reader import identifying_tags

MAXIMUM_SPANS = 20_000
_MAXIMUM_NAME = 4_096
_MAXIMUM_REQUEST_ID = 50
_MAXIMUM_TYPE = 500
_MAXIMUM_PREVIEW = 1_000


def merged(parts: Sequence[ImportedTrace]) -> ImportedTrace:
    """Return the trace that parts of one trace id, in the order of the file, add up to.

    A span that has ended replaces the same span still open; else the later one counts. A finished export of the
    trace counts more than one in progress, then the later one more than the earlier; tags, metadata and assessments
    of all are kept. What the parts do not say follows from the spans, as MLflow derives it.

    Raises:
        UnreadableTraceError: There are no spans, or too many.
    """
    spans: dict[str, ImportedSpan] = {}
    for span in (span for part in parts for span in part.spans):
        known = spans.get(span.span_id)
        if known is None or span.end_ns is not None or known.end_ns is None:
            spans[span.span_id] = span
    if not spans:
        raise UnreadableTraceError("the trace has no spans")
    if len(spans) > MAXIMUM_SPANS:
        raise UnreadableTraceError(f"the trace has more than {MAXIMUM_SPANS:,} spans")
    ranked = sorted(parts, key=lambda part: (part.complete, part.state in ("OK", "ERROR")))
    tags = {key: value for part in ranked for key, value in part.tags.items()}
    original = next((part.original_id for part in reversed(ranked) if part.original_id), None)
    if original is not None:
        tags[ORIGINAL_ID_TAG] = original
    return _derived(
        replace(
            ranked[-1],
            original_id=original,
            tags=tags,
            metadata={key: value for part in ranked for key, value in part.metadata.items()},
            spans=tuple(sorted(spans.values(), key=lambda span: (span.start_ns, span.span_id))),
            assessments=_assessments(one for part in ranked for one in part.assessments),
        )
    )


def with_contract_tags(trace: ImportedTrace, mapping: TraceMapping | None = None) -> ImportedTrace:
    """Return the trace with the tags by which it is found, where its spans name them and the file has none.

    Those are the tags that root spans carry for MLflow, and session and release bundle in the words of other tools.
    """
    carried = {
        key.removeprefix(TRACE_TAG_PREFIX): value
        for span in trace.spans
        if span.parent_id is None
        for key, value in span.attributes.items()
        if key.startswith(TRACE_TAG_PREFIX) and isinstance(value, str) and len(value) <= MAXIMUM_VALUE
    }
    tagged = replace(trace, tags={**carried, **trace.tags})
    return replace(tagged, tags={**identifying_tags(to_record(tagged), mapping), **tagged.tags})


def check_storable(trace: ImportedTrace) -> None:
    """Check what may have grown beyond MLflow's limits since the file was read: a placeholder may be longer.

    Raises:
        UnreadableTraceError: Something is too long; says what.
    """
    for where, values in (("tags", trace.tags), ("metadata", trace.metadata)):
        if any(len(key) > MAXIMUM_KEY or len(value) > MAXIMUM_VALUE for key, value in values.items()):
            raise UnreadableTraceError(f"a key or value of {where} is longer than MLflow keeps")
    limited: list[tuple[str, str | None, int]] = [
        ("session", trace.metadata.get(SESSION_METADATA), MAXIMUM_KEY),
        ("name of the trace", trace.tags.get("mlflow.traceName"), _MAXIMUM_NAME),
        ("client_request_id", trace.client_request_id, _MAXIMUM_REQUEST_ID),
        *(("name of an assessment", one.name, MAXIMUM_KEY) for one in trace.assessments),
        *(("source of an assessment", one.source_id, MAXIMUM_SOURCE) for one in trace.assessments),
        *(("type of a span", str(span.attributes.get(SPAN_TYPE, "")), _MAXIMUM_TYPE) for span in trace.spans),
    ]
    for where, text, longest in limited:
        if text is not None and len(text) > longest:
            raise UnreadableTraceError(f"the {where} is longer than {longest} characters")


def _assessments(found: Iterable[ImportedAssessment]) -> tuple[ImportedAssessment, ...]:
    latest: dict[str, ImportedAssessment] = {}
    for one in found:
        known = latest.get(one.assessment_id)
        if known is None or (one.updated_ms, not one.valid) >= (known.updated_ms, not known.valid):
            latest[one.assessment_id] = one
    return tuple(sorted(latest.values(), key=lambda one: (one.created_ms, one.assessment_id)))


def _derived(trace: ImportedTrace) -> ImportedTrace:
    start_ms = min(span.start_ns for span in trace.spans) // 1_000_000
    ends = [span.end_ns for span in trace.spans if span.end_ns is not None]
    lasted = None if trace.complete or not ends else max(ends) // 1_000_000 - start_ms
    return replace(
        trace,
        timestamp_ms=start_ms if trace.timestamp_ms is None else trace.timestamp_ms,
        duration_ms=lasted if trace.duration_ms is None else trace.duration_ms,
        # The spans hold the whole; MLflow keeps this much of it in sight.
        request_preview=None if trace.request_preview is None else trace.request_preview[:_MAXIMUM_PREVIEW],
        response_preview=None if trace.response_preview is None else trace.response_preview[:_MAXIMUM_PREVIEW],
        state=_state(trace),
    )


def _state(trace: ImportedTrace) -> TraceState:
    """Return the trace's state; one whose root is open, or that came as spans of which one is open, is in progress."""
    roots = [span for span in trace.spans if span.parent_id is None]
    watched = roots if trace.complete else trace.spans
    if any(span.end_ns is None for span in watched) or not (roots or trace.complete):
        return "IN_PROGRESS"
    if trace.state is not None:
        return trace.state
    return "ERROR" if any(root.status == "ERROR" for root in roots) else "OK"
