"""A chat orchestrator that tells the platform all it can use. Needs boto3, and `mlflow-tracing` or `mlflow`.

It reads JSON lines from standard input, one message or thumb each, and writes one JSON line for each. docs/integrate.md
explains it part by part.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import boto3
import mlflow
from botocore.exceptions import BotoCoreError, ClientError
from mlflow.exceptions import MlflowException
from passages import Chunk, Index, fused

BUNDLE = os.environ["RELEASE_BUNDLE"]
INTENT_ENDPOINT = os.environ["INTENT_ENDPOINT"]
RERANKER_ENDPOINT = os.environ["RERANKER_ENDPOINT"]
APPLICATION = os.environ["APPCONFIG_APPLICATION"]
ENVIRONMENT = os.environ["APPCONFIG_ENVIRONMENT"]
STREAM = os.environ["FEEDBACK_STREAM"]
EMBEDDER = "amazon.titan-embed-text-v2:0"

sagemaker = boto3.client("sagemaker-runtime")
bedrock = boto3.client("bedrock-runtime")
appconfig = boto3.client("appconfigdata")
kinesis = boto3.client("kinesis")
index = Index(Path(os.environ["PASSAGES"]))

# Redaction: before anything is written.

PERSONAL = (
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "[EMAIL]"),
    (re.compile(r"\b(?:[A-Z]{2}|[A-Z]?\d{2,3})-\d{7,8}(?:-\d{7})?\b"), "[ORDER_ID]"),
    (re.compile(r"(?<![\w.])\+?\(?\d(?:[ ().-]{0,2}\d){8,18}(?!\w)"), "[NUMBER]"),  # phones, cards
)


def redact(text: str) -> str:
    """Replace what is certainly personal. `mangaassist_assets.privacy` knows names and addresses, too."""
    for pattern, word in PERSONAL:
        text = pattern.sub(word, text)
    return text


def scrubbed(value: Any) -> Any:
    """Return a JSON value with every text in it redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: scrubbed(item) for key, item in value.items()}
    return [scrubbed(item) for item in value] if isinstance(value, list) else value


def without_personal_data(span: Any) -> None:
    """Redact a span before MLflow exports it. MLflow exports as it is what a hook fails on, so this cannot fail."""
    if span.inputs is not None:
        span.set_inputs(scrubbed(span.inputs))
    if span.outputs is not None:
        span.set_outputs(scrubbed(span.outputs))


def pseudonym(user_id: str) -> str:
    """Return the user as the platform calls them: with the same key, `mangaassist erase-user` finds their traces."""
    key = bytes.fromhex(os.environ["PSEUDONYM_KEY"])
    return "u-" + hmac.new(key, user_id.encode(), hashlib.sha256).hexdigest()[:20]


mlflow.tracing.configure(span_processors=[without_personal_data])
mlflow.set_experiment(os.environ.get("TRACES_EXPERIMENT", "mangaassist-traces"))

# Configuration: AppConfig owns prompts, routing and guardrails.


class Profile:
    """One AppConfig profile as it is in force. Each token is good for one call; an empty body means unchanged."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.document: dict[str, Any] | None = None
        self.token: str | None = None
        self.poll_at = 0.0

    def current(self) -> dict[str, Any]:
        """Return the document in force. A poll that fails keeps the one before."""
        if time.monotonic() >= self.poll_at:
            self.poll_at = time.monotonic() + 15
            try:
                self.poll()
            except (BotoCoreError, ClientError, ValueError):
                if self.document is None:
                    raise
        if self.document is None:
            raise RuntimeError(f"AppConfig has no {self.name} yet")
        return self.document

    def poll(self) -> None:
        """Ask once."""
        token, self.token = self.token, None  # a call that fails has used it up, too
        if token is None:
            session = appconfig.start_configuration_session(
                ApplicationIdentifier=APPLICATION,
                EnvironmentIdentifier=ENVIRONMENT,
                ConfigurationProfileIdentifier=self.name,
            )
            token = session["InitialConfigurationToken"]
        answer = appconfig.get_latest_configuration(ConfigurationToken=token)
        self.token = answer["NextPollConfigurationToken"]
        self.poll_at = time.monotonic() + answer["NextPollIntervalInSeconds"]
        body = answer["Configuration"].read()
        if body:
            document = json.loads(body)
            if not isinstance(document, dict) or "version" not in document:
                raise ValueError(f"the {self.name} document has no version")
            self.document = document


prompts, routing, guardrails = Profile("prompts"), Profile("routing"), Profile("guardrails")

# The stages of a turn.


def tag(**tags: str) -> None:
    """Put tags on the trace as soon as they are known: a turn that fails later has them, too."""
    mlflow.update_current_trace(tags=tags)


def ask(endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ask a SageMaker endpoint."""
    answer = sagemaker.invoke_endpoint(EndpointName=endpoint, ContentType="application/json", Body=json.dumps(body))
    return json.loads(answer["Body"].read())


