"""The trace contract: names of tags, spans and attributes, and the reading of a trace under it.

`parse_turn` is the only door from a trace to a `ChatTurn`. What breaks the contract goes to quarantine with its
reason: counted, kept, never dropped, never trained on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mangaassist_assets.tracing.names import (
    EXPECTED_INTENT,
    RELEVANT_DOCUMENTS,
    USER_FEEDBACK_ASSESSMENT,
    Attribute,
    SpanName,
    Tag,
)
from mangaassist_assets.tracing.records import AssessmentRecord, SpanRecord, TraceRecord
from mangaassist_assets.tracing.redaction import Vocabulary, conversation_key, is_pseudonym, pseudonym, redact
from mangaassist_assets.tracing.shapes import in_contract_shape
from mangaassist_assets.tracing.turns import ChatTurn, Feedback, Generation, RankedCandidate, StageTiming, TraceShape

_BUNDLE = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,62}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
CONTRACT_VERSION = 2
"""Goes up when the same trace would be read as another turn: what is landed is then read again."""
_MAXIMUM_TAG = 250
_MAXIMUM_COUNT = 2**53
_CONTRACT_SPANS: frozenset[str] = frozenset(SpanName)
_CONTRACT_TAGS: frozenset[str] = frozenset(Tag)


class InvalidBundleError(ValueError):
    """A release bundle key that cannot be a partition, a path or a tag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A trace that breaks the contract. Holds no text of the conversation."""

    trace_id: str
    timestamp_ms: int
    reason: str
    release_bundle: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnReading:
    """What a set of traces said: valid turns, quarantined traces, and how many were still being written."""

    turns: tuple[ChatTurn, ...]
    quarantined: tuple[Quarantined, ...]
    in_progress: int


def validate_bundle(key: str) -> str:
    """Return the release bundle key unchanged.

    Raises:
        InvalidBundleError: It is not 1 to 63 letters, digits, dots, dashes and underscores beginning with a letter
            or digit, or it contains `..`.
    """
    if not isinstance(key, str) or not _BUNDLE.fullmatch(key) or ".." in key:
        shown = repr(key)[:80]
        raise InvalidBundleError(
            f"release bundle {shown} is not valid: use 1 to 63 letters, digits, '.', '-' or '_', beginning with a "
            "letter or digit, without '..' (for example 2026.03.24-rc2)"
        )
    return key


def read_turns(records: Iterable[TraceRecord]) -> TurnReading:
    """Parse traces; those still IN_PROGRESS are counted and left for the next reading."""
    turns: list[ChatTurn] = []
    quarantined: list[Quarantined] = []
    in_progress = 0
    for record in records:
        if record.state == "IN_PROGRESS":
            in_progress += 1
            continue
        parsed = parse_turn(record)
        if isinstance(parsed, ChatTurn):
            turns.append(parsed)
        else:
            quarantined.append(parsed)
    return TurnReading(turns=tuple(turns), quarantined=tuple(quarantined), in_progress=in_progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceReading:
    """One finished trace under the contract: a turn or its reason for quarantine, and which parts were there.

    `tags` and `spans` are the names of the contract that the trace has; `user_key` is a pseudonym or None.
    """

    outcome: ChatTurn | Quarantined
    state: str
    tags: frozenset[str]
    spans: frozenset[str]
    user_key: str | None


def read_trace(
    trace: TraceRecord, *, pseudonym_key: bytes | None = None, vocabulary: Vocabulary | None = None
) -> TraceReading:
    """Read one finished trace under the contract, whatever tool wrote it.

    Message, answer and error are redacted again here, so a turn is free of personal data whoever wrote the trace.

    Args:
        trace: The trace.
        pseudonym_key: The installation's secret. With it a user id that some other tool wrote plainly becomes a
            pseudonym, and placeholders are the same in all turns of a session; without it such an id is dropped.
        vocabulary: The store's own words, which are no personal data.
    """
    shape, shaped = in_contract_shape(trace)
    shaped = replace(shaped, user_key=_user_key(shaped.user_key, pseudonym_key))
    outcome: ChatTurn | Quarantined
    try:
        outcome = _parse(shaped, shape, _Redactor(pseudonym_key, vocabulary))
    except _ContractError as broken:
        outcome = Quarantined(
            trace_id=trace.trace_id,
            timestamp_ms=trace.timestamp_ms,
            reason=str(broken),
            release_bundle=_valid_bundle_or_none(shaped.tags.get(Tag.RELEASE_BUNDLE)),
        )
    return TraceReading(
        outcome=outcome,
        state=trace.state,
        tags=_CONTRACT_TAGS & {name for name, value in shaped.tags.items() if value},
        spans=_CONTRACT_SPANS & {span.name for span in shaped.spans},
        user_key=shaped.user_key,
    )


def parse_turn(trace: TraceRecord) -> ChatTurn | Quarantined:
    """Return the turn of a finished trace, or the quarantined trace with the first reason found."""
    return read_trace(trace).outcome


class _ContractError(Exception):
    """Why a trace cannot be a turn."""


def _valid_bundle_or_none(key: str | None) -> str | None:
    return key if key is not None and _BUNDLE.fullmatch(key) and ".." not in key else None


def _user_key(user: str | None, key: bytes | None) -> str | None:
    """Return the pseudonym of a user, or None where there is none to be had."""
    if not user or is_pseudonym(user):
        return user or None
    return None if key is None else pseudonym(user, key)


@dataclass(frozen=True, slots=True)
class _Redactor:
    """How the texts of a trace are redacted."""

    key: bytes | None
    vocabulary: Vocabulary | None

    def of_session(self, session_id: str) -> Callable[[str], str]:
        """Return what redacts the texts of one session."""
        conversation = None if self.key is None else conversation_key(session_id, self.key)
        return lambda text: redact(text, conversation=conversation, vocabulary=self.vocabulary).text


def _parse(trace: TraceRecord, shape: TraceShape, redactor: _Redactor) -> ChatTurn:
    bundle = _bundle(trace)
    session_id = _tag(trace, Tag.SESSION_ID)
    if session_id is None:
        raise _ContractError("tag session_id is missing")
    redacted = redactor.of_session(session_id)
    state = _state(trace)
    spans = _spans_by_name(trace.spans)
    root = spans.get(SpanName.CHAT_TURN)
    if root is None:
        raise _ContractError(f"span {SpanName.CHAT_TURN} is missing")
    message = _text_of(root.inputs, "message", "inputs of span chat_turn")
    if message is None:
        raise _ContractError("inputs of span chat_turn have no message")
    answer = _text_of(root.outputs, "answer", "outputs of span chat_turn")
    blocked, reasons = _guardrail(spans.get(SpanName.GUARDRAILS))
    failed = _failed_span(trace.spans) if state == "ERROR" else None
    expected_intent, expected_documents, reviewer = _review(trace.assessments)
    return ChatTurn(
        trace_id=trace.trace_id,
        timestamp_ms=trace.timestamp_ms,
        duration_ms=trace.duration_ms,
        state=state,
        release_bundle=bundle,
        session_id=session_id,
        user_key=trace.user_key,
        message=redacted(message),
        answer=None if answer is None else redacted(answer),
        intent=_tag(trace, Tag.INTENT),
        intent_confidence=_confidence(spans.get(SpanName.INTENT_CLASSIFICATION)),
        intent_model_version=_tag(trace, Tag.INTENT_MODEL_VERSION),
        reranker_version=_tag(trace, Tag.RERANKER_VERSION),
        prompt_version=_tag(trace, Tag.PROMPT_VERSION),
        bedrock_model_id=_tag(trace, Tag.BEDROCK_MODEL_ID),
        guardrail_ruleset_version=_tag(trace, Tag.GUARDRAIL_RULESET_VERSION),
        routing_policy_version=_tag(trace, Tag.ROUTING_POLICY_VERSION),
        index_generation=_tag(trace, Tag.INDEX_GENERATION),
        embedding_model_id=_tag(trace, Tag.EMBEDDING_MODEL_ID),
        experiment_id=_tag(trace, Tag.EXPERIMENT_ID),
        cache_hit=_boolean_tag(trace, Tag.CACHE_HIT),
        candidates=_candidates(spans),
        guardrail_blocked=blocked,
        guardrail_reasons=reasons,
        failed_span=None if failed is None else failed.name,
        error=None if failed is None else redacted(failed.status_message[:500]) or None,
        user_feedback=_feedback(trace),
        expected_intent=expected_intent,
        expected_documents=expected_documents,
        reviewer=reviewer,
        stages=_stages(trace.spans),
        generations=_generations(trace),
        shape=shape,
    )


def _stages(spans: Sequence[SpanRecord]) -> tuple[StageTiming, ...]:
    """Return the timing of each span of the contract, in the order they began; a retried stage is there twice."""
    return tuple(
        StageTiming(
            name=str(span.name),
            duration_ms=max(0, span.end_ns - span.start_ns) / 1_000_000,
            failed=span.status == "ERROR",
        )
        for span in sorted(spans, key=lambda span: (span.start_ns, span.name))
        if span.name in _CONTRACT_SPANS
    )


def _generations(trace: TraceRecord) -> tuple[Generation, ...]:
    """Return what each `bedrock_generate` span says of its model call, in the order they began."""
    return tuple(
        Generation(
            model_id=_optional_text(span, Attribute.BEDROCK_MODEL_ID) or _tag(trace, Tag.BEDROCK_MODEL_ID),
            input_tokens=_count(span, Attribute.INPUT_TOKENS),
            output_tokens=_count(span, Attribute.OUTPUT_TOKENS),
            cache_read_tokens=_count(span, Attribute.CACHE_READ_TOKENS),
            cache_write_tokens=_count(span, Attribute.CACHE_WRITE_TOKENS),
            stop_reason=_optional_text(span, Attribute.STOP_REASON),
            reported_cost_usd=_cost(span),
        )
        for span in sorted(trace.spans, key=lambda span: (span.start_ns, span.span_id))
        if span.name == SpanName.BEDROCK_GENERATE
    )


def _optional_text(span: SpanRecord, name: Attribute) -> str | None:
    value = span.attributes.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > _MAXIMUM_TAG or _CONTROL.search(value):
        raise _ContractError(f"attribute {name} of span {span.name} is not a text of up to {_MAXIMUM_TAG} characters")
    return value


def _count(span: SpanRecord, name: Attribute) -> int | None:
    value = span.attributes.get(name)
    if value is None:
        return None
    count = _number(value, f"attribute {name} of span {span.name}")
    if count < 0 or count != int(count) or count > _MAXIMUM_COUNT:
        raise _ContractError(f"attribute {name} of span {span.name} is not a count")
    return int(count)


def _cost(span: SpanRecord) -> float | None:
    value = span.attributes.get(Attribute.REPORTED_COST_USD)
    if value is None:
        return None
    cost = _number(value, f"attribute {Attribute.REPORTED_COST_USD} of span {span.name}")
    if cost < 0:
        raise _ContractError(f"attribute {Attribute.REPORTED_COST_USD} of span {span.name} is below zero")
    return cost


def _bundle(trace: TraceRecord) -> str:
    key = trace.tags.get(Tag.RELEASE_BUNDLE)
    if not key:
        raise _ContractError("tag release_bundle is missing")
    valid = _valid_bundle_or_none(key)
    if valid is None:
        raise _ContractError("tag release_bundle is not a valid bundle key")
    return valid


def _state(trace: TraceRecord) -> Literal["OK", "ERROR"]:
    if trace.state in ("OK", "ERROR"):
        return trace.state
    raise _ContractError(f"trace state is {trace.state}, not OK or ERROR")


def _tag(trace: TraceRecord, name: Tag) -> str | None:
    value = trace.tags.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise _ContractError(f"tag {name} is {type(value).__name__}, not text")
    if len(value) > _MAXIMUM_TAG or _CONTROL.search(value):
        raise _ContractError(f"tag {name} is longer than {_MAXIMUM_TAG} characters or holds control characters")
    return value


def _boolean_tag(trace: TraceRecord, name: Tag) -> bool | None:
    value = _tag(trace, name)
    if value is None:
        return None
    if value.lower() not in ("true", "false"):
        raise _ContractError(f"tag {name} is neither true nor false")
    return value.lower() == "true"


def _spans_by_name(spans: Sequence[SpanRecord]) -> dict[str, SpanRecord]:
    """Return the last span of each name: a retried stage leaves several, and the last one is what the turn used."""
    return {span.name: span for span in sorted(spans, key=lambda span: span.start_ns)}


def _text_of(value: object, key: str, where: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise _ContractError(f"{where} are {type(value).__name__}, not an object")
    text = value.get(key)
    if text is not None and not isinstance(text, str):
        raise _ContractError(f"{key} in {where} is {type(text).__name__}, not text")
    return text


def _confidence(span: SpanRecord | None) -> float | None:
    if span is None or Attribute.CONFIDENCE not in span.attributes:
        return None
    confidence = _number(span.attributes[Attribute.CONFIDENCE], "attribute confidence")
    if not 0.0 <= confidence <= 1.0:
        raise _ContractError(f"attribute confidence is {confidence}, not between 0 and 1")
    return confidence


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _ContractError(f"{where} is not a finite number")
    return float(value)


def _guardrail(span: SpanRecord | None) -> tuple[bool, tuple[str, ...]]:
    if span is None:
        return False, ()
    blocked = span.attributes.get(Attribute.BLOCKED, False)
    if not isinstance(blocked, bool):
        raise _ContractError("attribute blocked of span guardrails is neither true nor false")
    return blocked, tuple(_strings(span, Attribute.REASONS))


def _strings(span: SpanRecord, name: Attribute) -> list[str]:
    value = span.attributes.get(name, [])
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise _ContractError(f"attribute {name} of span {span.name} is not a list of texts")
    return list(value)


def _numbers(span: SpanRecord, name: Attribute, length: int) -> list[float] | None:
    value = span.attributes.get(name)
    if value is None or (value == [] and length):
        return None
    if not isinstance(value, list | tuple) or len(value) != length:
        raise _ContractError(f"attribute {name} of span {span.name} is not a list of {length} numbers")
    return [_number(item, f"attribute {name} of span {span.name}") for item in value]


def _candidates(spans: Mapping[str, SpanRecord]) -> tuple[RankedCandidate, ...]:
    """Read the parallel lists of the rerank span, or of the retrieve span where reranking did not happen."""
    retrieve = spans.get(SpanName.RETRIEVE_CHUNKS)
    source = spans.get(SpanName.RERANK_CHUNKS)
    if source is None or Attribute.CANDIDATE_IDS not in source.attributes:
        source = retrieve
    if source is None:
        return ()
    chunk_ids = _strings(source, Attribute.CANDIDATE_IDS)
    document_ids = _strings(source, Attribute.DOCUMENT_IDS)
    count = len(chunk_ids)
    if len(document_ids) != count:
        raise _ContractError(f"span {source.name} has {count} candidate ids and {len(document_ids)} document ids")
    scores = _numbers(source, Attribute.RETRIEVAL_SCORES, count) or [0.0] * count
    ranks = _numbers(source, Attribute.RETRIEVAL_RANKS, count) or [float(rank) for rank in range(1, count + 1)]
    rerank_scores = _numbers(source, Attribute.RERANK_SCORES, count)
    rerank_ranks = _numbers(source, Attribute.RERANK_RANKS, count)
    selected = set() if retrieve is None else set(_strings(retrieve, Attribute.SELECTED_IDS))
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


def _failed_span(spans: Sequence[SpanRecord]) -> SpanRecord | None:
    """Return the deepest failed span that began last: its parents fail only because it did."""
    failed = [span for span in spans if span.status == "ERROR"]
    parents = {span.parent_id for span in failed}
    leaves = [span for span in failed if span.span_id not in parents]
    return max(leaves, key=lambda span: span.start_ns, default=None)


def _feedback(trace: TraceRecord) -> Feedback | None:
    value: object = _tag(trace, Tag.USER_FEEDBACK)
    if value is None:
        latest = _latest(trace.assessments, "feedback", USER_FEEDBACK_ASSESSMENT)
        value = None if latest is None else latest.value
    if value is None:
        return None
    if isinstance(value, bool):
        return "thumbs_up" if value else "thumbs_down"
    if value in ("thumbs_up", "thumbs_down"):
        return value
    raise _ContractError("user_feedback is neither thumbs_up nor thumbs_down")


def _latest(
    assessments: Sequence[AssessmentRecord], kind: Literal["feedback", "expectation"], name: str
) -> AssessmentRecord | None:
    found = [item for item in assessments if item.kind == kind and item.name == name]
    return max(found, key=lambda item: item.timestamp_ms, default=None)


def _review(assessments: Sequence[AssessmentRecord]) -> tuple[str | None, tuple[str, ...], str | None]:
    """Return expected intent, relevant documents and reviewer of the latest human review of each side."""
    human = [item for item in assessments if item.source_type == "HUMAN"]
    intent = _latest(human, "expectation", EXPECTED_INTENT)
    documents = _latest(human, "expectation", RELEVANT_DOCUMENTS)
    expected_intent: str | None = None
    if intent is not None:
        if not isinstance(intent.value, str) or not intent.value.strip():
            raise _ContractError("expectation expected_intent is not a text")
        expected_intent = intent.value.strip()
    expected_documents: tuple[str, ...] = ()
    if documents is not None:
        value = documents.value
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) and item for item in value):
            raise _ContractError("expectation relevant_documents is not a list of document ids")
        expected_documents = tuple(dict.fromkeys(value))
    latest = max((item for item in (intent, documents) if item), key=lambda item: item.timestamp_ms, default=None)
    return expected_intent, expected_documents, None if latest is None else latest.source_id
