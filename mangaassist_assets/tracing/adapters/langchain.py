"""Traces of MLflow's LangChain autologging, LangGraph included (MLflow, `langchain/langchain_tracer.py`).

A graph is a span `LangGraph` of type CHAIN whose inputs and outputs are its state; a node is a CHAIN below it, a model
a CHAT_MODEL with messages in OpenAI's form, a tool a TOOL with its `tool_call_id`. The span of a model says neither
why the model stopped nor which results it got were errors: both stand in the messages of the state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

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
from mangaassist_assets.tracing.adapters.tool_calls import (
    Exchange,
    ToolResult,
    tool_results,
    tool_stages,
    tool_uses,
    uses_of_message,
)
from mangaassist_assets.tracing.contract.names import Tag
from mangaassist_assets.tracing.contract.records import SpanRecord, TraceRecord
from mangaassist_assets.tracing.contract.values import (
    content_text,
    decoded,
    first_count,
    first_name,
    first_number,
    first_of,
    mapping,
    sequence,
    text,
)

ROOT = "LangGraph"
_FORMAT = "mlflow.message.format"
_NODE = "langgraph_node"
_STOPPED = ("stopReason", "stop_reason", "finish_reason")
_DEEPEST = 4
_MOST_VALUES = 50_000
_Key = tuple[str | None, frozenset[str | None]]


def recognises(trace: TraceRecord) -> bool:
    """Return whether a span of the trace is one of LangChain autologging."""
    return any(_is_model(span) or _is_graph(span) or _NODE in _metadata(span) for span in trace.spans)


def convert(trace: TraceRecord) -> Converted:
    """Return the trace with `bedrock_generate`, `tool_call` and tags as far as it says."""
    spans = in_order(trace.spans)
    models = [span for span in spans if _is_model(span)]
    state = _State(trace)
    said = [_metadata(span) for span in spans]
    return in_contract(
        "langchain",
        trace,
        Findings(
            calls=[_call(span, state) for span in models],
            stages=tool_stages([_exchange(span, state) for span in models]),
            tags={
                Tag.SESSION_ID: [
                    *named_values(trace, SESSION_METADATA, "session.id", "session_id"),
                    *(one.get(key) for key in ("session_id", "thread_id") for one in said),
                ],
                Tag.RELEASE_BUNDLE: [
                    *named_values(trace, "release_bundle"),
                    *(one.get("release_bundle") for one in said),
                ],
            },
        ),
    )


def _is_model(span: SpanRecord) -> bool:
    return span.attributes.get(_FORMAT) == "langchain"


def _is_graph(span: SpanRecord) -> bool:
    return span.name == ROOT and span.span_type == "CHAIN"


def _metadata(span: SpanRecord) -> Mapping[str, object]:
    """Return what the configuration of a run says of it: `thread_id`, the node, and an application's own words."""
    return mapping(span.attributes.get("metadata"))


def _call(span: SpanRecord, state: _State) -> ModelCall:
    attributes, metadata = span.attributes, _metadata(span)
    asked = mapping(attributes.get("invocation_params"))
    request = read_request(_request(span))
    settings = read_request(asked)
    response = read_response(mapping(span.outputs))
    usage = mapping(attributes.get(TOKEN_USAGE))
    cache_read = first_count(usage.get("cache_read_input_tokens"))
    cache_write = first_count(usage.get("cache_creation_input_tokens"))
    return ModelCall(
        span=span,
        message=request.message,
        answer=response.answer,
        model_id=first_name(
            metadata.get("ls_model_name"), attributes.get("mlflow.llm.model"), asked.get("model"), asked.get("model_id")
        ),
        temperature=first_number(metadata.get("ls_temperature"), settings.temperature),
        max_tokens=first_count(metadata.get("ls_max_tokens"), settings.max_tokens),
        # LangChain's count of the input has the cache's tokens in it.
        input_tokens=without_cache(first_count(usage.get("input_tokens")), cache_read, cache_write),
        output_tokens=first_count(usage.get("output_tokens")),
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        stop_reason=first_name(response.stop_reason, _streamed_reason(span), state.stop_reason(span)),
    )


