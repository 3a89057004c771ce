"""Where traces are read from: one protocol, whatever stands behind it.

A source yields traces in the order of (timestamp_ms, trace_id) from a position, so that a reading stops and goes on
at any page. It promises nothing about traces that are written behind the position: `tracing.ingestion` looks back for
them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from mangaassist_assets.tracing.contract.records import AssessmentRecord, TraceRecord, TraceState


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class TracePosition:
    """A place in the order of traces; `trace_id` may be empty, which is before every trace of that millisecond."""

    timestamp_ms: int
    trace_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class AssessmentPosition:
    """A place in the order in which assessments were written or changed."""

    timestamp_ms: int
    assessment_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceHeader:
    """A trace without its spans; `fingerprint` changes whenever state, duration, tags or assessments do."""

    trace_id: str
    timestamp_ms: int
    state: TraceState
    fingerprint: str

    @property
    def position(self) -> TracePosition:
        """Its place in the order of traces."""
        return TracePosition(timestamp_ms=self.timestamp_ms, trace_id=self.trace_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssessedTraces:
    """Traces with assessments that were written or changed, and the position after the last of them."""

    trace_ids: tuple[str, ...]
    position: AssessmentPosition | None
    at_end: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSightings:
    """Release bundles seen in traces: valid or not, sorted; the newest start time seen, and how many traces."""

    bundles: tuple[str, ...]
    newest_ms: int
    traces: int


class TraceSource(Protocol):
    """One experiment's traces, in order."""

    def traces_after(self, position: TracePosition | None, *, limit: int) -> Sequence[TraceRecord]:
        """Return up to `limit` traces after a position, in order, with spans, those in progress included.

        Fewer than `limit` means that there were no more at the time of the call.
        """

    def headers_after(
        self, position: TracePosition | None, *, limit: int, release_bundle: str | None = None
    ) -> Sequence[TraceHeader]:
        """Return the same traces without spans, much cheaper; with `release_bundle` only those with that tag."""

    def traces_by_id(self, trace_ids: Sequence[str]) -> Sequence[TraceRecord]:
        """Return the traces with these ids that exist, in order, with spans."""

    def headers_by_id(self, trace_ids: Sequence[str]) -> Sequence[TraceHeader]:
        """Return the headers of the traces with these ids that exist, in order."""

    def assessed_after(self, position: AssessmentPosition | None, *, limit: int) -> AssessedTraces | None:
        """Return what was assessed after a position, or None where the source keeps no such order."""

    def bundles_since(self, timestamp_ms: int, *, known: Collection[str] = ()) -> BundleSightings:
        """Return the bundles of traces that started after a time (ms since the epoch).

        With `known` all other bundles at any time as well: one whose traces come late or replay the past is not missed.
        """


def header_pages(
    source: TraceSource, *, page: int, after: TracePosition | None = None, release_bundle: str | None = None
) -> Iterator[Sequence[TraceHeader]]:
    """Yield the headers of all traces after a position, in order and page by page; the last page may be empty."""
    while True:
        headers = source.headers_after(after, limit=page, release_bundle=release_bundle)
        yield headers
        if len(headers) < page:
            return
        after = headers[-1].position


def bundle_traces(source: TraceSource, release_bundle: str, *, page: int = 500) -> Iterator[TraceRecord]:
    """Yield every trace of a bundle once, with spans, those still in progress included."""
    for headers in header_pages(source, page=page, release_bundle=release_bundle):
        yield from source.traces_by_id([one.trace_id for one in headers])


def fingerprint(trace: TraceRecord) -> str:
    """Return a digest of what may change after a trace was written: state, duration, tags, valid assessments.

    Sources that can compute it without spans must arrive at the same digest.
    """
    return fingerprint_of(
        state=trace.state, duration_ms=trace.duration_ms, tags=dict(trace.tags), assessments=trace.assessments
    )


def fingerprint_of(
    *, state: TraceState, duration_ms: int, tags: dict[str, str], assessments: Sequence[AssessmentRecord]
) -> str:
    """Return the digest of these parts of a trace; the order of assessments does not count."""
    said = sorted(json.dumps(asdict(one), sort_keys=True, default=str) for one in assessments)
    content = json.dumps([state, duration_ms, tags, said], sort_keys=True, default=str)
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
