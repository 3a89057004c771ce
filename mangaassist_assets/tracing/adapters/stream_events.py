"""What a model streamed, put together from the events of its span.

MLflow keeps each event of a Bedrock stream as a span event whose attribute `json` holds it: `contentBlockDelta` and
others of ConverseStream, or the provider's own chunks of InvokeModelWithResponseStream (Anthropic's have a `type`,
those of Titan, Nova, Llama and others are named `chunk`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mangaassist_assets.tracing.adapters.model_bodies import Response, read_response
from mangaassist_assets.tracing.adapters.tool_calls import ToolUse, tool_uses
from mangaassist_assets.tracing.contract.records import SpanEvent
from mangaassist_assets.tracing.contract.values import first_count, first_of, first_text, mapping, sequence, text

CHUNK_ATTRIBUTE = "json"
_UNNAMED_CHUNKS = ("outputText", "generation", "completion")


def streamed_response(events: Iterable[SpanEvent]) -> Response:
    """Return what the events of a stream add up to; an empty response where they are none of a stream."""
    texts: list[str] = []
    said: dict[str, Any] = {}
    for event in sorted(events, key=lambda event: event.timestamp_ns):
        chunk = mapping(event.attributes.get(CHUNK_ATTRIBUTE))
        if not chunk:
            continue
        if (piece := streamed_text(chunk)) is not None:
            texts.append(piece)
        # What the later event says counts.
        said |= _figures(chunk)
    return Response(**said, answer=text("".join(texts)))


def streamed_text(chunk: Mapping[str, object]) -> str | None:
    """Return the piece of answer that one event carries, blanks included, or None."""
    delta = mapping(chunk.get("delta")) or mapping(mapping(chunk.get("contentBlockDelta")).get("delta"))
    choice = mapping(mapping(first_of(chunk.get("choices"))).get("delta"))
    pieces = (
        delta.get("text"),
        choice.get("content"),
        *(chunk.get(key) for key in _UNNAMED_CHUNKS),
        mapping(first_of(chunk.get("outputs"))).get("text"),
    )
    return next((piece for piece in pieces if isinstance(piece, str)), None)


def streamed_tool_uses(events: Iterable[SpanEvent]) -> list[ToolUse]:
    """Return the tools that the events of a stream ask for: their arguments come in pieces, block by block.

    MLflow's own sum of a ConverseStream keeps only the last of them.
    """
    begun: dict[object, dict[str, object]] = {}
    pieces: dict[object, list[str]] = {}
    for event in sorted(events, key=lambda event: event.timestamp_ns):
        for block, start, piece in _tool_pieces(mapping(event.attributes.get(CHUNK_ATTRIBUTE))):
            begun.setdefault(block, {}).update(start)
            if isinstance(piece, str):
                pieces.setdefault(block, []).append(piece)
    calls = [{**call, "arguments": "".join(pieces.get(block, [])) or "{}"} for block, call in begun.items()]
    return tool_uses({"tool_calls": calls})


def _tool_pieces(chunk: Mapping[str, object]) -> Iterator[tuple[str, dict[str, object], object]]:
    """Yield block, id and name where they begin, and the piece of the arguments, for each tool of one event."""
    # Converse has an event for each kind; Nova's chunks have the kind as their key, Anthropic's as their `type`.
    begins = mapping(chunk.get("contentBlockStart")) or chunk
    goes_on = mapping(chunk.get("contentBlockDelta")) or chunk
    start = mapping(mapping(begins.get("start")).get("toolUse"))
    delta = mapping(goes_on.get("delta"))
    if start:
        yield f"{begins.get('contentBlockIndex')}", {"id": start.get("toolUseId"), "name": start.get("name")}, None
    if more := mapping(delta.get("toolUse")):
        yield f"{goes_on.get('contentBlockIndex')}", {}, more.get("input")
    block = mapping(chunk.get("content_block"))
    if block.get("type") == "tool_use":
        yield f"{chunk.get('index')}", {"id": block.get("id"), "name": block.get("name")}, None
    if delta.get("type") == "input_json_delta":
        yield f"{chunk.get('index')}", {}, delta.get("partial_json")
    for one in sequence(mapping(mapping(first_of(chunk.get("choices"))).get("delta")).get("tool_calls")):
        call = mapping(one)
        function = mapping(call.get("function"))
        given = {"id": call.get("id"), "name": function.get("name")}
        known = {key: value for key, value in given.items() if value is not None}
        yield f"{call.get('index')}", known, function.get("arguments")


def _figures(chunk: Mapping[str, object]) -> dict[str, Any]:
    inside = (mapping(chunk.get(key)) for key in ("message", "metadata", "messageStop"))
    parts = [read_response(one) for one in (chunk, *inside) if one]
    found = {
        "stop_reason": first_text(mapping(chunk.get("delta")).get("stop_reason"), *(one.stop_reason for one in parts)),
        "input_tokens": first_count(*(one.input_tokens for one in parts)),
        "output_tokens": first_count(chunk.get("totalOutputTextTokenCount"), *(one.output_tokens for one in parts)),
        "cache_read_tokens": first_count(*(one.cache_read_tokens for one in parts)),
        "cache_write_tokens": first_count(*(one.cache_write_tokens for one in parts)),
    }
    return {key: value for key, value in found.items() if value is not None}
