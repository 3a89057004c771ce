"""The import itself: from spooled traces to a store, in batches, counted, and read back at the end.

What the store has of a trace is kept, what it lacks is added. A trace that was written completely carries the digest of
what was written as a tag, set last; so a repeated import sees at once what is there, and one that was killed knows what
is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Protocol

from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.tracing.contract.names import Tag
from mangaassist_assets.tracing.contract.records import TraceState
from mangaassist_assets.tracing.importing.imported_trace import (
    DIGEST_TAG,
    ImportedAssessment,
    ImportedSpan,
    ImportedTrace,
    UnreadableTraceError,
    digest_of,
)
from mangaassist_assets.tracing.importing.parsing import ImportReject
from mangaassist_assets.tracing.importing.spool import Spool, SpooledTrace

BATCH_TRACES = 64
BATCH_SPANS = 1_000
BATCH_BYTES = 8 << 20
_READ_BACK = 200


class RefusedTraceError(Exception):
    """A store refuses a trace for what it is; the message holds nothing of it."""


class ImportIncompleteError(OperatorError, RuntimeError):
    """Traces that were written cannot be read back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpansToWrite:
    """Spans of one trace, and tags to set in the same transaction; tags need the root among the spans."""

    trace_id: str
    spans: Sequence[ImportedSpan]
    tags: Mapping[str, str] = field(default_factory=dict)


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


class TraceStore(Protocol):
    """Where traces are written: everything may be repeated without changing what is there."""

    def stored(self, trace_ids: Sequence[str]) -> Mapping[str, StoredTrace]:
        """Return what is there of these traces."""

    def stored_spans(self, trace_id: str) -> Mapping[str, bool]:
        """Return for each span of a trace whether it has ended."""

    def write_spans(self, spans: Sequence[SpansToWrite]) -> None:
        """Write spans of traces with the tags, all or nothing; raises RefusedTraceError."""

    def write_info(self, trace: ImportedTrace) -> None:
        """Write all of a trace but its spans; raises RefusedTraceError."""

    def write_overriding(self, trace_id: str, assessment: ImportedAssessment) -> None:
        """Write an assessment that replaces another one; raises RefusedTraceError."""

    def set_tag(self, trace_id: str, key: str, value: str) -> None:
        """Set a tag of a trace."""


@dataclass(slots=True)
class ImportCounts:
    """What became of the traces of a file.

    `written` are new, `completed` were there in part, `already_there` in whole. `spans` and `assessments` are those
    written now. `bundles` are the traces of each release bundle, those that were there included.
    """

    traces: int = 0
    written: int = 0
    completed: int = 0
    already_there: int = 0
    in_progress: int = 0
    spans: int = 0
    assessments: int = 0
    superseded_assessments: int = 0
    rejected: int = 0
    bundles: Counter[str] = field(default_factory=Counter)
    on_reject: Callable[[ImportReject], None] = lambda _: None

    def reject(self, reject: ImportReject) -> None:
        """Count a reject and hand it on."""
        self.rejected += 1
        self.on_reject(reject)


def import_spooled(
    spooled: Spool,
    store: TraceStore,
    *,
    on_reject: Callable[[ImportReject], None],
    progress: Callable[[int, int], None] | None = None,
) -> ImportCounts:
    """Write all traces of a spool and read them back; `on_reject` takes each that cannot be written.

    Raises:
        ImportIncompleteError: The store does not return what was written; says how many and one id.
    """
    total = spooled.count()
    counts = ImportCounts(traces=total, on_reject=on_reject)
    done = 0
    for batch in _batches(spooled.traces(), counts):
        _write_batch(batch, spooled, store, counts)
        done += len(batch)
        if progress is not None:
            progress(done, total)
    _read_back(spooled, store)
    if progress is not None:
        progress(total, total)
    return counts


def _batches(found: Iterator[SpooledTrace | ImportReject], counts: ImportCounts) -> Iterator[list[SpooledTrace]]:
    batch: list[SpooledTrace] = []
    spans = size = 0
    for one in found:
        if isinstance(one, ImportReject):
            counts.reject(one)
            continue
        batch.append(one)
        spans += len(one.trace.spans)
        size += one.size
        if len(batch) >= BATCH_TRACES or spans >= BATCH_SPANS or size >= BATCH_BYTES:
            yield batch
            batch, spans, size = [], 0, 0
    if batch:
        yield batch


