"""The tracer: one chat turn as one trace, exactly the contract's spans, attributes and tags.

All text of a conversation (inputs, outputs, error messages) is redacted here, before anything is written. Attributes
and tags are the platform's own identifiers, numbers and versions, and stay as they are: a hash or a chunk id that
looks like a phone number must not change. The finished trace is a plain record that a sink stores: no tracking
server is needed to trace, and a trace can carry the time of a replayed event instead of now.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from mangaassist_assets.chatbot.parts import TraceSink
from mangaassist_assets.privacy import Vocabulary, redact, redact_json
from mangaassist_assets.tracing.contract.names import Attribute, ShadowSpan, SpanName, Tag
from mangaassist_assets.tracing.contract.records import AttributeValue, SpanRecord, TraceRecord

_MAXIMUM_ERROR = 500
_MAXIMUM_TAG = 250


@dataclass(slots=True)
class ActiveSpan:
    """A span that is open. `inputs` and `outputs` are redacted when it closes."""

    name: SpanName
    span_id: str
    parent_id: str | None
    start_ns: int
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    inputs: object = None
    outputs: object = None

    def set(self, attributes: Mapping[Attribute, AttributeValue | None]) -> None:
        """Set attributes; None leaves one out."""
        self.attributes.update({str(key): value for key, value in attributes.items() if value is not None})


class TurnTracer:
    """Collects the spans and tags of one chat turn. Used by one thread.

    `conversation` is a key of `conversation_key`: with it the same name has the same placeholder in all turns of a
    session. `vocabulary` are the store's own words, which are no personal data.
    """

    def __init__(
        self,
        *,
        session_id: str,
        release_bundle: str,
        user_key: str | None,
        start_ns: int | None,
        trace_id: str | None = None,
        conversation: bytes | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        self._conversation = conversation
        self._vocabulary = vocabulary
        self.trace_id = trace_id or f"tr-{uuid.uuid4().hex}"
        self._opened = 0
        self._user_key = user_key
        # Replayed events keep their time: spans are offset from it by the time they really took, the first by none.
        self._clock_zero: int | None = None
        self._start_ns = time.time_ns() if start_ns is None else start_ns
        self._tags: dict[str, str] = {Tag.SESSION_ID: session_id, Tag.RELEASE_BUNDLE: release_bundle}
        self._stack: list[ActiveSpan] = []
        self._finished: list[SpanRecord] = []

    def tag(self, name: Tag, value: str | None) -> None:
        """Set a tag; None leaves it out."""
        if value is not None:
            self._tags[name] = value[:_MAXIMUM_TAG]

    def tagged(self, name: Tag) -> str | None:
        """Return the value of a tag, None where it is not set."""
        return self._tags.get(name)

    @contextmanager
    def span(self, name: SpanName, *, inputs: object = None) -> Iterator[ActiveSpan]:
        """Open a span under the one that is open; an exception ends it in ERROR and goes on."""
        span = ActiveSpan(
            name=name,
            span_id=self._next_span_id(),
            parent_id=self._stack[-1].span_id if self._stack else None,
            start_ns=self._now(),
            inputs=inputs,
        )
        self._stack.append(span)
        try:
            yield span
        except BaseException as error:
            self._close(span, error)
            raise
        self._close(span, None)

    def add_span(
        self, name: ShadowSpan, *, started_ns: int, ended_ns: int, attributes: Mapping[Attribute, AttributeValue]
    ) -> None:
        """Add a span that ran elsewhere, under the one that is open; its times are those of `perf_counter_ns`."""
        start_ns = self._at(started_ns)
        self._finished.append(
            SpanRecord(
                span_id=self._next_span_id(),
                parent_id=self._stack[-1].span_id if self._stack else None,
                name=name,
                start_ns=start_ns,
                end_ns=max(self._at(ended_ns), start_ns + 1),
                status="OK",
                status_message="",
                attributes={str(key): value for key, value in attributes.items()},
                inputs=None,
                outputs=None,
            )
        )

    def finish(self, sink: TraceSink) -> TraceRecord:
        """Hand the trace to the sink; every span must be closed."""
        if self._stack:
            raise RuntimeError(f"span {self._stack[-1].name} is still open: a trace is written after its spans closed")
        root = next(span for span in self._finished if span.parent_id is None)
        trace = TraceRecord(
            trace_id=self.trace_id,
            timestamp_ms=root.start_ns // 1_000_000,
            # As MLflow counts it: between the two milliseconds, not the nanoseconds rounded.
            duration_ms=root.end_ns // 1_000_000 - root.start_ns // 1_000_000,
            state="ERROR" if root.status == "ERROR" else "OK",
            tags=dict(self._tags),
            user_key=self._user_key,
            spans=tuple(sorted(self._finished, key=lambda span: span.start_ns)),
        )
        sink.write(trace)
        return trace

    def _next_span_id(self) -> str:
        # Of the trace id and the order of opening: a turn that is driven again under its trace id replaces its spans.
        self._opened += 1
        return hashlib.sha256(f"{self.trace_id}/{self._opened}".encode()).hexdigest()[:16]

    def _now(self) -> int:
        clock = time.perf_counter_ns()
        if self._clock_zero is None:
            self._clock_zero = clock
        return self._at(clock)

    def _at(self, clock: int) -> int:
        """Return when something happened that the clock timed."""
        return self._start_ns + clock - (clock if self._clock_zero is None else self._clock_zero)

    def _close(self, span: ActiveSpan, error: BaseException | None) -> None:
        self._stack.pop()
        self._finished.append(
            SpanRecord(
                span_id=span.span_id,
                parent_id=span.parent_id,
                name=span.name,
                start_ns=span.start_ns,
                end_ns=max(self._now(), span.start_ns + 1),
                status="OK" if error is None else "ERROR",
                status_message="" if error is None else describe_error(error),
                attributes=dict(span.attributes),
                inputs=self._redacted(span.inputs),
                outputs=self._redacted(span.outputs),
            )
        )

    def _redacted(self, value: object) -> object:
        return redact_json(value, conversation=self._conversation, vocabulary=self._vocabulary)


def describe_error(error: BaseException) -> str:
    """Return kind and text of an error as a trace may keep it."""
    return redact(f"{type(error).__name__}: {error}"[:_MAXIMUM_ERROR]).text
