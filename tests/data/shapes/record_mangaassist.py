"""Write mangaassist.json: traces by MangaAssist's own instrumentation, as its documents describe it, made by MLflow.

Run from the repository: `PYTHONPATH=. python tests/data/shapes/record_mangaassist.py`. Spans, attributes, inputs and
outputs are those that the chatbot's documents list; how they stand in a trace is what MLflow does.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from tests.data.shapes.record_bedrock_autolog import without_this_machine

TARGET = Path(__file__).with_name("mangaassist.json")
MESSAGE = "when does volume 9 come out"
ANSWER = "Volume 9 comes out in March."
MODEL = "anthropic.claude-3-5-sonnet-20240620-v1:0"
TAGS = {
    "session_id": "sess_7",
    "release_bundle": "2026.03.24-rc2",
    "prompt_version": "recommendation-2.4",
    "bedrock_model_id": "anthropic.claude-3-5-sonnet",
    "reranker_version": "8",
    "guardrail_ruleset_version": "gr-17",
    "routing_policy_version": "r1",
    "experiment_id": "none",
    "cache_hit": "false",
    "user_feedback": "thumbs_down",
}


def _classify() -> None:
    import mlflow

    with mlflow.start_span("intent_classification") as span:
        span.set_inputs({"endpoint_name": "mangaassist-intent", "text": MESSAGE})
        span.set_attributes({"endpoint_name": "mangaassist-intent", "model_family": "distilbert"})
        span.set_attributes({"intent": "release_date", "confidence": 0.83})
        mlflow.update_current_trace(tags={"intent": "release_date"})


def _retrieve() -> None:
    import mlflow

    with mlflow.start_span("retrieve_chunks", span_type="RETRIEVER") as span:
        span.set_inputs({"q": MESSAGE})
        with mlflow.start_span("embed_query") as one:
            one.set_attribute("model", "amazon.titan-embed-text-v2:0")
        with mlflow.start_span("vector_search") as one:
            one.set_attributes({"chunk_count": 2, "source_types": ["faq", "catalog"], "filters": {"lang": "en"}})
            one.set_attribute("top_chunk_ids", ["c1", "c2"])
        with mlflow.start_span("keyword_search") as one:
            one.set_attributes({"chunk_count": 2, "top_chunk_ids": ["c3", "c2"]})
        with mlflow.start_span("rerank_chunks") as one:
            one.set_attributes({"endpoint_name": "mangaassist-reranker", "model_family": "cross-encoder"})
            one.set_attributes({"chunk_count": 3, "top_chunk_ids": ["c2", "c3", "c1"]})
        span.set_attributes({"candidate_count": 3, "selected_chunk_ids": ["c2"]})
        span.set_outputs(["c2"])


def _generate() -> None:
    import mlflow

    with mlflow.start_span("build_prompt"):
        pass
    with mlflow.start_span("bedrock_generate", span_type="LLM") as span:
        span.set_inputs({"prompt_preview": f"You are MangaAssist. {MESSAGE}", "prompt_chars": 48})
        span.set_attributes({"provider": "bedrock", "bedrock_model_id": MODEL, "temperature": 0.2})
        span.set_attributes({"max_tokens": 512, "prompt_hash": "b6db3d1c"})
        span.set_outputs(
            {
                "output_preview": ANSWER,
                "output_chars": len(ANSWER),
                "input_tokens": 321,
                "output_tokens": 17,
                "stop_reason": "end_turn",
            }
        )


def _check(*, blocked: bool) -> None:
    import mlflow

    with mlflow.start_span("pii_detection") as span:
        span.set_attributes({"endpoint_name": "mangaassist-pii", "model_family": "bert-ner", "pii_detected": False})
    with mlflow.start_span("sentiment_analysis") as span:
        span.set_attributes({"endpoint_name": "mangaassist-sentiment", "sentiment": "neutral", "sentiment_score": 0.1})
    with mlflow.start_span("guardrail_check") as span:
        said = {"action": "BLOCKED", "blocked": "true", "reasons": ["toxicity"]} if blocked else {"action": "NONE"}
        span.set_attributes({**said, "ruleset_version": "gr-17", "checks_run": 4, "checks_failed": int(blocked)})


def record(tracking_uri: str) -> dict[str, Any]:
    """Return a trace whose answer is text, one whose answer is an object, and one that a guardrail blocked."""
    import mlflow

    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_experiment("shapes")

    @mlflow.trace(name="handle_message")
    def handle(message: str) -> str:
        assert message
        mlflow.update_current_trace(tags=TAGS)
        _classify()
        _retrieve()
        _generate()
        _check(blocked=False)
        return ANSWER

    @mlflow.trace(name="chatbot_orchestrator")
    def orchestrate(message: str) -> dict[str, str]:
        return {"answer": handle.__wrapped__(message), "response_id": "resp-1"}

    @mlflow.trace(name="turn")
    def refuse(message: str) -> dict[str, str]:
        assert message
        mlflow.update_current_trace(tags=TAGS)
        _check(blocked=True)
        return {"answer": "Sorry."}

    traces: dict[str, Any] = {}
    for name, function in {"text_answer": handle, "object_answer": orchestrate, "blocked": refuse}.items():
        function(MESSAGE)
        trace_id = mlflow.get_last_active_trace_id()
        mlflow.flush_trace_async_logging()
        traces[name] = json.loads(mlflow.get_trace(trace_id).to_json())
    return traces


def main() -> None:
    """Record all turns and write the file."""
    with tempfile.TemporaryDirectory() as folder:
        traces = {name: without_this_machine(one) for name, one in record(f"sqlite:///{Path(folder) / 'm.db'}").items()}
    TARGET.write_text(json.dumps(traces, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
