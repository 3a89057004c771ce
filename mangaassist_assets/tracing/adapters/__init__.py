"""Traces that other tools wrote, brought into the shape of the contract before it is checked.

One module a tool; each knows its own spans and nothing of the others. What a tool does not say stays absent: the
contract decides whether the trace can do without it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from mangaassist_assets.tracing.adapters import bedrock_autolog, langchain, litellm, otel_genai
from mangaassist_assets.tracing.adapters.building import Converted as Converted
from mangaassist_assets.tracing.contract.names import SpanName
from mangaassist_assets.tracing.contract.records import TraceRecord

_CONTRACT_SPANS: frozenset[str] = frozenset(SpanName)


class _Adapter(Protocol):
    """What each module of this package offers."""

    def recognises(self, trace: TraceRecord) -> bool:
        """Return whether the tool wrote a span of the trace."""

    def convert(self, trace: TraceRecord) -> Converted:
        """Return the trace as far as the tool's spans describe a turn; never raises."""


# A proxy says more of a call than the client or the conventions below it, and the client says more than a framework
# around it: the order counts.
_ADAPTERS: tuple[_Adapter, ...] = (litellm, bedrock_autolog, langchain, otel_genai)


def in_contract_shape(trace: TraceRecord) -> Converted:
    """Return the trace with the spans, attributes and tags of the contract, and who wrote it.

    A trace with a span of the contract is ours, whoever wrote the spans below it: where it lacks `bedrock_generate`,
    that is filled from them; else only the tools that its models asked for are added. Of several tools that know the
    trace the first that finds a message counts. Never raises: what cannot be read is left out.
    """
    names = {span.name for span in trace.spans}
    ours = not names.isdisjoint(_CONTRACT_SPANS)
    best: Converted | None = None
    for adapter in _ADAPTERS:
        if adapter.recognises(trace):
            found = adapter.convert(trace)
            best = found if best is None or found.message is not None else best
            if best.message is not None:
                break
    if best is None:
        return Converted(shape="mangaassist", trace=trace)
    if ours and SpanName.BEDROCK_GENERATE in names:
        tools = [one for one in best.trace.spans if one.span_id in best.made and one.name == SpanName.TOOL_CALL]
        whole = replace(trace, spans=(*trace.spans, *tools)) if tools else trace
        return Converted(shape="mangaassist", trace=whole, made=frozenset(one.span_id for one in tools))
    return replace(best, shape="mangaassist") if ours else best
