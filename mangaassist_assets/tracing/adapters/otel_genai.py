"""Spans by OpenTelemetry's semantic conventions for generative AI (attributes `gen_ai.*`).

Three generations of them are in use: messages as JSON in `gen_ai.input.messages` and `gen_ai.output.messages` (on
the span, or on the event `gen_ai.client.inference.operation.details`); one event a message (`gen_ai.user.message`,
`gen_ai.choice`); and `gen_ai.prompt` with `gen_ai.completion`, as one JSON or numbered (`gen_ai.prompt.0.content`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mangaassist_assets.tracing.adapters.building import (
    SESSION_METADATA,
    Converted,
    Findings,
    ModelCall,
    Stage,
    given,
    in_contract,
    in_order,
    named_values,
)
from mangaassist_assets.tracing.adapters.tool_calls import Exchange, tool_results, tool_stages, uses_of_message
from mangaassist_assets.tracing.contract.names import Attribute, SpanName, Tag
from mangaassist_assets.tracing.contract.records import SpanRecord, TraceRecord
from mangaassist_assets.tracing.contract.values import (
    content_text,
    decoded,
    first_count,
    first_name,
    first_number,
    first_of,
    first_text,
    mapping,
    message_text,
    name,
    number,
    sequence,
)

_OPERATION = "gen_ai.operation.name"
_MARKS = (_OPERATION, "gen_ai.system", "gen_ai.provider.name", "gen_ai.request.model")
_MODEL_CALLS = frozenset({"chat", "generate_content", "text_completion", "response"})
_EMBEDDINGS = "embeddings"
_TOOLS = "execute_tool"
# OpenLLMetry's words for a function that an application traced.
_SPAN_KIND = "traceloop.span.kind"
_ENTITY = "traceloop.entity"
_RETRIEVALS = frozenset({"retrieval", "search"})
_DETAILS_EVENT = "gen_ai.client.inference.operation.details"
_NUMBERED = re.compile(r"gen_ai\.(?P<side>prompt|completion)\.(?P<index>[0-9]{1,4})\.(?P<field>role|content)")
# ARNs that stand for some model: only the answer says which.
_TELLS_NO_MODEL = re.compile(r":(?:application-inference-profile|(?:default-)?prompt-router)/")
RESOURCE_PREFIX = "resource."


def recognises(trace: TraceRecord) -> bool:
    """Return whether a span of the trace follows the conventions."""
    return any(mark in span.attributes for span in trace.spans for mark in _MARKS)


def convert(trace: TraceRecord) -> Converted:
    """Return the trace with `bedrock_generate`, `tool_call`, `embed_query`, `retrieve_chunks` and tags."""
    spans = in_order(trace.spans)
    embeddings = [span for span in spans if _operation(span) == _EMBEDDINGS]
    models = [_model(span) for span in embeddings]
    embedded = [
        Stage(span=span, name=SpanName.EMBED_QUERY, attributes=given({Attribute.EMBEDDING_MODEL_ID: model}))
        for span, model in zip(embeddings, models, strict=True)
        if model is not None
    ]
    retrieved = [_retrieval(span) for span in spans if _operation(span) in _RETRIEVALS]
    tools = [_tool(span) for span in spans if _is_tool(span)]
    calls = [span for span in spans if _is_model_call(span)]
    bundle_names = ("release_bundle", f"{RESOURCE_PREFIX}release_bundle")
    return in_contract(
        "otel_genai",
        trace,
        Findings(
            calls=[_call(span) for span in calls],
            # Where tools have spans of their own, what models asked for is in those.
            stages=[*embedded, *retrieved, *(tools or tool_stages([_exchange(span) for span in calls]))],
            users=named_values(trace, "user.id", "enduser.id"),
            tags={
                Tag.SESSION_ID: named_values(trace, SESSION_METADATA, "gen_ai.conversation.id", "session.id"),
                Tag.RELEASE_BUNDLE: named_values(trace, *bundle_names),
                Tag.EMBEDDING_MODEL_ID: models,
            },
        ),
    )


def _operation(span: SpanRecord) -> str:
    return (first_text(span.attributes.get(_OPERATION)) or "").lower()


def _is_model_call(span: SpanRecord) -> bool:
    if _OPERATION in span.attributes:
        return _operation(span) in _MODEL_CALLS
    return "gen_ai.request.model" in span.attributes or "gen_ai.system" in span.attributes


def _model(span: SpanRecord) -> str | None:
    # What was asked for is the id that prices and manifests know; what answered may be a name of the provider's own.
    asked, answered = span.attributes.get("gen_ai.request.model"), span.attributes.get("gen_ai.response.model")
    if _TELLS_NO_MODEL.search(str(asked)):
        asked, answered = answered, asked
    return first_name(asked, answered)


def _call(span: SpanRecord) -> ModelCall:
    data = span.attributes
    cache_read = first_count(data.get("gen_ai.usage.cache_read.input_tokens"))
    cache_write = first_count(
        data.get("gen_ai.usage.cache_creation.input_tokens"), data.get("gen_ai.usage.cache_write.input_tokens")
    )
    whole = first_count(data.get("gen_ai.usage.input_tokens"), data.get("gen_ai.usage.prompt_tokens"))
    cached = (cache_read or 0) + (cache_write or 0)
    if whole is not None and whole >= cached:
        # The conventions count the cache's tokens as input; a writer whose count is smaller does not.
        whole -= cached
    return ModelCall(
        span=span,
        message=_message(span),
        answer=_answer(span),
        model_id=_model(span),
        temperature=first_number(data.get("gen_ai.request.temperature")),
        max_tokens=first_count(data.get("gen_ai.request.max_tokens")),
        input_tokens=whole,
        output_tokens=first_count(data.get("gen_ai.usage.output_tokens"), data.get("gen_ai.usage.completion_tokens")),
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        stop_reason=_stop_reason(span),
        reported_cost_usd=_cost(data),
    )


def _is_tool(span: SpanRecord) -> bool:
    return _operation(span) == _TOOLS or span.attributes.get(_SPAN_KIND) == "tool"


def _tool(span: SpanRecord) -> Stage:
    """Return the call of a tool as its own span has it; OpenLLMetry has other words for its parts."""
    said = span.attributes
    found = {
        Attribute.TOOL_CALL_ID: first_name(said.get("gen_ai.tool.call.id")),
        Attribute.TOOL_NAME: first_name(
            said.get("gen_ai.tool.name"), said.get(f"{_ENTITY}.name"), span.name.removeprefix(f"{_TOOLS} ")
        ),
        Attribute.TOOL_ARGUMENTS: said.get("gen_ai.tool.call.arguments", said.get(f"{_ENTITY}.input")),
        Attribute.TOOL_RESULT: said.get("gen_ai.tool.call.result", said.get(f"{_ENTITY}.output")),
    }
    return Stage(
        span=span,
        name=SpanName.TOOL_CALL,
        attributes=given(found),
    )


def _exchange(span: SpanRecord) -> Exchange:
    data = _data(span)
    answers = [mapping(one) for said in data for one in sequence(said.get("gen_ai.output.messages"))]
    brought = [tool_results(said.get("gen_ai.input.messages")) for said in data]
    return Exchange(
        span=span,
        uses=[use for answer in answers for use in uses_of_message(answer)],
        results={use_id: result for one in brought for use_id, result in one.items()},
    )


def _cost(data: Mapping[str, object]) -> float | None:
    # Not of the conventions: LiteLLM's OpenTelemetry callback reports what it charged there.
    found = first_number(data.get("gen_ai.cost.total_cost"))
    return found if found is not None and found >= 0 else None


def _message(span: SpanRecord) -> str | None:
    found = [message_text(data.get("gen_ai.input.messages"), "user") for data in _data(span)]
    said = [content_text(decoded(_event_body(one).get("content"))) for one in _events(span, "gen_ai.user.message")]
    return first_text(
        *found,
        *reversed(said),
        _numbered(span, "prompt", "user"),
        *(
            _plain(data.get("gen_ai.prompt"), "user")
            for data in (span.attributes, *_events(span, "gen_ai.content.prompt"))
        ),
    )


def _answer(span: SpanRecord) -> str | None:
    found = [message_text(data.get("gen_ai.output.messages"), "assistant") for data in _data(span)]
    said = [_choice_text(_event_body(one)) for one in _events(span, "gen_ai.choice")]
    return first_text(
        *found,
        *said,
        _numbered(span, "completion", "assistant"),
        *(
            _plain(data.get("gen_ai.completion"), "assistant")
            for data in (span.attributes, *_events(span, "gen_ai.content.completion"))
        ),
    )


def _events(span: SpanRecord, kind: str) -> list[Mapping[str, object]]:
    return [event.attributes for event in span.events if event.name == kind]


def _data(span: SpanRecord) -> list[Mapping[str, object]]:
    return [span.attributes, *_events(span, _DETAILS_EVENT)]


def _event_body(data: Mapping[str, object]) -> Mapping[str, object]:
    return mapping(data.get("body")) or data


def _choice_text(body: Mapping[str, object]) -> str | None:
    message = mapping(body.get("message"))
    return first_text(
        content_text(decoded(message.get("content"))),
        content_text(decoded(body.get("content"))),
        body.get("message") if not message else None,
    )


def _plain(value: object, role: str) -> str | None:
    return first_text(message_text(value, role), value if isinstance(decoded(value), str) else None)


def _numbered(span: SpanRecord, side: str, role: str) -> str | None:
    """Return the text of the last numbered entry of a role; a completion without a role is the assistant's."""
    entries: dict[int, dict[str, object]] = {}
    for key, value in span.attributes.items():
        match = _NUMBERED.fullmatch(key)
        if match and match["side"] == side:
            entries.setdefault(int(match["index"]), {})[match["field"]] = value
    texts = [
        content_text(decoded(entry.get("content")))
        for _, entry in sorted(entries.items())
        if entry.get("role", "assistant" if side == "completion" else None) == role
    ]
    return first_text(*reversed(texts))


