"""A trace source in memory that people can write to behind the reader's back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from mangaassist_assets.tracing.contract.names import SpanName, Tag
from mangaassist_assets.tracing.contract.records import AssessmentRecord, SpanRecord, TraceRecord
from mangaassist_assets.tracing.ingestion.trace_sources import (
    AssessedTraces,
    AssessmentPosition,
    BundleSightings,
    TraceHeader,
    TracePosition,
    fingerprint,
)


class SourceGoneError(RuntimeError):
    """The source does not answer."""


def chat_trace(trace_id: str, timestamp_ms: int, bundle: str | None, *, message: str = "where is it") -> TraceRecord:
    """Return a finished trace that is a valid turn; without a bundle it belongs in quarantine."""
    start = timestamp_ms * 1_000_000
    tags = {Tag.SESSION_ID: f"s-{trace_id}"} | ({} if bundle is None else {Tag.RELEASE_BUNDLE: bundle})
    spans = (
        SpanRecord(
            span_id="01",
            parent_id=None,
            name=SpanName.CHAT_TURN,
            start_ns=start,
            end_ns=start + 5_000_000,
            inputs={"message": message},
            outputs={"answer": "here"},
        ),
    )
    return TraceRecord(
        trace_id=trace_id,
        timestamp_ms=timestamp_ms,
        duration_ms=5,
        state="OK",
        tags={str(key): value for key, value in tags.items()},
        spans=spans,
    )


@dataclass
class MemorySource:
    """Traces by id; `fails_at` is the call, counted from 1, that raises instead of answering."""

    traces: dict[str, TraceRecord] = field(default_factory=dict)
    assessed: dict[str, AssessmentPosition] = field(default_factory=dict)
    keeps_assessment_order: bool = True
    fails_at: int | None = None
    calls: int = 0
    spans_read: int = 0
    headers_read: int = 0

    def put(self, trace: TraceRecord) -> None:
        self.traces[trace.trace_id] = trace

    def tag(self, trace_id: str, name: str, value: str) -> None:
        trace = self.traces[trace_id]
        self.traces[trace_id] = replace(trace, tags={**trace.tags, name: value})

    def assess(self, trace_id: str, assessment: AssessmentRecord) -> None:
        trace = self.traces[trace_id]
        self.traces[trace_id] = replace(trace, assessments=(*trace.assessments, assessment))
        self.assessed[trace_id] = AssessmentPosition(
            timestamp_ms=assessment.timestamp_ms, assessment_id=f"{trace_id}-{len(trace.assessments)}"
        )

    def traces_after(self, position: TracePosition | None, *, limit: int) -> Sequence[TraceRecord]:
        found = self._after(position)[:limit]
        self.spans_read += len(found)
        return found

    def headers_after(
        self, position: TracePosition | None, *, limit: int, release_bundle: str | None = None
    ) -> Sequence[TraceHeader]:
        found = [one for one in self._after(position) if release_bundle in (None, one.tags.get(Tag.RELEASE_BUNDLE))][
            :limit
        ]
        self.headers_read += len(found)
        return [_header(one) for one in found]

    def traces_by_id(self, trace_ids: Sequence[str]) -> Sequence[TraceRecord]:
        found = self._by_id(trace_ids)
        self.spans_read += len(found)
        return found

    def headers_by_id(self, trace_ids: Sequence[str]) -> Sequence[TraceHeader]:
        found = self._by_id(trace_ids)
        self.headers_read += len(found)
        return [_header(one) for one in found]

    def assessed_after(self, position: AssessmentPosition | None, *, limit: int) -> AssessedTraces | None:
        self._answer()
        if not self.keeps_assessment_order:
            return None
        found = sorted((at, one) for one, at in self.assessed.items() if position is None or at > position)
        return AssessedTraces(
            trace_ids=tuple(one for _, one in found[:limit]),
            position=found[:limit][-1][0] if found else position,
            at_end=len(found) <= limit,
        )

    def bundles_since(self, timestamp_ms: int, *, known: Collection[str] = ()) -> BundleSightings:
        self._answer()
        recent = [one for one in self.traces.values() if one.timestamp_ms > timestamp_ms]
        bundles = {one.tags.get(Tag.RELEASE_BUNDLE) for one in recent}
        if known:
            bundles |= {one.tags.get(Tag.RELEASE_BUNDLE) for one in self.traces.values()} - set(known)
        newest = max((one.timestamp_ms for one in recent), default=0)
        return BundleSightings(bundles=tuple(sorted(filter(None, bundles))), newest_ms=newest, traces=len(recent))

    def _answer(self) -> None:
        self.calls += 1
        if self.calls == self.fails_at:
            raise SourceGoneError(f"call {self.calls}")

    def _after(self, position: TracePosition | None) -> list[TraceRecord]:
        self._answer()
        return sorted(
            (one for one in self.traces.values() if position is None or _position(one) > position), key=_position
        )

    def _by_id(self, trace_ids: Sequence[str]) -> list[TraceRecord]:
        self._answer()
        return sorted((self.traces[one] for one in set(trace_ids) if one in self.traces), key=_position)


def _position(trace: TraceRecord) -> TracePosition:
    return TracePosition(timestamp_ms=trace.timestamp_ms, trace_id=trace.trace_id)


def _header(trace: TraceRecord) -> TraceHeader:
    return TraceHeader(
        trace_id=trace.trace_id,
        timestamp_ms=trace.timestamp_ms,
        state=trace.state,
        fingerprint=fingerprint(trace),
    )