def classify(text: str) -> str:
    """Return the intent."""
    with mlflow.start_span("intent_classification") as span:
        span.set_inputs({"text": text})
        span.set_attributes({"endpoint_name": INTENT_ENDPOINT, "model_family": "distilbert"})
        answer = ask(INTENT_ENDPOINT, {"text": text})
        tag(intent=answer["intent"], intent_model_version=answer["model"]["version"])
        span.set_attributes({"intent": answer["intent"], "confidence": answer["confidence"]})
        span.set_outputs({"intent": answer["intent"], "confidence": answer["confidence"]})
        return str(answer["intent"])


def retrieve(text: str, policy: dict[str, Any], tenant: str | None) -> list[Chunk]:
    """Return the passages for a message that a shopper of the tenant may see, best first."""
    with mlflow.start_span("retrieve_chunks", span_type="RETRIEVER") as span:
        span.set_inputs({"query": text})
        span.set_attributes({"index_generation": index.generation, "filters": {"tenant": [tenant, None]}})
        with mlflow.start_span("embed_query") as embed:
            embed.set_attribute("model", EMBEDDER)
            body = json.dumps({"inputText": text, "normalize": True})
            vector = json.loads(bedrock.invoke_model(modelId=EMBEDDER, body=body)["body"].read())["embedding"]
        near = searched("vector_search", index.near(vector, policy["vector_candidates"], tenant=tenant))
        worded = searched("keyword_search", index.worded(text, policy["keyword_candidates"], tenant=tenant))
        found = fused(near, worded)
        span.set_attribute("candidate_count", len(found))
        best = rerank(text, found[: policy["rerank_candidates"]])[: policy["selected_chunks"]]
        span.set_attribute("selected_chunk_ids", ids(best))
        return best


def searched(name: str, found: list[Chunk]) -> list[Chunk]:
    """Trace what a search found, best first."""
    with mlflow.start_span(name) as span:
        span.set_attributes({"chunk_count": len(found), "top_chunk_ids": ids(found)})
        return found


def rerank(text: str, chunks: list[Chunk]) -> list[Chunk]:
    """Return the chunks in the reranker's order."""
    if not chunks:
        return []
    with mlflow.start_span("rerank_chunks") as span:
        span.set_attribute("endpoint_name", RERANKER_ENDPOINT)
        body = {"query": text, "passages": [f"{chunk['title']}\n{chunk['text']}" for chunk in chunks]}
        answer = ask(RERANKER_ENDPOINT, body)
        tag(reranker_version=answer["model"]["version"])
        span.set_attribute("model_family", answer["model"].get("family", "unknown"))
        ranked = sorted(zip(answer["scores"], chunks, strict=True), key=lambda one: -one[0])
        best = [chunk for _, chunk in ranked]
        span.set_attributes({"payload_keys": list(body), "chunk_count": len(best), "top_chunk_ids": ids(best)})
        span.set_attribute("scores", [score for score, _ in ranked])
        return best


def ids(chunks: list[Chunk]) -> list[str]:
    """Return the chunks' ids, in their order."""
    return [chunk["chunk_id"] for chunk in chunks]


def build_prompt(text: str, chunks: list[Chunk], document: dict[str, Any]) -> str:
    """Return what the model is told beside the system prompt."""
    with mlflow.start_span("build_prompt") as span:
        span.set_attributes({"prompt_version": document["version"], "chunk_ids": ids(chunks)})
        context = "\n\n".join(chunk["text"] for chunk in chunks)[: document["maximum_context_characters"]]
        # The slots are filled at once: a message that says {context} stays what it is.
        slots = {"{context}": context, "{question}": text}
        return re.sub(r"\{context\}|\{question\}", lambda slot: slots[slot[0]], document["user"])


