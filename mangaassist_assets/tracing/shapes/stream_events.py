"""What a model streamed, put together from the events of its span.

MLflow keeps each event of a Bedrock stream as a span event whose attribute `json` holds it: `contentBlockDelta` and
others of ConverseStream, or the provider's own chunks of InvokeModelWithResponseStream (Anthropic's have a `type`,
those of Titan, Nova, Llama and others are named `chunk`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mangaassist_assets.tracing.records import SpanEvent
from mangaassist_assets.tracing.shapes.model_bodies import Response, read_response
from mangaassist_assets.tracing.shapes.values import first_count, first_of, first_text, mapping, text

CHUNK_ATTRIBUTE = "json"
_UNNAMED_CHUNKS = ("outputText", "generation", "completion")


def streamed_response(events: Iterable[SpanEvent]) -> Response:
    """Return what the events of a stream add up to; an empty response where they are none of a stream."""
    texts: list[str] = []
    said = Response()
    for event in sorted(events, key=lambda event: event.timestamp_ns):
        chunk = mapping(event.attributes.get(CHUNK_ATTRIBUTE))
        if not chunk:
            continue
        if (piece := streamed_text(chunk)) is not None:
            texts.append(piece)
        said = _later(said, _told(chunk))
    answer = text("".join(texts))
    return _with_answer(said, answer)


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


def _told(chunk: Mapping[str, object]) -> Response:
    """Return stop reason and tokens that one event tells, wherever its form has them."""
    inner = mapping(chunk.get("message"))
    metadata = mapping(chunk.get("metadata"))
    delta = mapping(chunk.get("delta"))
    parts = [read_response(one) for one in (chunk, inner, metadata, mapping(chunk.get("messageStop"))) if one]
    return Response(
        stop_reason=first_text(delta.get("stop_reason"), *(part.stop_reason for part in parts)),
        input_tokens=first_count(*(part.input_tokens for part in parts)),
        output_tokens=first_count(chunk.get("totalOutputTextTokenCount"), *(part.output_tokens for part in parts)),
        cache_read_tokens=first_count(*(part.cache_read_tokens for part in parts)),
        cache_write_tokens=first_count(*(part.cache_write_tokens for part in parts)),
    )


def _later(before: Response, after: Response) -> Response:
    """Return both together; what the later event says counts."""
    return Response(
        stop_reason=first_text(after.stop_reason, before.stop_reason),
        input_tokens=first_count(after.input_tokens, before.input_tokens),
        output_tokens=first_count(after.output_tokens, before.output_tokens),
        cache_read_tokens=first_count(after.cache_read_tokens, before.cache_read_tokens),
        cache_write_tokens=first_count(after.cache_write_tokens, before.cache_write_tokens),
    )


def _with_answer(said: Response, answer: str | None) -> Response:
    return Response(
        answer=answer,
        stop_reason=said.stop_reason,
        input_tokens=said.input_tokens,
        output_tokens=said.output_tokens,
        cache_read_tokens=said.cache_read_tokens,
        cache_write_tokens=said.cache_write_tokens,
    )
