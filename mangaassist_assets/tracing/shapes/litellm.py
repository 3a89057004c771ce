"""Traces that LiteLLM logs, as a library or a proxy: spans `litellm-<call type>`.

Its MLflow callback writes inputs `{"messages": …, "user": …}`, the response in OpenAI's form as outputs, and attributes
`litellm_call_id`, `model`, `cache_hit`, `response_cost`, `request_tags` (LiteLLM, `integrations/mlflow.py`); request
tags of the form `name:value` become tags of the trace. Deployments that log the standard payload of the proxy have
`request_id`, `end_user`, `team_id`, `status`, `metadata` beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mangaassist_assets.tracing.names import Tag
from mangaassist_assets.tracing.records import SpanRecord, TraceRecord
from mangaassist_assets.tracing.redaction import is_pseudonym
from mangaassist_assets.tracing.shapes.building import (
    SESSION_METADATA,
    Converted,
    Findings,
    ModelCall,
    in_contract,
    in_order,
    named_values,
)
from mangaassist_assets.tracing.shapes.model_bodies import read_request, read_response
from mangaassist_assets.tracing.shapes.values import (
    first_count,
    first_name,
    first_number,
    first_text,
    mapping,
    name,
    sequence,
    truth,
)

PREFIX = "litellm-"
_MARK = "litellm_call_id"
_PROXY_MARKS = ("request_id", "team_id", "model")
_NOT_CHAT = ("embed", "rerank", "moderation", "image", "speech", "transcription")
_TOKEN_USAGE = "mlflow.chat.tokenUsage"  # noqa: S105
_SESSIONS = ("session_id", "litellm_session_id", "conversation_id")
_USERS = ("end_user", "user", "user_id", "user_api_key_end_user_id", "user_api_key_user_id")


def recognises(trace: TraceRecord) -> bool:
    """Return whether a span of the trace is one of LiteLLM's."""
    return any(_is_own(span) for span in trace.spans)


def convert(trace: TraceRecord) -> Converted:
    """Return the trace with `bedrock_generate` and tags as far as LiteLLM says."""
    spans = [span for span in in_order(trace.spans) if _is_own(span)]
    users = [value for span in spans for value in _said(span, *_USERS)]
    embedders = [span for span in spans if "embed" in _call_type(span)]
    return in_contract(
        "litellm",
        trace,
        Findings(
            calls=[_call(span) for span in spans if not any(word in _call_type(span) for word in _NOT_CHAT)],
            users=users,
            tags={
                Tag.SESSION_ID: [
                    *named_values(trace, SESSION_METADATA, "session.id"),
                    *(value for span in spans for value in _said(span, *_SESSIONS)),
                    # Shoppers without a session id are told apart by their key, never by a plain user id.
                    *(user for user in users if isinstance(user, str) and is_pseudonym(user)),
                ],
                Tag.RELEASE_BUNDLE: [
                    *named_values(trace, "release_bundle"),
                    *(value for span in spans for value in _said(span, "release_bundle")),
                ],
                Tag.TENANT: [
                    *named_values(trace, "tenant"),
                    *(value for span in spans for value in _said(span, "tenant", "team_id")),
                ],
                Tag.CACHE_HIT: [_cache_hit(span) for span in reversed(spans)],
                Tag.EMBEDDING_MODEL_ID: [span.attributes.get("model") for span in embedders],
            },
        ),
    )


def _is_own(span: SpanRecord) -> bool:
    return (
        span.name.startswith(PREFIX)
        or _MARK in span.attributes
        or all(mark in span.attributes for mark in _PROXY_MARKS)
    )


def _call_type(span: SpanRecord) -> str:
    return first_text(span.attributes.get("call_type")) or span.name.removeprefix(PREFIX)


def _call(span: SpanRecord) -> ModelCall:
    attributes, inputs, outputs = span.attributes, mapping(span.inputs), mapping(span.outputs)
    response = read_response(outputs or mapping(attributes.get("raw_llm_response")))
    parameters = read_request(mapping(attributes.get("model_parameters")) or inputs)
    usage = mapping(outputs.get("usage"))
    details = mapping(usage.get("prompt_tokens_details"))
    chat_usage = mapping(attributes.get(_TOKEN_USAGE))
    cache_read = first_count(response.cache_read_tokens, details.get("cached_tokens"))
    cache_write = first_count(response.cache_write_tokens, details.get("cache_creation_tokens"))
    whole = first_count(response.input_tokens, chat_usage.get("input_tokens"), attributes.get("prompt_tokens"))
    messages = read_request({"messages": inputs.get("messages", span.inputs if sequence(span.inputs) else None)})
    return ModelCall(
        span=span,
        message=messages.message,
        answer=response.answer,
        model_id=first_name(attributes.get("model"), attributes.get("mlflow.llm.model"), outputs.get("model")),
        temperature=parameters.temperature,
        max_tokens=parameters.max_tokens,
        # LiteLLM's prompt tokens are all of the prompt, in the cache or not.
        input_tokens=None if whole is None else max(0, whole - (cache_read or 0) - (cache_write or 0)),
        output_tokens=first_count(
            response.output_tokens, chat_usage.get("output_tokens"), attributes.get("completion_tokens")
        ),
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        stop_reason=name(response.stop_reason),
        reported_cost_usd=_cost(attributes),
    )


def _cost(attributes: Mapping[str, object]) -> float | None:
    found = first_number(*(attributes.get(key) for key in ("response_cost", "cost", "spend")))
    return found if found is not None and found >= 0 else None


def _cache_hit(span: SpanRecord) -> str | None:
    hit = truth(span.attributes.get("cache_hit"))
    return None if hit is None else str(hit).lower()


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