def generate(prompt: str, system: str, policy: dict[str, Any]) -> str:
    """Return the answer of the model."""
    limits = {"temperature": policy["temperature"], "maxTokens": policy["maximum_tokens"]}
    model, told = policy["bedrock_model_id"], redact(prompt)
    tag(bedrock_model_id=model)
    with mlflow.start_span("bedrock_generate", span_type="LLM") as span:
        span.set_inputs({"prompt_preview": told[:500], "prompt_chars": len(prompt)})
        span.set_attributes({"provider": "bedrock", "bedrock_model_id": model, "temperature": limits["temperature"]})
        span.set_attribute("max_tokens", limits["maxTokens"])
        span.set_attribute("prompt_hash", hashlib.sha256(told.encode()).hexdigest())
        messages = [{"role": "user", "content": [{"text": prompt}]}]
        answer = bedrock.converse(modelId=model, system=[{"text": system}], messages=messages, inferenceConfig=limits)
        text = "".join(block.get("text", "") for block in answer["output"]["message"]["content"])
        usage = answer["usage"]
        outputs = {"output_preview": redact(text)[:500], "output_chars": len(text)}
        outputs |= {"input_tokens": usage["inputTokens"], "output_tokens": usage["outputTokens"]}
        span.set_outputs({**outputs, "stop_reason": answer["stopReason"]})
        return text


def guard(reasons: list[str], ruleset: str) -> bool:
    """Trace what the guardrails say; returns whether they block."""
    with mlflow.start_span("guardrails") as span:
        span.set_attributes({"ruleset_version": ruleset, "blocked": bool(reasons), "reasons": reasons})
        span.set_attribute("action", "BLOCKED" if reasons else "NONE")
        return bool(reasons)


# A turn, and what the shopper thought of it.


def answer(message: str, session_id: str, user_id: str | None = None, tenant: str | None = None) -> dict[str, str]:
    """Answer a message. A stage that fails is on the trace with its error, and the shopper gets the fallback.

    `tenant` is whose shopper writes: what the shop authenticated, never what somebody says.
    """
    response_id, trace_id = uuid.uuid4().hex, ""
    try:
        with mlflow.start_span("chatbot_orchestrator") as root:
            trace_id = root.trace_id
            root.set_inputs({"message": message})
            tag(session_id=session_id, release_bundle=BUNDLE, response_id=response_id, cache_hit="false")
            if user_id is not None:
                mlflow.update_current_trace(user=pseudonym(user_id))
            if tenant is not None:
                tag(tenant=tenant)
            text = turn(message, tenant)
            root.set_outputs({"answer": text})
    except (BotoCoreError, ClientError, RuntimeError, LookupError, TypeError, ValueError, re.error) as error:
        print(f"{trace_id}: {type(error).__name__}", file=sys.stderr)
        text = "I am not sure. A colleague in the store can help you further."
    return {"answer": text, "response_id": response_id, "trace_id": trace_id}


def turn(message: str, tenant: str | None) -> str:
    """Take a message through the stages."""
    prompt, policy, rules = prompts.current(), routing.current(), guardrails.current()
    tag(prompt_version=prompt["version"], routing_policy_version=policy["version"])
    tag(guardrail_ruleset_version=rules["version"])
    refused = [pattern for pattern in rules["blocked_patterns"] if re.search(pattern, message, re.IGNORECASE)]
    if refused or len(message) > rules["maximum_message_characters"]:
        guard(["blocked_pattern" if refused else "too_long"], rules["version"])
        return str(rules["blocked_answer"])
    classify(message)
    chunks = retrieve(message, policy, tenant)
    text = generate(build_prompt(message, chunks, prompt), prompt["system"], policy)
    blocked = guard([] if text.strip() else ["empty_answer"], rules["version"])
    return str(rules["blocked_answer"]) if blocked else text


def feedback(trace_id: str, response_id: str, thumb: str) -> None:
    """Publish a thumb: `thumbs_up` or `thumbs_down`. The platform finds bundle, session and user by the trace."""
    event = {"response_id": response_id, "trace_id": trace_id.removeprefix("tr-"), "thumb": thumb}
    kinesis.put_record(StreamName=STREAM, PartitionKey=response_id, Data=json.dumps(event).encode())


def feedback_on_trace(trace_id: str, thumb: str) -> None:
    """Put a thumb on its trace, which is there within a second or two: enough where there is no stream."""
    mlflow.set_trace_tag(trace_id, "user_feedback", thumb)


def serve(asked: dict[str, str]) -> dict[str, str]:
    """Answer a message, or take a thumb."""
    if "message" in asked:
        return answer(asked["message"], asked["session_id"], asked.get("user_id"), asked.get("tenant"))
    if "response_id" in asked:
        feedback(asked["trace_id"], asked["response_id"], asked["thumb"])
    else:
        feedback_on_trace(asked["trace_id"], asked["thumb"])
    return asked


def main() -> None:
    """Serve until standard input ends. The last traces are still on their way then: flush."""
    for line in sys.stdin:
        try:
            said = serve(json.loads(line))
        except (BotoCoreError, ClientError, MlflowException, LookupError, TypeError, ValueError) as error:
            said = {"error": type(error).__name__}
        print(json.dumps(said), flush=True)
    mlflow.flush_trace_async_logging()


if __name__ == "__main__":
    main()
