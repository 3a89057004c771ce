"""The calls of tools that a turn's agent made, with their arguments, outcomes and errors."""

from __future__ import annotations

from collections.abc import Mapping

from mangaassist_assets.tracing.adapters.building import why_failed
from mangaassist_assets.tracing.adapters.tool_calls import result_content
from mangaassist_assets.tracing.contract.names import SpanName
from mangaassist_assets.tracing.contract.records import SpanRecord
from mangaassist_assets.tracing.contract.turns import ToolCall
from mangaassist_assets.tracing.contract.values import decoded
from mangaassist_assets.tracing.reading.trace_view import FactReader
from mangaassist_assets.tracing.reading.turn_parts import Redact, as_text, own_name
from mangaassist_assets.tracing.reading.typed_values import name_of

_MOST = 50
_LONGEST, _LONGEST_ERROR = 2_000, 500
_FAILURES = frozenset({"error", "true"})


def tools_of(reader: FactReader, redacted: Redact) -> tuple[ToolCall, ...]:
    """Return the calls of tools, in the order they began."""
    spans = reader.view.by_stage.get(SpanName.TOOL_CALL, [])
    if len(spans) > _MOST:
        reader.note(f"tools: the first {_MOST} calls are kept")
    found = tuple(_tool(reader, span, redacted) for span in spans[:_MOST])
    without = sum(one.outcome == "no_result" for one in found)
    if without:
        reader.note(f"result: {without} of {len(found)} calls of tools have none in the trace")
    return found


def _tool(reader: FactReader, span: SpanRecord, redacted: Redact) -> ToolCall:
    failed = span.status == "ERROR" or reader.read("tool", "failed", _says_failed, span) is True
    error = reader.read("tool", "error", lambda value: as_text(value, redacted, _LONGEST_ERROR), span)
    result = reader.read("tool", "result", lambda value: _result(value, redacted), span)
    if failed and error is None:
        error = redacted(why_failed(span)[: 2 * _LONGEST_ERROR])[:_LONGEST_ERROR] or (result or "")[:_LONGEST_ERROR]
    return ToolCall(
        name=own_name(reader.read("tool", "name", name_of, span) or span.name, redacted),
        arguments=reader.read("tool", "arguments", lambda value: as_text(value, redacted, _LONGEST), span),
        result=result,
        failed=failed,
        error=error or None,
        # A call whose end is not known begins and ends where the model asked for it.
        duration_ms=(span.end_ns - span.start_ns) / 1_000_000 if span.end_ns > span.start_ns else None,
    )


def _says_failed(value: object) -> bool | None:
    """Return True for the words by which a tool says that it failed, None for any other: a status may be an order's."""
    return True if str(value).strip().lower() in _FAILURES else None


def _result(value: object, redacted: Redact) -> str | None:
    """Return a result as text; of a message that carries one, its content. An empty result is one, too."""
    inside = decoded(value)
    if isinstance(inside, Mapping) and "content" in inside and (inside.get("type") == "tool" or "isError" in inside):
        inside = result_content(inside["content"])
    if inside in ("", {}, []):
        return str(inside)
    return as_text(inside, redacted, _LONGEST)
