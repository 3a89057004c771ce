"""Traces of MLflow's Bedrock autologging: one span `BedrockRuntime.<operation>` a call of boto3.

Inputs are the keyword arguments of the call, outputs its result; what a stream delivered is in the span's events
(MLflow, package `mlflow.bedrock`). Bodies of `invoke_model` have the form of the model's provider (Amazon Bedrock
User Guide, "Inference request parameters and response fields for foundation models").
"""

from __future__ import annotations

from collections.abc import Mapping

from mangaassist_assets.tracing.adapters.building import (
    SESSION_METADATA,
    TOKEN_USAGE,
    Converted,
    Findings,
    ModelCall,
    Stage,
    given,
    in_contract,
    in_order,
    named_values,
    without_cache,
)
from mangaassist_assets.tracing.adapters.model_bodies import Response, read_request, read_response
from mangaassist_assets.tracing.adapters.stream_events import streamed_response, streamed_tool_uses
from mangaassist_assets.tracing.adapters.tool_calls import Exchange, tool_results, tool_stages, tool_uses
from mangaassist_assets.tracing.contract.names import Attribute, SpanName, Tag
from mangaassist_assets.tracing.contract.records import SpanRecord, TraceRecord
from mangaassist_assets.tracing.contract.values import count, first_count, mapping, name, text

PREFIX = "BedrockRuntime."
_MODEL = "mlflow.llm.model"
_INTERVENED = "guardrail_intervened"


def recognises(trace: TraceRecord) -> bool:
    """Return whether a span of the trace is one of Bedrock autologging."""
    return any(span.name.startswith(PREFIX) for span in trace.spans)


def convert(trace: TraceRecord) -> Converted:
    """Return the trace with `bedrock_generate`, `tool_call`, `embed_query`, `guardrails` and tags as far as it says."""
    spans = [span for span in in_order(trace.spans) if span.name.startswith(PREFIX)]
    calls = [call for span in spans if (call := _call(span)) is not None]
    embeddings = [span for span in spans if _does_embed(span)]
    # The Converse operations take metadata of one's own.
    sent = [mapping(mapping(span.inputs).get("requestMetadata")) for span in spans]
    stages = [
        Stage(span=span, name=SpanName.EMBED_QUERY, attributes={str(Attribute.EMBEDDING_MODEL_ID): model})
        for span in embeddings
        if (model := _model_id(span)) is not None
    ]
    guarded = [stage for span in spans if (stage := _guardrails(span)) is not None]
    return in_contract(
        "bedrock_autolog",
        trace,
        Findings(
            calls=calls,
            stages=[*stages, *guarded, *tool_stages([_exchange(call.span) for call in calls])],
            tags={
                Tag.SESSION_ID: [
                    *named_values(trace, SESSION_METADATA, "session.id", "session_id"),
                    *(one.get("session_id") for one in sent),
                ],
                Tag.RELEASE_BUNDLE: [
                    *named_values(trace, "release_bundle"),
                    *(one.get("release_bundle") for one in sent),
                ],
                Tag.EMBEDDING_MODEL_ID: [_model_id(span) for span in embeddings],
                Tag.GUARDRAIL_RULESET_VERSION: [one.attributes.get(Attribute.RULESET_VERSION) for one in guarded],
            },
        ),
    )


def _call(span: SpanRecord) -> ModelCall | None:
    """Return the call of a language model that a span describes; None for embeddings and rerankers."""
    model_id = _model_id(span)
    if _does_embed(span) or (model_id is not None and "rerank" in model_id):
        return None
    request, response = read_request(_body(span.inputs)), _response(span)
    usage = mapping(span.attributes.get(TOKEN_USAGE))
    cache_read = first_count(response.cache_read_tokens, usage.get("cache_read_input_tokens"))
    cache_write = first_count(response.cache_write_tokens, usage.get("cache_creation_input_tokens"))
    # MLflow adds the cache's tokens to what Bedrock reports without them.
    summed = without_cache(count(usage.get("input_tokens")), cache_read, cache_write)
    return ModelCall(
        span=span,
        message=request.message,
        answer=response.answer,
        model_id=model_id,
        temperature=request.temperature,
        max_tokens=request.max_tokens,
        input_tokens=first_count(response.input_tokens, summed),
        output_tokens=first_count(response.output_tokens, usage.get("output_tokens")),
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        stop_reason=name(response.stop_reason),
    )


def _exchange(span: SpanRecord) -> Exchange:
    uses = streamed_tool_uses(span.events) or tool_uses(_body(span.outputs))
    return Exchange(span=span, uses=uses, results=tool_results(_body(span.inputs).get("messages")))


def _model_id(span: SpanRecord) -> str | None:
    return name(mapping(span.inputs).get("modelId")) or name(span.attributes.get(_MODEL))


def _does_embed(span: SpanRecord) -> bool:
    model_id = _model_id(span) or ""
    return span.span_type == "EMBEDDING" or "embed" in model_id


def _response(span: SpanRecord) -> Response:
    body = _body(span.outputs)
    return read_response(body) if body else streamed_response(span.events)


def _body(said: object) -> Mapping[str, object]:
    """Return what a call sent or got: `invoke_model` has the model's own form in `body`, Converse is its own."""
    call = mapping(said)
    return mapping(call["body"]) if "body" in call else call


def _guardrails(span: SpanRecord) -> Stage | None:
    inputs, outputs = mapping(span.inputs), mapping(span.outputs)
    configured = mapping(inputs.get("guardrailConfig")) or inputs
    identifier = text(configured.get("guardrailIdentifier"))
    response = _response(span)
    action = mapping(outputs.get("body")).get("amazon-bedrock-guardrailAction")
    blocked = response.stop_reason == _INTERVENED or action == "INTERVENED"
    if identifier is None and not blocked:
        return None
    version = configured.get("guardrailVersion")
    ruleset = name(identifier if text(version) is None else f"{identifier}:{version}")
    attributes = {
        Attribute.BLOCKED: blocked,
        Attribute.RULESET_VERSION: None if identifier is None else ruleset,
        Attribute.REASONS: [_INTERVENED] if blocked else None,
    }
    return Stage(span=span, name=SpanName.GUARDRAILS, attributes=given(attributes))