def _request(span: SpanRecord) -> Mapping[str, object]:
    """Return the request of a model: messages, or the prompts of one that knows no messages."""
    inputs = decoded(span.inputs)
    if isinstance(inputs, Mapping):
        return inputs
    first = first_of(inputs)
    return {"prompt": first} if text(first) else {"messages": first if sequence(first) else inputs}


def _exchange(span: SpanRecord, state: _State) -> Exchange:
    brought = tool_results(_request(span).get("messages"))
    return Exchange(
        span=span,
        uses=tool_uses(mapping(span.outputs)),
        results={use_id: state.results.get(use_id, result) for use_id, result in brought.items()},
    )


def _streamed_reason(span: SpanRecord) -> str | None:
    chunks = [
        mapping(mapping(mapping(event.attributes.get("chunk")).get("kwargs")).get("message"))
        for event in span.events
        if event.name == "new_token"
    ]
    return first_name(*(_reason(mapping(chunk.get("kwargs")) or chunk) for chunk in reversed(chunks)))


def _reason(message: Mapping[str, object]) -> str | None:
    metadata = mapping(message.get("response_metadata"))
    return first_name(*(metadata.get(key) for key in _STOPPED))


class _State:
    """The messages that the nodes of a graph give to its state; `results` are those of tools, by id of their use."""

    def __init__(self, trace: TraceRecord) -> None:
        """Collect the messages of all chains; a state of more than some ten thousand values is read so far only."""
        self._parents = {span.span_id: span.parent_id for span in trace.spans}
        self._answers: dict[str, list[Mapping[str, object]]] = {}
        self._reasons: dict[str, dict[_Key, str]] = {}
        self._left = _MOST_VALUES
        self.results: dict[str, ToolResult] = {}
        # The nodes before the graph around them, whose state holds the same messages once more.
        for span in reversed(in_order(trace.spans)):
            if span.span_type == "CHAIN":
                for message in self._messages(span.outputs, 0):
                    self._keep(span, message)

    def stop_reason(self, span: SpanRecord) -> str | None:
        """Return why a model stopped: its message, as the nearest chain around it gave it to the state, says so."""
        answers = [mapping(mapping(one).get("message")) for one in sequence(mapping(span.outputs).get("choices"))]
        wanted = [_key(one) for one in answers if one]
        seen: set[str] = set()
        above = span.parent_id
        while above is not None and above not in seen:
            seen.add(above)
            reasons = self._reasons_of(above)
            found = next((reasons[key] for key in wanted if key in reasons), None)
            if found is not None:
                return found
            above = self._parents.get(above)
        return None

    def _reasons_of(self, span_id: str) -> Mapping[_Key, str]:
        """Return why models stopped, by their message; of equal ones the last counts: earlier turns stand before it."""
        if span_id not in self._reasons:
            reasons = ((_key(one), _reason(one)) for one in self._answers.get(span_id, ()))
            self._reasons[span_id] = {key: reason for key, reason in reasons if reason is not None}
        return self._reasons[span_id]

    def _keep(self, span: SpanRecord, message: Mapping[str, object]) -> None:
        if message.get("type") == "tool":
            for use_id, result in tool_results([{**message, "role": "tool"}]).items():
                self.results.setdefault(use_id, result)
        else:
            self._answers.setdefault(span.span_id, []).append(message)

    def _messages(self, value: object, depth: int) -> Iterator[Mapping[str, object]]:
        """Yield the messages of models and tools in a state, in an update of it, or in a command that carries one."""
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST:
            return
        if isinstance(value, Mapping):
            if "content" in value and value.get("type") in ("ai", "AIMessageChunk", "tool"):
                yield value
                return
            value = list(value.values())
        if isinstance(value, list | tuple):
            for one in value:
                yield from self._messages(one, depth + 1)


def _key(message: Mapping[str, object]) -> _Key:
    """Return by what a message is known on both sides: its text and the tools it asks for."""
    uses = {use.use_id for use in uses_of_message(message)}
    return content_text(message.get("content")), frozenset(uses)
