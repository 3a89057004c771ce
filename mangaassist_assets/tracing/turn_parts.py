"""The parts of a turn as the spans and assessments of a trace tell them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from mangaassist_assets.tracing.names import (
    EXPECTED_INTENT,
    RELEVANT_DOCUMENTS,
    USER_FEEDBACK_ASSESSMENT,
    Attribute,
    SpanName,
    Tag,
)
from mangaassist_assets.tracing.records import AssessmentRecord, SpanRecord, TraceRecord
from mangaassist_assets.tracing.turns import (
    Feedback,
    Generation,
    RankedCandidate,
    Review,
    ReviewSource,
    StageTiming,
)
from mangaassist_assets.tracing.typed_values import (
    ContractError,
    cost_of,
    count_of,
    number_of,
    numbers_of,
    optional_text_of,
    strings_of,
    tag_of,
)

_SOURCES: Mapping[str, ReviewSource] = {"HUMAN": "human", "LLM_JUDGE": "judge", "AI_JUDGE": "judge", "CODE": "code"}
_VERDICTS = frozenset(
    {"yes", "no", "true", "false", "pass", "fail", "passed", "failed", "good", "bad", "correct", "incorrect", "partly"}
)
CONTRACT_SPANS: frozenset[str] = frozenset(SpanName)


def stages_of(spans: Sequence[SpanRecord]) -> tuple[StageTiming, ...]:
    """Return the timing of each span of the contract, in the order they began; a retried stage is there twice."""
    return tuple(
        StageTiming(
            name=str(span.name),
            duration_ms=max(0, span.end_ns - span.start_ns) / 1_000_000,
            failed=span.status == "ERROR",
        )
        for span in sorted(spans, key=lambda span: (span.start_ns, span.name))
        if span.name in CONTRACT_SPANS
    )


def generations_of(trace: TraceRecord) -> tuple[Generation, ...]:
    """Return what each `bedrock_generate` span says of its model call, in the order they began."""
    return tuple(
        Generation(
            model_id=optional_text_of(span, Attribute.BEDROCK_MODEL_ID) or tag_of(trace, Tag.BEDROCK_MODEL_ID),
            input_tokens=count_of(span, Attribute.INPUT_TOKENS),
            output_tokens=count_of(span, Attribute.OUTPUT_TOKENS),
            cache_read_tokens=count_of(span, Attribute.CACHE_READ_TOKENS),
            cache_write_tokens=count_of(span, Attribute.CACHE_WRITE_TOKENS),
            stop_reason=optional_text_of(span, Attribute.STOP_REASON),
            reported_cost_usd=cost_of(span),
        )
        for span in sorted(trace.spans, key=lambda span: (span.start_ns, span.span_id))
        if span.name == SpanName.BEDROCK_GENERATE
    )


def spans_by_name(spans: Sequence[SpanRecord]) -> dict[str, SpanRecord]:
    """Return the last span of each name: a retried stage leaves several, and the last one is what the turn used."""
    return {span.name: span for span in sorted(spans, key=lambda span: span.start_ns)}


def confidence_of(span: SpanRecord | None) -> float | None:
    """Return the confidence of the intent classification, or None where the trace has none."""
    if span is None or Attribute.CONFIDENCE not in span.attributes:
        return None
    confidence = number_of(span.attributes[Attribute.CONFIDENCE], "attribute confidence")
    if not 0.0 <= confidence <= 1.0:
        raise ContractError(f"attribute confidence is {confidence}, not between 0 and 1")
    return confidence


class ShadowFields(TypedDict, total=False):
    """What a challenger said, as fields of a turn."""

    shadow_intent: str | None
    shadow_confidence: float | None
    shadow_model_version: str | None


def shadow_of(span: SpanRecord | None) -> ShadowFields:
    """Return what a challenger said of the intent; what breaks the types was not said."""
    if span is None:
        return {}
    intent, confidence, version = (
        span.attributes.get(name)
        for name in (Attribute.SHADOW_INTENT, Attribute.SHADOW_CONFIDENCE, Attribute.SHADOW_MODEL_VERSION)
    )
    sure = isinstance(confidence, int | float) and not isinstance(confidence, bool) and 0 <= confidence <= 1
    return {
        "shadow_intent": intent if isinstance(intent, str) and intent else None,
        "shadow_confidence": float(confidence) if sure and isinstance(confidence, int | float) else None,
        "shadow_model_version": version if isinstance(version, str) and version else None,
    }


def guardrail_of(span: SpanRecord | None) -> tuple[bool, tuple[str, ...]]:
    """Return whether the guardrails blocked the turn, and the reasons they gave."""
    if span is None:
        return False, ()
    blocked = span.attributes.get(Attribute.BLOCKED, False)
    if not isinstance(blocked, bool):
        raise ContractError("attribute blocked of span guardrails is neither true nor false")
    return blocked, tuple(strings_of(span, Attribute.REASONS))


def candidates_of(spans: Mapping[str, SpanRecord]) -> tuple[RankedCandidate, ...]:
    """Read the parallel lists of the rerank span, or of the retrieve span where reranking did not happen."""
    retrieve = spans.get(SpanName.RETRIEVE_CHUNKS)
    source = spans.get(SpanName.RERANK_CHUNKS)
    if source is None or Attribute.CANDIDATE_IDS not in source.attributes:
        source = retrieve
    if source is None:
        return ()
    chunk_ids = strings_of(source, Attribute.CANDIDATE_IDS)
    document_ids = strings_of(source, Attribute.DOCUMENT_IDS)
    count = len(chunk_ids)
    if len(document_ids) != count:
        raise ContractError(f"span {source.name} has {count} candidate ids and {len(document_ids)} document ids")
    scores = numbers_of(source, Attribute.RETRIEVAL_SCORES, count) or [0.0] * count
    ranks = numbers_of(source, Attribute.RETRIEVAL_RANKS, count) or [float(rank) for rank in range(1, count + 1)]
    rerank_scores = numbers_of(source, Attribute.RERANK_SCORES, count)
    rerank_ranks = numbers_of(source, Attribute.RERANK_RANKS, count)
    selected = set() if retrieve is None else set(strings_of(retrieve, Attribute.SELECTED_IDS))
    return tuple(
        RankedCandidate(
            chunk_id=chunk_ids[index],
            document_id=document_ids[index],
            retrieval_rank=int(ranks[index]),
            retrieval_score=scores[index],
            rerank_rank=None if rerank_ranks is None else int(rerank_ranks[index]),
            rerank_score=None if rerank_scores is None else rerank_scores[index],
            selected=chunk_ids[index] in selected,
        )
        for index in range(count)
    )


def failed_span_of(spans: Sequence[SpanRecord]) -> SpanRecord | None:
    """Return the deepest failed span that began last: its parents fail only because it did."""
    failed = [span for span in spans if span.status == "ERROR"]
    parents = {span.parent_id for span in failed}
    leaves = [span for span in failed if span.span_id not in parents]
    return max(leaves, key=lambda span: span.start_ns, default=None)


def feedback_of(trace: TraceRecord) -> Feedback | None:
    """Return the thumb of a trace: its tag, or the newest feedback assessment where it has no tag."""
    value: object = tag_of(trace, Tag.USER_FEEDBACK)
    if value is None:
        latest = _latest(trace.assessments, "feedback", USER_FEEDBACK_ASSESSMENT)
        value = None if latest is None else latest.value
    if value is None:
        return None
    if isinstance(value, bool):
        return "thumbs_up" if value else "thumbs_down"
    if value in ("thumbs_up", "thumbs_down"):
        return value
    raise ContractError("user_feedback is neither thumbs_up nor thumbs_down")


def _latest(
    assessments: Sequence[AssessmentRecord], kind: Literal["feedback", "expectation"], name: str
) -> AssessmentRecord | None:
    found = [item for item in assessments if item.kind == kind and item.name == name]
    return max(found, key=lambda item: item.timestamp_ms, default=None)


def review_of(assessments: Sequence[AssessmentRecord]) -> tuple[str | None, tuple[str, ...], str | None]:
    """Return expected intent, relevant documents and reviewer of the latest human review of each side."""
    human = [item for item in assessments if item.source_type == "HUMAN"]
    intent = _latest(human, "expectation", EXPECTED_INTENT)
    documents = _latest(human, "expectation", RELEVANT_DOCUMENTS)
    expected_intent: str | None = None
    if intent is not None:
        if not isinstance(intent.value, str) or not intent.value.strip():
            raise ContractError("expectation expected_intent is not a text")
        expected_intent = intent.value.strip()
    expected_documents: tuple[str, ...] = ()
    if documents is not None:
        found = document_ids(documents.value)
        if found is None:
            raise ContractError("expectation relevant_documents is not a list of document ids")
        expected_documents = found
    latest = max((item for item in (intent, documents) if item), key=lambda item: item.timestamp_ms, default=None)
    return expected_intent, expected_documents, None if latest is None else latest.source_id


def document_ids(value: object) -> tuple[str, ...] | None:
    """Return the ids of a list, or of a text with one a line or between commas or semicolons, as people type them.

    None where it is neither.
    """
    if isinstance(value, str):
        value = [item.strip() for item in re.split(r"[,;\n]", value) if item.strip()]
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) and item for item in value):
        return None
    return tuple(dict.fromkeys(value))


def reviews_of(assessments: Sequence[AssessmentRecord]) -> tuple[Review, ...]:
    """Return all assessments but the shopper's thumb, oldest first; those whose value is free text are left out."""
    found = [
        Review(
            name=item.name,
            kind=item.kind,
            values=values,
            source=_SOURCES[item.source_type],
            source_id=item.source_id,
            timestamp_ms=item.timestamp_ms,
        )
        for item in assessments
        if item.source_type in _SOURCES
        and not (item.kind == "feedback" and item.name == USER_FEEDBACK_ASSESSMENT)
        and (values := _review_values(item))
    ]
    return tuple(sorted(found, key=lambda one: (one.timestamp_ms, one.name, one.source, one.source_id, one.values)))


def _review_values(item: AssessmentRecord) -> tuple[str, ...]:
    value = item.value
    if item.kind == "expectation":
        if item.name == EXPECTED_INTENT and isinstance(value, str):
            return (value.strip(),) if value.strip() else ()
        return (document_ids(value) or ()) if item.name == RELEVANT_DOCUMENTS else ()
    if isinstance(value, bool):
        return ("true",) if value else ("false",)
    if isinstance(value, int | float):
        return (repr(value),)
    verdict = value.strip().lower() if isinstance(value, str) else ""
    return (verdict,) if verdict in _VERDICTS else ()
