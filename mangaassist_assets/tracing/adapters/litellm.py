"""Traces that LiteLLM logs, as a library or a proxy: spans `litellm-<call type>`.

Its MLflow callback writes inputs `{"messages": …, "user": …}`, the response in OpenAI's form as outputs, and attributes
`litellm_call_id`, `model`, `cache_hit`, `response_cost`, `request_tags` (LiteLLM, `integrations/mlflow.py`); request
tags of the form `name:value` become tags of the trace. Deployments that log the standard payload of the proxy have
`request_id`, `end_user`, `team_id`, `status`, `metadata` beside them. Others write the proxy's facts as tags of the
trace (`request_id`, `team_id`, `model`, `status`, `cache_hit`), above a call with any name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mangaassist_assets.privacy import is_pseudonym
from mangaassist_assets.tracing.adapters.building import (
    SESSION_METADATA,
    TOKEN_USAGE,
    Converted,
    Findings,
    ModelCall,
    in_contract,
    in_order,
    named_values,
    without_cache,
)
from mangaassist_assets.tracing.adapters.model_bodies import read_request, read_response
from mangaassist_assets.tracing.adapters.tool_calls import Exchange, tool_results, tool_stages, tool_uses
from mangaassist_assets.tracing.contract.names import Tag
from mangaassist_assets.tracing.contract.records import SpanRecord, TraceRecord
from mangaassist_assets.tracing.contract.values import (
    decoded,
    first_count,
    first_name,
    first_number,
    first_text,
    mapping,
    message_text,
    name,
    sequence,
    text,
)

PREFIX = "litellm-"
_MARK = "litellm_call_id"
_PROXY_MARKS = ("request_id", "team_id", "model")
_FACTS = frozenset({"request_id", "team_id", "model", "status", "cache_hit"})
_NOT_CHAT = ("embed", "rerank", "moderation", "image", "speech", "transcription")
_MODEL_TYPES = ("LLM", "CHAT_MODEL")
_OTHER_TOOLS = ("BedrockRuntime.", "gen_ai.")
_LONGEST_CALL_MS = 86_400_000
_SESSIONS = ("session_id", "litellm_session_id", "conversation_id")
_USERS = ("end_user", "user", "user_id", "user_api_key_end_user_id", "user_api_key_user_id")
_TEAMS = ("team_id", "user_api_key_team_id")
_HIT = frozenset({"true", "1", "yes", "hit"})
_MISS = frozenset({"false", "0", "no", "miss", "none", "null", ""})
_FAILED = frozenset({"failure", "failed", "fail", "error"})


def recognises(trace: TraceRecord) -> bool:
    """Return whether a span of the trace is one of LiteLLM's, or is a call that its tags say was the proxy's."""
    return bool(_own_spans(trace))


def convert(trace: TraceRecord) -> Converted:
    """Return the trace with `bedrock_generate`, `tool_call` and tags as far as LiteLLM says."""
    spans = _own_spans(trace)
    chats = [span for span in spans if not any(word in _call_type(span) for word in _NOT_CHAT)]

    def said(*keys: str) -> list[object]:
        return [value for span in spans for value in _said(span, *keys)]

    users = said(*_USERS)
    embedders = [span for span in spans if "embed" in _call_type(span)]
    # The tags of the trace describe a call only where there is one.
    more = trace.tags if len(chats) == 1 else {}
    return in_contract(
        "litellm",
        trace,
        Findings(
            calls=[_call(span, more, trace.tags) for span in chats],
            stages=tool_stages([_exchange(span) for span in chats]),
            failure=_failure(trace, chats),
            users=users,
            tags={
                Tag.SESSION_ID: [
                    *named_values(trace, SESSION_METADATA, "session.id"),
                    *said(*_SESSIONS),
                    # Shoppers without a session id are distinguished by their key, never by a plain user id.
                    *(user for user in users if isinstance(user, str) and is_pseudonym(user)),
                ],
                Tag.RELEASE_BUNDLE: [*named_values(trace, "release_bundle"), *said("release_bundle")],
                Tag.TENANT: [*named_values(trace, "tenant"), *said("tenant", *_TEAMS)],
                "team_id": said(*_TEAMS),
                Tag.CACHE_HIT: [str(hit).lower() for span in reversed(chats) if (hit := _cache_hit(span)) is not None],
                Tag.EMBEDDING_MODEL_ID: [span.attributes.get("model") for span in embedders],
            },
        ),
    )


def _own_spans(trace: TraceRecord) -> list[SpanRecord]:
    found = [span for span in in_order(trace.spans) if _is_own(span, trace.tags)]
    # The only span of a trace with most of the proxy's facts on its tags is the call, whatever its form.
    if found or len(trace.spans) != 1 or len(_FACTS & trace.tags.keys()) < 3:
        return found
    return [span for span in trace.spans if not _is_of_another_tool(span)]


def _is_of_another_tool(span: SpanRecord) -> bool:
    return any(key.startswith(_OTHER_TOOLS) for key in (span.name, *span.attributes))


def _is_own(span: SpanRecord, tags: Mapping[str, str]) -> bool:
    return (
        span.name.startswith(PREFIX)
        or _MARK in span.attributes
        or all(mark in span.attributes for mark in _PROXY_MARKS)
        or (len(_FACTS & (tags.keys() | span.attributes.keys())) > 1 and _has_form_of_a_call(span))
    )


def _has_form_of_a_call(span: SpanRecord) -> bool:
    """Return whether a span of any name is a call in OpenAI's form: choices, its count of tokens, or messages."""
    if _is_of_another_tool(span):
        return False
    inputs, outputs = mapping(span.inputs), mapping(span.outputs)
    counted = {"prompt_tokens", "completion_tokens"} & (mapping(outputs.get("usage")).keys() | span.attributes.keys())
    asked = message_text(inputs.get("messages"), "user") is not None
    return bool(
        sequence(outputs.get("choices"))
        or (asked and (counted or not span.outputs or span.span_type in _MODEL_TYPES))
        or (counted and span.span_type in _MODEL_TYPES)
    )


