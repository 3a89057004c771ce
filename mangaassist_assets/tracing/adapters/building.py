"""Adding to a trace the contract's spans and tags that a tool's own spans describe, next to what is there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mangaassist_assets.privacy import is_personal_id
from mangaassist_assets.tracing.contract.names import Attribute, SpanName, Tag
from mangaassist_assets.tracing.contract.records import SpanRecord, SpanStatus, TraceRecord
from mangaassist_assets.tracing.contract.turns import TraceShape
from mangaassist_assets.tracing.contract.values import name

SESSION_METADATA = "mlflow.trace.session"
TOKEN_USAGE = "mlflow.chat.tokenUsage"  # noqa: S105
_IDENTIFIER = re.compile(r"[0-9A-Za-z._:/#+-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """What one span of a tool says of one call of a language model; None where it does not say.

    `input_tokens` are without those read from or written to the prompt cache. `latency_ms` is said by tools that write
    their span after the call, which then is shorter.
    """

    span: SpanRecord
    message: str | None = None
    answer: str | None = None
    model_id: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    stop_reason: str | None = None
    reported_cost_usd: float | None = None
    latency_ms: int | None = None

    def attributes(self) -> dict[str, object]:
        """Return the attributes of a `bedrock_generate` span."""
        return given(
            {
                Attribute.BEDROCK_MODEL_ID: self.model_id,
                Attribute.TEMPERATURE: self.temperature,
                Attribute.MAX_TOKENS: self.max_tokens,
                Attribute.INPUT_TOKENS: self.input_tokens,
                Attribute.OUTPUT_TOKENS: self.output_tokens,
                Attribute.CACHE_READ_TOKENS: self.cache_read_tokens,
                Attribute.CACHE_WRITE_TOKENS: self.cache_write_tokens,
                Attribute.STOP_REASON: self.stop_reason,
                Attribute.REPORTED_COST_USD: self.reported_cost_usd,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Another stage of a turn that a tool's span describes: the contract's name of it and its attributes.

    Where one span describes several stages of a name, `key` distinguishes them. `times` (start and end, nanoseconds)
    and `failed` are those of the span unless they are given; `why_failed` is the message of a failure.
    """

    span: SpanRecord
    name: SpanName
    attributes: Mapping[str, object] = field(default_factory=dict)
    key: str = ""
    times: tuple[int, int] | None = None
    failed: bool | None = None
    why_failed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A trace with the contract's spans and tags as far as its writer's own spans describe them.

    `message` and `answer` are those of its model calls, the last ones; `is_root_call` says that the root itself is
    such a call, so that its inputs are a prompt. `users` are the ids of users that were met, some of them plain.
    `made` are the ids of the spans that were added.
    """

    shape: TraceShape
    trace: TraceRecord
    message: str | None = None
    answer: str | None = None
    is_root_call: bool = False
    users: tuple[object, ...] = ()
    made: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All that a tool's spans say of a turn. `tags` are candidates: the first valid value of each counts.

    `failure` says why the last call failed, where the tool knows better than the state of its spans.
    """

    calls: Sequence[ModelCall] = ()
    failure: str | None = None
    stages: Sequence[Stage] = ()
    tags: Mapping[str, Sequence[object]] = field(default_factory=dict)
    users: Sequence[object] = ()


def in_contract(shape: TraceShape, trace: TraceRecord, findings: Findings) -> Converted:
    """Return the trace with the spans and tags that the findings allow and that it lacks.

    Added spans stand under the span that describes them, so the deepest failed span is the contract's. Nothing that
    the trace has is changed, but for the state of one whose call failed, and the duration where a call took longer.
    """
    has = {span.name for span in trace.spans}
    calls = _outermost(trace.spans, _informative(trace.spans, findings.calls))
    added: list[SpanRecord] = []
    if SpanName.BEDROCK_GENERATE not in has:
        added += [_generate(trace, call) for call in calls]
        if added and findings.failure is not None:
            reason = added[-1].status_message or findings.failure
            added[-1] = replace(added[-1], status="ERROR", status_message=reason)
    # A tool's call that the trace has already is distinguished from others by its id, not by the name of its span.
    added += [_under(trace, one) for one in findings.stages if one.name not in has or one.name == SpanName.TOOL_CALL]
    tags: dict[str, str] = dict(trace.tags)
    for tag, values in (*findings.tags.items(), (Tag.BEDROCK_MODEL_ID, [call.model_id for call in reversed(calls)])):
        if not tags.get(tag) and (found := _first_harmless(tag, values)) is not None:
            tags[tag] = found
    is_lost = findings.failure is not None or (bool(calls) and calls[-1].span.status == "ERROR")
    ids = {span.span_id for span in trace.spans}
    return Converted(
        shape=shape,
        trace=replace(
            trace,
            spans=(*trace.spans, *added),
            tags=tags,
            duration_ms=max([trace.duration_ms, *(call.latency_ms or 0 for call in calls)]),
            state=trace.state if findings.failure is None or trace.state == "IN_PROGRESS" else "ERROR",
        ),
        message=next((call.message for call in reversed(calls) if call.message is not None), None),
        answer=None if is_lost else next((call.answer for call in reversed(calls) if call.answer is not None), None),
        is_root_call=any(call.span.parent_id not in ids for call in calls),
        users=tuple(findings.users),
        made=frozenset(span.span_id for span in added),
    )


