"""Write bedrock_autolog.json: traces that MLflow's Bedrock autologging makes of real boto3 calls.

Run from the repository: `PYTHONPATH=. python tests/data/shapes/record_bedrock_autolog.py`. The answers come from
`tests.support.bedrock_wire`; everything else is what boto3 and MLflow do.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.bedrock_wire import Answer, BedrockWire, bedrock_wire, chunk

TARGET = Path(__file__).resolve().with_name("bedrock_autolog.json")
CLAUDE = "anthropic.claude-3-5-sonnet-20241022-v2:0"
QUESTION = "Where is volume 3 of Lantern Street Blues?"
MESSAGES = [
    {"role": "user", "content": [{"text": "Do you ship to Osaka?"}]},
    {"role": "assistant", "content": [{"text": "Yes."}]},
    {"role": "user", "content": [{"text": QUESTION}]},
]
TAGS = {"session_id": "s-1", "release_bundle": "2026.03.24-rc2"}
TOOL = {"name": "stock", "description": "Copies in stock", "inputSchema": {"json": {"type": "object"}}}
USAGE = {
    "inputTokens": 42,
    "outputTokens": 7,
    "totalTokens": 49,
    "cacheReadInputTokens": 10,
    "cacheWriteInputTokens": 5,
}


def _converse(wire: BedrockWire, client: Any) -> None:
    content = [{"text": "It is in stock."}]
    wire.answers.append(
        Answer(
            body={
                "output": {"message": {"role": "assistant", "content": content}},
                "stopReason": "end_turn",
                "usage": USAGE,
                "metrics": {"latencyMs": 12},
            }
        )
    )
    client.converse(
        modelId=CLAUDE,
        system=[{"text": "You sell manga."}],
        messages=MESSAGES,
        inferenceConfig={"temperature": 0.2, "maxTokens": 256},
    )


def _converse_tools(wire: BedrockWire, client: Any) -> None:
    use = {"toolUse": {"toolUseId": "t-1", "name": "stock", "input": {"volume": 3}}}
    wire.answers.append(
        Answer(
            body={
                "output": {"message": {"role": "assistant", "content": [{"text": "Let me look."}, use]}},
                "stopReason": "tool_use",
                "usage": {"inputTokens": 50, "outputTokens": 9, "totalTokens": 59},
                "metrics": {"latencyMs": 12},
            }
        )
    )
    result = {"toolResult": {"toolUseId": "t-0", "content": [{"json": {"copies": 2}}]}}
    client.converse(
        modelId=CLAUDE,
        messages=[
            *MESSAGES,
            {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t-0", "name": "stock", "input": {}}}]},
            {"role": "user", "content": [result]},
        ],
        toolConfig={"tools": [{"toolSpec": TOOL}]},
    )


def _converse_stream(wire: BedrockWire, client: Any) -> None:
    wire.answers.append(
        Answer(
            events=[
                ("messageStart", {"role": "assistant"}),
                ("contentBlockDelta", {"delta": {"text": "It is "}, "contentBlockIndex": 0}),
                ("contentBlockDelta", {"delta": {"text": "in stock."}, "contentBlockIndex": 0}),
                ("contentBlockStop", {"contentBlockIndex": 0}),
                ("messageStop", {"stopReason": "max_tokens"}),
                ("metadata", {"usage": USAGE, "metrics": {"latencyMs": 9}}),
            ]
        )
    )
    answer = client.converse_stream(modelId=CLAUDE, messages=MESSAGES, inferenceConfig={"maxTokens": 64})
    list(answer["stream"])


def _invoke_claude(wire: BedrockWire, client: Any) -> None:
    wire.answers.append(
        Answer(
            body={
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "claude-3-5-sonnet-20241022",
                "content": [{"type": "text", "text": "It is in stock."}],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": 42, "output_tokens": 7},
            }
        )
    )
    body = {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 256,
        "temperature": 0.5,
        "system": "You sell manga.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}],
    }
    client.invoke_model(modelId=CLAUDE, body=json.dumps(body))


def _invoke_claude_stream(wire: BedrockWire, client: Any) -> None:
    start = {
        "type": "message_start",
        "message": {"role": "assistant", "usage": {"input_tokens": 42, "output_tokens": 1}},
    }
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        for text in ("It is ", "in stock.")
    ]
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}}
    wire.answers.append(Answer(events=[chunk(one) for one in (start, *deltas, end, {"type": "message_stop"})]))
    body = {"max_tokens": 256, "messages": [{"role": "user", "content": QUESTION}]}
    answer = client.invoke_model_with_response_stream(modelId=CLAUDE, body=json.dumps(body))
    list(answer["body"])


def _invoke_titan(wire: BedrockWire, client: Any) -> None:
    result = {"tokenCount": 7, "outputText": "It is in stock.", "completionReason": "FINISH"}
    wire.answers.append(Answer(body={"inputTextTokenCount": 42, "results": [result]}))
    body = {"inputText": QUESTION, "textGenerationConfig": {"maxTokenCount": 128, "temperature": 0.1}}
    client.invoke_model(modelId="amazon.titan-text-express-v1", body=json.dumps(body))


def _invoke_titan_embedding(wire: BedrockWire, client: Any) -> None:
    wire.answers.append(Answer(body={"embedding": [0.1, 0.2], "inputTextTokenCount": 5}))
    client.invoke_model(modelId="amazon.titan-embed-text-v2:0", body=json.dumps({"inputText": QUESTION}))


def _invoke_llama(wire: BedrockWire, client: Any) -> None:
    wire.answers.append(
        Answer(
            body={
                "generation": "It is in stock.",
                "prompt_token_count": 42,
                "generation_token_count": 7,
                "stop_reason": "stop",
            }
        )
    )
    body = {"prompt": QUESTION, "max_gen_len": 128, "temperature": 0.1}
    client.invoke_model(modelId="meta.llama3-8b-instruct-v1:0", body=json.dumps(body))


ASKED = ("stock", {"volume": 3}), ("price", {"volume": 3, "currency": "JPY"})
RESULTS = {"t-1": ([{"json": {"copies": 2}}], "success"), "t-2": ([{"text": "no price in JPY"}], "error")}


def _tool_turn() -> list[dict[str, Any]]:
    """Return the history of a conversation with an earlier call of a tool, and the question."""
    return [
        {"role": "user", "content": [{"text": "Do you have volume 2?"}]},
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t-0", "name": "stock", "input": {"volume": 2}}}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "t-0", "content": [{"text": "sold out"}]}}]},
        {"role": "assistant", "content": [{"text": "No."}]},
        {"role": "user", "content": [{"text": QUESTION}]},
    ]


def _results(ids: list[str]) -> list[dict[str, Any]]:
    return [
        {"toolResult": {"toolUseId": use_id, "content": RESULTS[use_id][0], "status": RESULTS[use_id][1]}}
        for use_id in ids
    ]


def _agent(wire: BedrockWire, client: Any) -> None:
    """Two tools in one answer, one of which fails; their results in one request; then a third, never answered."""
    import mlflow

    uses = [
        {"toolUse": {"toolUseId": f"t-{number}", "name": called, "input": arguments}}
        for number, (called, arguments) in enumerate(ASKED, start=1)
    ]
    last = {"toolUse": {"toolUseId": "t-3", "name": "stock", "input": {}}}
    messages = _tool_turn()
    with mlflow.start_span("handle_request") as span:
        span.set_inputs({"path": "/chat"})
        for content, results in (
            ([{"text": "Let me look."}, *uses], ["t-1", "t-2"]),
            ([{"text": "It is in stock."}, last], []),
        ):
            usage = {"inputTokens": 50, "outputTokens": 9, "totalTokens": 59}
            message = {"role": "assistant", "content": content}
            wire.answers.append(Answer(body={"output": {"message": message}, "stopReason": "tool_use", "usage": usage}))
            client.converse(modelId=CLAUDE, messages=messages, toolConfig={"tools": [{"toolSpec": TOOL}]})
            beside = {"text": "Answer with these results."}
            messages = [*messages, message, {"role": "user", "content": [*_results(results), beside]}]


def _agent_stream(wire: BedrockWire, client: Any) -> None:
    """The same two tools from a stream, their arguments in pieces; then a streamed answer."""
    import mlflow

    events: list[tuple[str, dict[str, Any]]] = [
        ("messageStart", {"role": "assistant"}),
        ("contentBlockDelta", {"delta": {"text": "Let me look."}, "contentBlockIndex": 0}),
    ]
    for block, (called, arguments) in enumerate(ASKED, start=1):
        said = json.dumps(arguments)
        start = {"toolUse": {"toolUseId": f"t-{block}", "name": called}}
        events.append(("contentBlockStart", {"start": start, "contentBlockIndex": block}))
        events += [
            ("contentBlockDelta", {"delta": {"toolUse": {"input": piece}}, "contentBlockIndex": block})
            for piece in (said[:7], said[7:])
        ]
    events += [("messageStop", {"stopReason": "tool_use"}), ("metadata", {"usage": USAGE, "metrics": {"latencyMs": 9}})]
    with mlflow.start_span("handle_request") as span:
        span.set_inputs({"path": "/chat"})
        wire.answers.append(Answer(events=events))
        list(client.converse_stream(modelId=CLAUDE, messages=_tool_turn())["stream"])
        uses = [
            {"toolUse": {"toolUseId": f"t-{number}", "name": called, "input": arguments}}
            for number, (called, arguments) in enumerate(ASKED, start=1)
        ]
        answered = [{"role": "assistant", "content": uses}, {"role": "user", "content": _results(["t-1", "t-2"])}]
        wire.answers.append(
            Answer(
                events=[
                    ("messageStart", {"role": "assistant"}),
                    ("contentBlockDelta", {"delta": {"text": "It is in stock."}, "contentBlockIndex": 0}),
                    ("messageStop", {"stopReason": "end_turn"}),
                ]
            )
        )
        list(client.converse_stream(modelId=CLAUDE, messages=[*_tool_turn(), *answered])["stream"])


def _agent_claude(wire: BedrockWire, client: Any) -> None:
    """The same in Anthropic's own form, the first answer streamed."""
    import mlflow

    chunks: list[dict[str, Any]] = [{"type": "message_start", "message": {"usage": {"input_tokens": 42}}}]
    uses = []
    for index, (called, arguments) in enumerate(ASKED, start=1):
        said = json.dumps(arguments)
        block = {"type": "tool_use", "id": f"t-{index}", "name": called, "input": {}}
        chunks.append({"type": "content_block_start", "index": index, "content_block": block})
        chunks += [
            {
                "type": "content_block_delta",
                "index": index,
                "delta": {"type": "input_json_delta", "partial_json": piece},
            }
            for piece in (said[:5], said[5:])
        ]
        uses.append({**block, "input": arguments})
    chunks.append({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}})
    question: list[dict[str, Any]] = [{"role": "user", "content": QUESTION}]
    answered = [
        {"role": "assistant", "content": uses},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t-1", "content": '{"copies": 2}'},
                {
                    "type": "tool_result",
                    "tool_use_id": "t-2",
                    "content": [{"type": "text", "text": "no price in JPY"}],
                    "is_error": True,
                },
            ],
        },
    ]
    with mlflow.start_span("handle_request") as span:
        span.set_inputs({"path": "/chat"})
        wire.answers.append(Answer(events=[chunk(one) for one in chunks]))
        body = {"max_tokens": 256, "messages": question}
        list(client.invoke_model_with_response_stream(modelId=CLAUDE, body=json.dumps(body))["body"])
        end = {"content": [{"type": "text", "text": "It is in stock."}], "stop_reason": "end_turn"}
        wire.answers.append(Answer(body=end))
        client.invoke_model(modelId=CLAUDE, body=json.dumps({"max_tokens": 256, "messages": [*question, *answered]}))


