"""Names of the trace contract: tags, spans, attributes and assessments."""

from __future__ import annotations

from enum import StrEnum


class Tag(StrEnum):
    """Tags of a trace."""

    SESSION_ID = "session_id"
    INTENT = "intent"
    PROMPT_VERSION = "prompt_version"
    RELEASE_BUNDLE = "release_bundle"
    BEDROCK_MODEL_ID = "bedrock_model_id"
    RERANKER_VERSION = "reranker_version"
    GUARDRAIL_RULESET_VERSION = "guardrail_ruleset_version"
    ROUTING_POLICY_VERSION = "routing_policy_version"
    EXPERIMENT_ID = "experiment_id"
    TENANT = "tenant"
    CACHE_HIT = "cache_hit"
    USER_FEEDBACK = "user_feedback"
    INTENT_MODEL_VERSION = "intent_model_version"
    INDEX_GENERATION = "index_generation"
    EMBEDDING_MODEL_ID = "embedding_model_id"


class SpanName(StrEnum):
    """Spans of a trace."""

    CHAT_TURN = "chat_turn"
    INTENT_CLASSIFICATION = "intent_classification"
    RETRIEVE_CHUNKS = "retrieve_chunks"
    EMBED_QUERY = "embed_query"
    VECTOR_SEARCH = "vector_search"
    KEYWORD_SEARCH = "keyword_search"
    RERANK_CHUNKS = "rerank_chunks"
    BUILD_PROMPT = "build_prompt"
    BEDROCK_GENERATE = "bedrock_generate"
    GUARDRAILS = "guardrails"
    TOOL_CALL = "tool_call"


class ShadowSpan(StrEnum):
    """Spans of challengers that ran beside a turn. No trace needs them, and none of them is a stage of the turn."""

    INTENT_CLASSIFICATION = "intent_classification_shadow"
    RERANK_CHUNKS = "rerank_chunks_shadow"


class Attribute(StrEnum):
    """Attributes of spans. Candidate lists are parallel: entry i of each describes candidate i."""

    ENDPOINT_NAME = "endpoint_name"
    MODEL_FAMILY = "model_family"
    MODEL_VERSION = "model_version"
    MODEL_SHA256 = "model_sha256"
    INTENT = "intent"
    CONFIDENCE = "confidence"
    IN_SCOPE = "in_scope"
    EMBEDDING_MODEL_ID = "embedding_model_id"
    INDEX_GENERATION = "index_generation"
    FILTERS = "filters"
    CANDIDATE_COUNT = "candidate_count"
    SELECTED_IDS = "selected_ids"
    CANDIDATE_IDS = "candidate_ids"
    DOCUMENT_IDS = "document_ids"
    RETRIEVAL_RANKS = "retrieval_ranks"
    RETRIEVAL_SCORES = "retrieval_scores"
    RERANK_RANKS = "rerank_ranks"
    RERANK_SCORES = "rerank_scores"
    PROMPT_HASH = "prompt_hash"
    PROMPT_VERSION = "prompt_version"
    BEDROCK_MODEL_ID = "bedrock_model_id"
    TEMPERATURE = "temperature"
    MAX_TOKENS = "max_tokens"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    CACHE_READ_TOKENS = "cache_read_tokens"
    CACHE_WRITE_TOKENS = "cache_write_tokens"
    STOP_REASON = "stop_reason"
    RULESET_VERSION = "ruleset_version"
    BLOCKED = "blocked"
    REASONS = "reasons"
    REPORTED_COST_USD = "reported_cost_usd"
    TOOL_CALL_ID = "tool_call_id"
    TOOL_NAME = "tool_name"
    TOOL_ARGUMENTS = "tool_arguments"
    TOOL_RESULT = "tool_result"
    SHADOW_OUTCOME = "shadow_outcome"
    SHADOW_ERROR = "shadow_error"
    SHADOW_MODEL_VERSION = "shadow_model_version"
    SHADOW_INTENT = "shadow_intent"
    SHADOW_CONFIDENCE = "shadow_confidence"
    SHADOW_RERANK_RANKS = "shadow_rerank_ranks"
    SHADOW_RERANK_SCORES = "shadow_rerank_scores"


EXPECTED_INTENT = "expected_intent"
RELEVANT_DOCUMENTS = "relevant_documents"
USER_FEEDBACK_ASSESSMENT = "user_feedback"
ANSWER_CORRECTNESS = "correctness"
NO_EXPERIMENT = "none"
"""The tag `experiment_id` of a turn in no experiment; of others it is `EXPERIMENT:ARM`, several joined by a comma."""
