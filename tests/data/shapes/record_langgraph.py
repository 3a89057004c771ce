"""Write langgraph.json: turns of the LangGraph agent in `tests.support.foreign_chatbot`, as MLflow's autologging tells.

Run from the repository: `PYTHONPATH=. python tests/data/shapes/record_langgraph.py`. The answers come from
`tests.support.bedrock_wire`; everything else is what LangGraph, LangChain, boto3 and MLflow do.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

from tests.data.shapes.record_bedrock_autolog import without_this_machine
from tests.support.bedrock_wire import Answer, BedrockWire, bedrock_wire
from tests.support.foreign_chatbot import ForeignChatbot, answer, use

TARGET = Path(__file__).resolve().with_name("langgraph.json")
THROTTLED = Answer(body={"message": "Too many requests"}, status=429, error_type="ThrottlingException")
TURNS = {
    "tools": (
        "When does volume 3 arrive in Osaka?",
        [
            answer(
                "Let me look.",
                use("t-1", "copies_left", volume=3, name="Lantern Street"),
                use("t-2", "deliver_by", city="Atlantis"),
            ),
            answer("On Thursday."),
        ],
    ),
    "plain": ("Is it in stock?", [answer("Yes.")]),
    "refused": ("What about politics?", []),
    "throttled": ("And volume 4?", [THROTTLED]),
}


def record(tracking_uri: str, wire: BedrockWire) -> dict[str, Any]:
    """Return the trace of every turn of one conversation, as MLflow exports it."""
    import mlflow
    from botocore.exceptions import ClientError

    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_experiment("shapes")
    mlflow.langchain.autolog()
    chatbot = ForeignChatbot(wire)
    traces: dict[str, Any] = {}
    for name, (question, answers) in TURNS.items():
        wire.answers[:] = answers
        try:
            chatbot.ask("s-1", question)
        except ClientError:
            if name != "throttled":
                raise
        mlflow.flush_trace_async_logging()
        trace_id = mlflow.get_last_active_trace_id()
        assert trace_id is not None
        traces[name] = json.loads(mlflow.get_trace(trace_id).to_json())
    mlflow.langchain.autolog(disable=True)
    return traces


def main() -> None:
    """Record all turns and write the file."""
    # MLflow writes its artifacts where it stands.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), bedrock_wire() as wire:
        traces = record(f"sqlite:///{Path(folder) / 'mlflow.db'}", wire)
        text = json.dumps({name: without_this_machine(one) for name, one in traces.items()}, indent=1)
        TARGET.write_text(text.replace(wire.url, "http://127.0.0.1") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