def _throttled(wire: BedrockWire, client: Any) -> None:
    error = Answer(body={"message": "Too many requests"}, status=429, error_type="ThrottlingException")
    wire.answers.append(error)
    try:
        client.converse(modelId=CLAUDE, messages=MESSAGES)
    except client.exceptions.ThrottlingException:
        return
    raise AssertionError("the queued error did not arrive")


def _inside_a_turn(wire: BedrockWire, client: Any) -> None:
    import mlflow

    with mlflow.start_span("chat_turn") as span:
        span.set_inputs({"message": QUESTION})
        _converse(wire, client)
        span.set_outputs({"answer": "It is in stock. Anything else?"})


def _inside_an_application(wire: BedrockWire, client: Any) -> None:
    import mlflow

    with mlflow.start_span("handle_request") as span:
        span.set_inputs({"path": "/chat"})
        mlflow.update_current_trace(metadata={"mlflow.trace.session": "s-2", "release_bundle": "2026.03.24-rc2"})
        _invoke_titan_embedding(wire, client)
        _converse_tools(wire, client)
        _converse(wire, client)


CALLS: Mapping[str, Callable[[BedrockWire, Any], None]] = {
    "converse": _converse,
    "converse_tools": _converse_tools,
    "converse_stream": _converse_stream,
    "invoke_claude": _invoke_claude,
    "invoke_claude_stream": _invoke_claude_stream,
    "invoke_titan": _invoke_titan,
    "invoke_titan_embedding": _invoke_titan_embedding,
    "invoke_llama": _invoke_llama,
    "throttled": _throttled,
    "inside_a_turn": _inside_a_turn,
    "inside_an_application": _inside_an_application,
    "agent": _agent,
    "agent_stream": _agent_stream,
    "agent_claude": _agent_claude,
}