def _stop_reason(span: SpanRecord) -> str | None:
    choices = [_event_body(one) for one in _events(span, "gen_ai.choice")]
    outputs = [mapping(first_of(data.get("gen_ai.output.messages"))).get("finish_reason") for data in _data(span)]
    return first_name(
        first_of(span.attributes.get("gen_ai.response.finish_reasons")),
        *outputs,
        *(choice.get("finish_reason") for choice in choices),
        span.attributes.get("gen_ai.completion.0.finish_reason"),
    )


def _retrieval(span: SpanRecord) -> Stage:
    documents = [mapping(one) for one in sequence(span.attributes.get("gen_ai.retrieval.documents"))]
    identifiers = [name(one.get("id")) for one in documents]
    scores = [number(one.get("score")) for one in documents]
    attributes: dict[Attribute, object] = {}
    if documents and all(identifiers):
        attributes = {
            Attribute.CANDIDATE_IDS: identifiers,
            Attribute.DOCUMENT_IDS: identifiers,
            Attribute.CANDIDATE_COUNT: len(identifiers),
            Attribute.RETRIEVAL_SCORES: None if None in scores else scores,
        }
    elif "gen_ai.retrieval.documents" in span.attributes and not documents:
        attributes = {Attribute.CANDIDATE_COUNT: 0}
    return Stage(span=span, name=SpanName.RETRIEVE_CHUNKS, attributes=given(attributes))
