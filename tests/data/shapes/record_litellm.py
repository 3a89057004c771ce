"""Write litellm.json: traces that LiteLLM's MLflow callback makes of its own calls, answered by its mock responses.

LiteLLM is no dependency of the project. Run in an environment that has it and MLflow, from the repository:
`PYTHONPATH=. python tests/data/shapes/record_litellm.py`.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.data.shapes.record_bedrock_autolog import CLAUDE, QUESTION, without_this_machine

TARGET = Path(__file__).with_name("litellm.json")
_PATIENCE_S = 30.0


def record(tracking_uri: str) -> dict[str, Any]:
    """Return the trace of an answer, of a stream and of an error."""
    import litellm
    import mlflow

    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_experiment("shapes")
    litellm.callbacks = ["mlflow"]
    slow = litellm.exceptions.RateLimitError(message="slow down", llm_provider="bedrock", model=CLAUDE)
    kinds: dict[str, dict[str, Any]] = {
        "completion": {"mock_response": "It is in stock."},
        "stream": {"mock_response": "It is in stock.", "stream": True},
        "rate_limited": {"mock_response": slow},
    }
    traces: dict[str, Any] = {}
    for name, more in kinds.items():
        try:
            answer = litellm.completion(
                model=f"bedrock/{CLAUDE}",
                messages=[
                    {"role": "system", "content": "You sell manga."},
                    {"role": "user", "content": [{"type": "text", "text": QUESTION}]},
                ],
                temperature=0.3,
                max_tokens=99,
                user="shopper-1",
                metadata={"tags": ["release_bundle:2026.03.24-rc2", "session_id:s-9", "plain"]},
                **more,
            )
            if "stream" in more:
                list(answer)
        except litellm.exceptions.RateLimitError:
            if name != "rate_limited":
                raise
        traces[name] = _newest(len(traces) + 1)
    return traces


def _newest(count: int) -> dict[str, Any]:
    """Return the newest of so many traces; LiteLLM logs from a thread of its own."""
    import mlflow

    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        mlflow.flush_trace_async_logging()
        found = mlflow.search_traces(return_type="list", order_by=["timestamp_ms DESC"])
        if len(found) == count and found[0].info.state.value != "IN_PROGRESS":
            trace: dict[str, Any] = json.loads(found[0].to_json())
            return trace
        time.sleep(0.1)
    raise TimeoutError(f"LiteLLM did not log trace {count} within {_PATIENCE_S} s")


def main() -> None:
    """Record all calls and write the file."""
    with tempfile.TemporaryDirectory() as folder:
        traces = {name: without_this_machine(one) for name, one in record(f"sqlite:///{Path(folder) / 'm.db'}").items()}
    TARGET.write_text(json.dumps(traces, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