def _write_batch(batch: Sequence[SpooledTrace], spooled: Spool, store: TraceStore, counts: ImportCounts) -> None:
    stored = store.stored([one.trace.trace_id for one in batch])
    plans: list[tuple[SpooledTrace, _WritingPlan]] = []
    for one in batch:
        there = stored.get(one.trace.trace_id)
        lacks = there is not None and there.here and not _is_complete(there, digest_of(one.trace))
        spans = store.stored_spans(one.trace.trace_id) if lacks else {}
        try:
            decided = _plan(one.trace, there, spans)
        except UnreadableTraceError as reason:
            counts.reject(ImportReject(line_number=one.line_number, reason=str(reason)))
            continue
        if decided.nothing_to_do:
            counts.already_there += 1
            _count(one.trace, counts)
            spooled.expect(one.trace.trace_id, decided.digest)
        else:
            plans.append((one, decided))
    for one, decided in _with_spans_written(plans, store, counts):
        try:
            _write_rest(decided, store)
        except RefusedTraceError as reason:
            counts.reject(ImportReject(line_number=one.line_number, reason=str(reason)))
            continue
        counts.written += decided.is_new
        counts.completed += not decided.is_new
        counts.spans += len(decided.trace.spans)
        counts.assessments += len(decided.trace.assessments) + len(decided.overriding)
        counts.superseded_assessments += decided.superseded
        _count(one.trace, counts)
        spooled.expect(one.trace.trace_id, decided.digest)


def _count(trace: ImportedTrace, counts: ImportCounts) -> None:
    counts.in_progress += trace.state == "IN_PROGRESS"
    if bundle := trace.tags.get(Tag.RELEASE_BUNDLE):
        counts.bundles[bundle] += 1


def _with_spans_written(
    plans: Sequence[tuple[SpooledTrace, _WritingPlan]], store: TraceStore, counts: ImportCounts
) -> list[tuple[SpooledTrace, _WritingPlan]]:
    """Write the spans of all plans at once; one trace that is refused takes no other with it."""
    writing = [
        SpansToWrite(
            trace_id=one.trace.trace_id,
            spans=decided.trace.spans,
            tags=_with_digest(decided) if decided.needs_spans_only else {},
        )
        for one, decided in plans
        if decided.trace.spans
    ]
    try:
        if writing:
            store.write_spans(writing)
    except RefusedTraceError as reason:
        if len(plans) == 1:
            counts.reject(ImportReject(line_number=plans[0][0].line_number, reason=str(reason)))
            return []
        middle = len(plans) // 2
        return [
            *_with_spans_written(plans[:middle], store, counts),
            *_with_spans_written(plans[middle:], store, counts),
        ]
    return list(plans)


def _write_rest(decided: _WritingPlan, store: TraceStore) -> None:
    """Write what is not spans; the digest comes last, so that it vouches for the rest."""
    trace = decided.trace
    if decided.needs_spans_only:
        return
    if not decided.overriding:
        store.write_info(replace(trace, tags=_with_digest(decided)))
        return
    store.write_info(trace)
    for one in decided.overriding:
        store.write_overriding(trace.trace_id, one)
    store.set_tag(trace.trace_id, DIGEST_TAG, decided.digest)


def _with_digest(decided: _WritingPlan) -> dict[str, str]:
    return {**decided.trace.tags, DIGEST_TAG: decided.digest}


def _read_back(spooled: Spool, store: TraceStore) -> None:
    missing = 0
    example = ""
    written = spooled.expected()
    while expected := list(islice(written, _READ_BACK)):
        stored = store.stored([trace_id for trace_id, _ in expected])
        for trace_id, digest in expected:
            there = stored.get(trace_id)
            if there is None or not _is_complete(there, digest):
                missing += 1
                example = example or trace_id
    if missing:
        raise ImportIncompleteError(
            f"{missing} traces were written and cannot be read back, {example} for one: look at the tracking server's "
            "log, then run the same import again; what is there is not written twice"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _WritingPlan:
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


def _plan(trace: ImportedTrace, stored: StoredTrace | None, stored_spans: Mapping[str, bool]) -> _WritingPlan:
    """Return what the store lacks of a trace; `stored_spans` has for each span in the store whether it has ended."""
    digest = digest_of(trace)
    if stored is None:
        return _with_assessments(trace, frozenset(), digest, is_new=True)
    if not stored.here:
        raise UnreadableTraceError("the server has a trace of this id in another experiment")
    if _is_complete(stored, digest):
        return _WritingPlan(trace=trace, digest=digest, is_new=False, nothing_to_do=True)
    keeps = stored.settled and stored.state != "IN_PROGRESS"
    lacking = replace(
        trace,
        spans=tuple(
            span
            for span in trace.spans
            if span.span_id not in stored_spans or (span.end_ns is not None and not stored_spans[span.span_id])
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


def _is_complete(stored: StoredTrace, digest: str) -> bool:
    return stored.tags.get(DIGEST_TAG) == digest


def _with_assessments(trace: ImportedTrace, there: frozenset[str], digest: str, *, is_new: bool) -> _WritingPlan:
    new = [one for one in trace.assessments if one.assessment_id not in there and one.original_id not in there]
    known = there | {one.assessment_id for one in trace.assessments}
    replaced = {one.overrides for one in trace.assessments if one.overrides}
    superseded = [one for one in new if not one.valid and one.assessment_id not in replaced]
    writable = [one if one.overrides in known else replace(one, overrides=None) for one in new if one not in superseded]
    return _WritingPlan(
        trace=replace(trace, assessments=tuple(one for one in writable if one.overrides is None)),
        digest=digest,
        is_new=is_new,
        overriding=tuple(one for one in writable if one.overrides is not None),
        superseded=len(superseded),
    )