def _call_type(span: SpanRecord) -> str:
    return first_text(span.attributes.get("call_type")) or span.name.removeprefix(PREFIX)


def _call(span: SpanRecord, more: Mapping[str, object], tags: Mapping[str, str]) -> ModelCall:
    """Return the call of a span; `more` is what else is said of it, where the span itself says nothing."""
    attributes = {**more, **{key: value for key, value in span.attributes.items() if value is not None}}
    inputs, outputs = mapping(span.inputs), mapping(span.outputs)
    response = read_response(_response(span) or mapping(more.get("raw_llm_response")))
    parameters = read_request(mapping(attributes.get("model_parameters")) or inputs)
    details = mapping(mapping(outputs.get("usage")).get("prompt_tokens_details"))
    chat_usage, usage = mapping(attributes.get(TOKEN_USAGE)), mapping(attributes.get("usage"))
    cache_read = first_count(response.cache_read_tokens, details.get("cached_tokens"))
    cache_write = first_count(response.cache_write_tokens, details.get("cache_creation_tokens"))
    whole = first_count(
        response.input_tokens,
        chat_usage.get("input_tokens"),
        attributes.get("prompt_tokens"),
        usage.get("prompt_tokens"),
    )
    messages = read_request({"messages": _messages(span)})
    hit = _cache_hit(span)
    return ModelCall(
        span=span,
        message=messages.message,
        answer=response.answer,
        model_id=first_name(attributes.get("model"), attributes.get("mlflow.llm.model"), outputs.get("model")),
        temperature=parameters.temperature,
        max_tokens=parameters.max_tokens,
        # LiteLLM's prompt tokens are all of the prompt, in the cache or not.
        input_tokens=without_cache(whole, cache_read, cache_write),
        output_tokens=first_count(
            response.output_tokens,
            chat_usage.get("output_tokens"),
            attributes.get("completion_tokens"),
            usage.get("completion_tokens"),
        ),
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        stop_reason=name(response.stop_reason),
        latency_ms=_latency(attributes.get("latency_ms")),
        reported_cost_usd=_cost(attributes, is_hit=_is_hit(tags.get("cache_hit")) if hit is None else hit),
    )


def _response(span: SpanRecord) -> Mapping[str, object]:
    return mapping(span.outputs) or mapping(span.attributes.get("raw_llm_response"))


def _messages(span: SpanRecord) -> object:
    return mapping(span.inputs).get("messages", span.inputs if sequence(span.inputs) else None)


def _exchange(span: SpanRecord) -> Exchange:
    return Exchange(span=span, uses=tool_uses(_response(span)), results=tool_results(_messages(span)))


def _latency(value: object) -> int | None:
    found = first_number(value)
    return round(found) if found is not None and 0 <= found <= _LONGEST_CALL_MS else None


def _cost(attributes: Mapping[str, object], *, is_hit: bool | None) -> float | None:
    """Return what the proxy charged; an answer from its cache costs nothing unless it says otherwise."""
    found = first_number(*(attributes.get(key) for key in ("response_cost", "cost", "spend")))
    if found is None:
        return 0.0 if is_hit else None
    return found if found >= 0 else None


def _cache_hit(span: SpanRecord) -> bool | None:
    """Return whether a span says that its answer came from the cache: a null is LiteLLM's word for a miss."""
    for place in (span.attributes, mapping(span.attributes.get("metadata"))):
        if "cache_hit" in place:
            return bool(_is_hit(place["cache_hit"]))
    return None


def _is_hit(value: object) -> bool | None:
    word = str(decoded(value)).strip().lower()
    return True if word in _HIT else False if word in _MISS else None


def _failure(trace: TraceRecord, chats: Sequence[SpanRecord]) -> str | None:
    last = chats[-1] if chats else None
    attributes = {} if last is None else last.attributes
    metadata = mapping(attributes.get("metadata"))
    said = (trace.tags.get("status"), attributes.get("status"), metadata.get("status"))
    status = first_text(*said)
    if status is None or status.strip().lower() not in _FAILED:
        return None
    information = mapping(attributes.get("error_information") or metadata.get("error_information"))
    reasons = [information.get(key) for key in ("error_class", "error_message")]
    why = ": ".join(reason for reason in reasons if isinstance(reason, str) and reason)
    return why or text(attributes.get("error_str")) or f"the proxy reports the status {status.strip().lower()}"


def _said(span: SpanRecord, *keys: str) -> Iterator[object]:
    """Yield what a request says under these names: attributes, metadata of request and key, tags, inputs."""
    metadata = mapping(span.attributes.get("metadata"))
    places = (
        span.attributes,
        metadata,
        mapping(metadata.get("requester_metadata")),
        mapping(metadata.get("spend_logs_metadata")),
        mapping(mapping(span.inputs).get("metadata")),
        mapping(span.inputs),
    )
    for place in places:
        for key in keys:
            if (value := place.get(key)) is not None:
                yield value
    tags = [*sequence(span.attributes.get("request_tags")), *sequence(metadata.get("tags"))]
    for tag in tags:
        if isinstance(tag, str):
            key, colon, value = tag.partition(":")
            if colon and key.strip() in keys:
                yield value.strip()
