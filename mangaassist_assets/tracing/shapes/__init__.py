"""Traces that other tools wrote, brought into the shape of the contract before it is checked.

One module a tool; each knows its own spans and nothing of the others. What a tool does not say stays absent: the
contract decides whether the trace can do without it.
"""

from __future__ import annotations

from mangaassist_assets.tracing.names import SpanName
from mangaassist_assets.tracing.records import TraceRecord
from mangaassist_assets.tracing.shapes import bedrock_autolog as bedrock_autolog
from mangaassist_assets.tracing.shapes import litellm as litellm
from mangaassist_assets.tracing.shapes import otel_genai as otel_genai
from mangaassist_assets.tracing.turns import TraceShape


def in_contract_shape(trace: TraceRecord) -> tuple[TraceShape, TraceRecord]:
    """Return who wrote the trace, and the trace with the spans, attributes and tags of the contract.

    A trace with a `chat_turn` span is ours, whoever wrote the spans below it: where it lacks `bedrock_generate`, that
    is filled from them. Never raises: what cannot be read is left out.
    """
    names = {span.name for span in trace.spans}
    ours = SpanName.CHAT_TURN in names
    if ours and SpanName.BEDROCK_GENERATE in names:
        return "mangaassist", trace
    # A proxy says more of a call than the client or the conventions below it: the order counts.
    if litellm.recognises(trace):
        return ("mangaassist" if ours else "litellm"), litellm.convert(trace)
    if bedrock_autolog.recognises(trace):
        return ("mangaassist" if ours else "bedrock_autolog"), bedrock_autolog.convert(trace)
    if otel_genai.recognises(trace):
        return ("mangaassist" if ours else "otel_genai"), otel_genai.convert(trace)
    return "mangaassist", trace