def given(attributes: Mapping[Attribute, object]) -> dict[str, object]:
    """Return the attributes that have a value."""
    return {str(key): value for key, value in attributes.items() if value is not None}


def without_cache(tokens: int | None, cache_read: int | None, cache_write: int | None) -> int | None:
    """Return the tokens of an input that were counted with those of the prompt cache, without them."""
    return None if tokens is None else max(0, tokens - (cache_read or 0) - (cache_write or 0))


def named_values(trace: TraceRecord, *names: str) -> list[object]:
    """Return what the trace's metadata and its spans' attributes hold under these names, metadata first."""
    found: list[object] = [trace.metadata.get(one) for one in names]
    found += [span.attributes.get(one) for span in in_order(trace.spans) for one in names]
    return [one for one in found if one is not None]


def in_order(spans: Iterable[SpanRecord]) -> list[SpanRecord]:
    """Return spans in the order they began."""
    return sorted(spans, key=lambda span: (span.start_ns, span.end_ns, span.span_id))


def _first_harmless(tag: str, values: Iterable[object]) -> str | None:
    """Return the first value that can be a tag and says nothing personal.

    Models, bundles and versions are recognised by their form; what a shopper's session is called may be an address.
    """
    for value in values:
        found = name(value)
        if found is None:
            continue
        if (not is_personal_id(found)) if tag == Tag.SESSION_ID else _IDENTIFIER.fullmatch(found):
            return found
    return None


def _informative(spans: Sequence[SpanRecord], calls: Sequence[ModelCall]) -> list[ModelCall]:
    """Return the calls without those with neither texts nor tokens above one that has some: these are no calls."""
    parents = {span.span_id: span.parent_id for span in spans}
    above = {one for call in calls if _says_something(call) for one in _ancestors(call.span.parent_id, parents)}
    return [call for call in calls if _says_something(call) or call.span.span_id not in above]


def _says_something(call: ModelCall) -> bool:
    return any(one is not None for one in (call.message, call.answer, call.input_tokens, call.output_tokens))


def _outermost(spans: Sequence[SpanRecord], calls: Sequence[ModelCall]) -> list[ModelCall]:
    """Return the calls in order, without those below another call: a client traced inside a proxy is one call."""
    parents = {span.span_id: span.parent_id for span in spans}
    by_span = {call.span.span_id: call for call in calls}
    return [
        by_span[span.span_id]
        for span in in_order(call.span for call in calls)
        if not any(one in by_span for one in _ancestors(span.parent_id, parents))
    ]


def _ancestors(parent_id: str | None, parents: Mapping[str, str | None]) -> Iterator[str]:
    """Yield the ids of the spans above, the nearest first; a cycle ends where it closes."""
    seen: set[str] = set()
    while parent_id is not None and parent_id not in seen:
        yield parent_id
        seen.add(parent_id)
        parent_id = parents.get(parent_id)


def _generate(trace: TraceRecord, call: ModelCall) -> SpanRecord:
    found = _under(trace, Stage(span=call.span, name=SpanName.BEDROCK_GENERATE, attributes=call.attributes()))
    return replace(found, end_ns=max(found.end_ns, found.start_ns + 1_000_000 * (call.latency_ms or 0)))


def _under(trace: TraceRecord, stage: Stage) -> SpanRecord:
    span = stage.span
    start_ns, end_ns = stage.times or (span.start_ns, span.end_ns)
    identity = f"{trace.trace_id}/{stage.name}{stage.key}/{span.span_id}"
    status: SpanStatus = span.status if stage.failed is None else "ERROR" if stage.failed else "OK"
    return SpanRecord(
        span_id=hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:16],
        parent_id=span.span_id,
        name=stage.name,
        start_ns=start_ns,
        end_ns=end_ns,
        status=status,
        status_message=why_failed(span) if stage.failed is None else stage.why_failed,
        attributes=dict(stage.attributes),
    )


def why_failed(span: SpanRecord) -> str:
    """Return why a span failed: its status message, else what its last exception says."""
    if span.status != "ERROR" or span.status_message:
        return span.status_message
    for event in reversed(span.events):
        if event.name == "exception":
            kind, said = event.attributes.get("exception.type"), event.attributes.get("exception.message")
            return ": ".join(part for part in (kind, said) if isinstance(part, str) and part)
    return ""
