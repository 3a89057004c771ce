"""The chat turn: what one validated, redacted trace says, as plain values.

Readers produce it, mining and datasets consume it. Nothing in here knows MLflow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mangaassist_assets.privacy import plain_placeholders

Feedback = Literal["thumbs_up", "thumbs_down"]
TraceShape = Literal["mangaassist", "bedrock_autolog", "litellm", "langchain", "otel_genai"]
"""Who wrote a trace: spans of the contract, MLflow's autologging of Bedrock or LangChain, a LiteLLM proxy, or
OpenTelemetry's GenAI conventions."""

ReviewSource = Literal["human", "judge", "code"]
"""Who assessed a trace: MLflow's source types HUMAN, LLM_JUDGE and CODE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedCandidate:
    """One chunk that retrieval put before the reranker.

    `retrieval_rank` and `rerank_rank` count from 1; the scores are the retriever's fused score and the reranker's
    relevance probability, None where the trace has only the order. The rerank fields are None where the turn ended
    before reranking. `document_id` is the chunk's own id where the trace does not name its document.
    """

    chunk_id: str
    document_id: str
    retrieval_rank: int
    retrieval_score: float | None = None
    rerank_rank: int | None = None
    rerank_score: float | None = None
    selected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTiming:
    """How long one stage took, in milliseconds, whether it failed, and what its span says of itself.

    `name` is the contract's, else the span's own. `request_keys` are the sorted keys of the body that was sent to the
    endpoint. `chunk_count`, `source_types` and `filters` (JSON) are those of a search. None and () are unknown.
    """

    name: str
    duration_ms: float
    failed: bool = False
    endpoint_name: str | None = None
    model_family: str | None = None
    model_version: str | None = None
    request_keys: tuple[str, ...] = ()
    chunk_count: int | None = None
    source_types: tuple[str, ...] = ()
    filters: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One call of a tool by the chatbot's agent: arguments and result as JSON or text, redacted and cut.

    `failed` is the tool's own word or that of its span; `error` says why, redacted. The duration is in milliseconds;
    where only the model's requests have the call it is the time between them, None where no result ever came.
    """

    name: str
    arguments: str | None = None
    result: str | None = None
    failed: bool = False
    error: str | None = None
    duration_ms: float | None = None

    @property
    def outcome(self) -> Literal["success", "error", "no_result"]:
        """How the call ended, as far as the trace says."""
        return "error" if self.failed else "no_result" if self.result is None else "success"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a moderator, a classifier or a guardrail said of the turn: a short text (`unsafe`), a number, or both.

    `stage` is the stage whose span said it, None where it is a tag of the trace.
    """

    name: str
    text: str | None = None
    score: float | None = None
    stage: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One call of a language model: tokens as the model counted them, None where the trace does not say.

    `cache_read_tokens` and `cache_write_tokens` are those of prompt caching (Amazon Bedrock, "Prompt caching for
    faster model inference"); `input_tokens` does not include them. `reported_cost_usd` is what a proxy charged.
    """

    model_id: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    stop_reason: str | None = None
    reported_cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """One assessment (MLflow's word) that somebody put on the trace after the turn, the shopper's own thumb excepted.

    `values` are the expected intent, the relevant documents, or what a feedback says (`true`, `false`, a number or a
    verdict such as `yes`); free text is not kept. `source_id` names the person, the judge's model or the code.
    """

    name: str
    kind: Literal["feedback", "expectation"]
    values: tuple[str, ...]
    source: ReviewSource
    source_id: str
    timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTurn:
    """One trace of the chatbot, valid under the contract and free of personal data.

    `timestamp_ms` is the start of the trace in milliseconds since the epoch (UTC). `user_key` is a keyed hash of the
    user, never the user id. `expected_intent` and `expected_documents` come from human reviews (MLflow
    expectations), the latest of each; None and () mean that nobody reviewed that side of the turn. `reviews` are all
    assessments, oldest first. `tenant` is whose shopper it was, where several stores share the chatbot; `team` is a
    proxy's. `response_id` is what the chatbot or a proxy calls the answer. `candidate_count` is how many chunks the
    search found, None where the trace does not say. The `shadow_` fields are a challenger's that ran beside.
    """

    trace_id: str
    timestamp_ms: int
    duration_ms: int
    state: Literal["OK", "ERROR"]
    release_bundle: str
    session_id: str
    message: str
    user_key: str | None = None
    answer: str | None = None
    intent: str | None = None
    intent_confidence: float | None = None
    intent_model_version: str | None = None
    reranker_version: str | None = None
    prompt_version: str | None = None
    bedrock_model_id: str | None = None
    guardrail_ruleset_version: str | None = None
    routing_policy_version: str | None = None
    index_generation: str | None = None
    embedding_model_id: str | None = None
    experiment_id: str | None = None
    tenant: str | None = None
    team: str | None = None
    response_id: str | None = None
    cache_hit: bool | None = None
    shadow_intent: str | None = None
    shadow_confidence: float | None = None
    shadow_model_version: str | None = None
    candidates: tuple[RankedCandidate, ...] = ()
    candidate_count: int | None = None
    guardrail_blocked: bool = False
    guardrail_reasons: tuple[str, ...] = ()
    failed_span: str | None = None
    error: str | None = None
    user_feedback: Feedback | None = None
    expected_intent: str | None = None
    expected_documents: tuple[str, ...] = ()
    reviewer: str | None = None
    reviews: tuple[Review, ...] = ()
    stages: tuple[StageTiming, ...] = ()
    generations: tuple[Generation, ...] = ()
    tools: tuple[ToolCall, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    shape: TraceShape = "mangaassist"

    @property
    def learnable_text(self) -> str:
        """The message with `[NAME]` for `[NAME_7q]`: no model learns what belongs to one conversation."""
        return plain_placeholders(self.message)
