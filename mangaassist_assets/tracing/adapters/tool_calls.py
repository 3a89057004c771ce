"""Calls of tools: what a model asked for in its answers, and the results that later requests brought it.

Converse and Nova (`toolUse`, `toolResult`: Amazon Bedrock User Guide, "Use a tool to complete an Amazon Bedrock model
response"), Anthropic (`tool_use`, `tool_result`), the OpenAI form (`tool_calls`, messages of role `tool`), Cohere's
(`tool_calls` with `parameters`) and that of OpenTelemetry's message parts (`tool_call`, `tool_call_response`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mangaassist_assets.tracing.adapters.building import Stage, given
from mangaassist_assets.tracing.contract.names import Attribute, SpanName
from mangaassist_assets.tracing.contract.records import SpanRecord
from mangaassist_assets.tracing.contract.values import content_text, decoded, first_name, first_of, mapping, sequence

_FAILED = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """A model's wish to call a tool; `use_id` is None where the provider gives none."""

    use_id: str | None
    name: str
    arguments: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What a tool gave back, as the model was given it."""

    content: object = None
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One call of a model: the tools its answer asked for, and the results that its request brought, by their id."""

    span: SpanRecord
    uses: Sequence[ToolUse] = ()
    results: Mapping[str, ToolResult] = field(default_factory=dict)


def tool_uses(response: Mapping[str, object]) -> list[ToolUse]:
    """Return the tools that the body of a response asks for, in its order."""
    choice = mapping(first_of(response.get("choices")))
    messages = (
        mapping(mapping(response.get("output")).get("message")),
        mapping(response.get("message")),
        mapping(choice.get("message")),
        response,
    )
    # A body that says the same twice, in blocks and as `tool_calls`, asks once.
    asked: dict[object, ToolUse] = {}
    for message in messages:
        for use in uses_of_message(message):
            asked.setdefault(use.use_id or len(asked), use)
    return list(asked.values())


def uses_of_message(message: Mapping[str, object]) -> Iterator[ToolUse]:
    """Yield the tools that one message of the assistant asks for."""
    blocks = [mapping(one) for key in ("content", "parts") for one in sequence(message.get(key))]
    for block in blocks:
        if use := mapping(block.get("toolUse")):
            yield from _use(use.get("toolUseId"), use.get("name"), use.get("input"))
        elif block.get("type") == "tool_use":
            yield from _use(block.get("id"), block.get("name"), block.get("input"))
        elif block.get("type") == "tool_call":
            yield from _use(block.get("id"), block.get("name"), block.get("arguments"))
    for one in sequence(message.get("tool_calls")):
        call = mapping(one)
        said = mapping(call.get("function")) or call
        arguments = next((said[key] for key in ("arguments", "args", "parameters") if key in said), None)
        yield from _use(call.get("id"), said.get("name"), arguments)


def _use(use_id: object, called: object, arguments: object) -> Iterator[ToolUse]:
    found = first_name(called)
    if found is not None:
        yield ToolUse(use_id=first_name(use_id), name=found, arguments=decoded(arguments))


def tool_results(messages: object) -> dict[str, ToolResult]:
    """Return the results that the messages of a request bring, by the id of their use; the last of each counts."""
    found: dict[str, ToolResult] = {}
    for message in map(mapping, sequence(messages)):
        brought: list[tuple[object, object, bool]] = []
        if message.get("role") == "tool":
            brought.append((message.get("tool_call_id"), message.get("content"), message.get("status") == _FAILED))
        for block in (mapping(one) for key in ("content", "parts") for one in sequence(message.get(key))):
            if result := mapping(block.get("toolResult")):
                brought.append((result.get("toolUseId"), result.get("content"), result.get("status") == _FAILED))
            elif block.get("type") == "tool_result":
                brought.append((block.get("tool_use_id"), block.get("content"), block.get("is_error") is True))
            elif block.get("type") == "tool_call_response":
                brought.append((block.get("id"), block.get("response", block.get("result")), False))
        for said, content, failed in brought:
            if (use_id := first_name(said)) is not None:
                found[use_id] = ToolResult(content=result_content(content), failed=failed)
    return found


def result_content(content: object) -> object:
    """Return the text or JSON of a result's content blocks; of an image or a document only that it is one."""
    if not isinstance(content, list | tuple):
        return content
    parts = [_block(one) for one in content]
    return parts[0] if len(parts) == 1 else parts


def _block(block: object) -> object:
    if not isinstance(block, Mapping):
        return block
    if "json" in block:
        return block["json"]
    said = content_text([block])
    return said if said is not None else {"block": first_name(block.get("type"), *block)}


def tool_stages(exchanges: Sequence[Exchange]) -> list[Stage]:
    """Return a `tool_call` for each tool that the answers asked for; the exchanges are given in their order.

    Its result is what the first later request with that id brings. The stage lasts from the answer that asked until
    that request: no more is known of it. Without a result it has no duration, and no word of success or failure.
    """
    return [
        _stage(exchange, number, use, exchanges[index + 1 :])
        for index, exchange in enumerate(exchanges)
        for number, use in enumerate(exchange.uses)
    ]


def _stage(exchange: Exchange, number: int, use: ToolUse, later: Sequence[Exchange]) -> Stage:
    asked = exchange.span
    brought = next((one for one in later if use.use_id is not None and use.use_id in one.results), None)
    result = None if brought is None else brought.results[use.use_id or ""]
    content = None if result is None else result.content
    said = {
        Attribute.TOOL_NAME: use.name,
        Attribute.TOOL_CALL_ID: use.use_id,
        Attribute.TOOL_ARGUMENTS: use.arguments,
        Attribute.TOOL_RESULT: "" if content is None and result is not None else content,
    }
    failed = result is not None and result.failed
    return Stage(
        span=asked,
        name=SpanName.TOOL_CALL,
        attributes=given(said),
        key=str(number),
        times=(asked.end_ns, asked.end_ns if brought is None else max(asked.end_ns, brought.span.start_ns)),
        failed=failed,
        why_failed=_why(content) if failed else "",
    )


def _why(content: object) -> str:
    return content if isinstance(content, str) else content_text(content) or ""