def record(tracking_uri: str, wire: BedrockWire) -> dict[str, Any]:
    """Return the trace of every call, as MLflow exports it."""
    import boto3
    import mlflow
    from botocore.config import Config

    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_experiment("shapes")
    mlflow.bedrock.autolog()
    client = boto3.client(
        "bedrock-runtime",
        endpoint_url=wire.url,
        region_name="us-east-1",
        aws_access_key_id="example",
        aws_secret_access_key="example",
        config=Config(retries={"total_max_attempts": 1}),
    )
    ids: dict[str, str] = {}
    for name, call in CALLS.items():
        call(wire, client)
        ids[name] = mlflow.get_last_active_trace_id()
    mlflow.flush_trace_async_logging()
    for name, trace_id in ids.items():
        if name != "inside_an_application":
            for key, value in TAGS.items():
                mlflow.set_trace_tag(trace_id, key, value)
    traces = {name: json.loads(mlflow.get_trace(trace_id).to_json()) for name, trace_id in ids.items()}
    mlflow.bedrock.autolog(disable=True)
    return traces


def without_this_machine(trace: dict[str, Any]) -> dict[str, Any]:
    """Return the trace without what tells where it was recorded: paths, stack traces, user, commit."""
    info = trace["info"]
    local = ("mlflow.source.", "mlflow.user", "mlflow.artifactLocation")
    for part in ("tags", "trace_metadata"):
        info[part] = {key: value for key, value in info.get(part, {}).items() if not key.startswith(local)}
    for span in trace["data"]["spans"]:
        for event in span["events"]:
            if "exception.stacktrace" in event["attributes"]:
                event["attributes"]["exception.stacktrace"] = "Traceback (most recent call last):\n"
    return trace


def main() -> None:
    """Record all calls and write the file."""
    # MLflow writes its artifacts where it stands.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), bedrock_wire() as wire:
        traces = record(f"sqlite:///{Path(folder) / 'mlflow.db'}", wire)
        text = json.dumps({name: without_this_machine(one) for name, one in traces.items()}, indent=1)
        TARGET.write_text(text.replace(wire.url, "http://127.0.0.1") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
