"""The trace contract: the reading of a trace under it. The names it uses are in `names`.

`parse_turn` is the only door from a trace to a `ChatTurn`. What breaks the contract goes to quarantine with its
reason: counted, kept, never dropped, never trained on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from mangaassist_assets.tracing.names import (
    ShadowSpan,
    SpanName,
    Tag,
)
from mangaassist_assets.tracing.records import TraceRecord
from mangaassist_assets.tracing.redaction import Vocabulary, conversation_key, is_pseudonym, pseudonym, redact
from mangaassist_assets.tracing.shapes import in_contract_shape
from mangaassist_assets.tracing.turn_parts import (
    CONTRACT_SPANS,
    candidates_of,
    confidence_of,
    failed_span_of,
    feedback_of,
    generations_of,
    guardrail_of,
    review_of,
    reviews_of,
    shadow_of,
    spans_by_name,
    stages_of,
)
from mangaassist_assets.tracing.turns import ChatTurn, TraceShape
from mangaassist_assets.tracing.typed_values import ContractError, boolean_tag_of, tag_of, text_of

_BUNDLE = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,62}")
CONTRACT_VERSION = 6
"""Goes up when the same trace would be read as another turn: what is landed is then read again."""
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
    except ContractError as broken:
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
        spans=CONTRACT_SPANS & {span.name for span in shaped.spans},
        user_key=shaped.user_key,
    )


def parse_turn(trace: TraceRecord) -> ChatTurn | Quarantined:
    """Return the turn of a finished trace, or the quarantined trace with the first reason found."""
    return read_trace(trace).outcome


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
    session_id = tag_of(trace, Tag.SESSION_ID)
    if session_id is None:
        raise ContractError("tag session_id is missing")
    redacted = redactor.of_session(session_id)
    state = _state(trace)
    spans = spans_by_name(trace.spans)
    root = spans.get(SpanName.CHAT_TURN)
    if root is None:
        raise ContractError(f"span {SpanName.CHAT_TURN} is missing")
    message = text_of(root.inputs, "message", "inputs of span chat_turn")
    if message is None:
        raise ContractError("inputs of span chat_turn have no message")
    answer = text_of(root.outputs, "answer", "outputs of span chat_turn")
    blocked, reasons = guardrail_of(spans.get(SpanName.GUARDRAILS))
    failed = failed_span_of(trace.spans) if state == "ERROR" else None
    expected_intent, expected_documents, reviewer = review_of(trace.assessments)
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
        intent=tag_of(trace, Tag.INTENT),
        intent_confidence=confidence_of(spans.get(SpanName.INTENT_CLASSIFICATION)),
        intent_model_version=tag_of(trace, Tag.INTENT_MODEL_VERSION),
        reranker_version=tag_of(trace, Tag.RERANKER_VERSION),
        prompt_version=tag_of(trace, Tag.PROMPT_VERSION),
        bedrock_model_id=tag_of(trace, Tag.BEDROCK_MODEL_ID),
        guardrail_ruleset_version=tag_of(trace, Tag.GUARDRAIL_RULESET_VERSION),
        routing_policy_version=tag_of(trace, Tag.ROUTING_POLICY_VERSION),
        index_generation=tag_of(trace, Tag.INDEX_GENERATION),
        embedding_model_id=tag_of(trace, Tag.EMBEDDING_MODEL_ID),
        experiment_id=tag_of(trace, Tag.EXPERIMENT_ID),
        **shadow_of(spans.get(ShadowSpan.INTENT_CLASSIFICATION)),
        tenant=tag_of(trace, Tag.TENANT),
        cache_hit=boolean_tag_of(trace, Tag.CACHE_HIT),
        candidates=candidates_of(spans),
        guardrail_blocked=blocked,
        guardrail_reasons=reasons,
        failed_span=None if failed is None else failed.name,
        error=None if failed is None else redacted(failed.status_message[:500]) or None,
        user_feedback=feedback_of(trace),
        expected_intent=expected_intent,
        expected_documents=expected_documents,
        reviewer=reviewer,
        reviews=reviews_of(trace.assessments),
        stages=stages_of(trace.spans),
        generations=generations_of(trace),
        shape=shape,
    )


def _bundle(trace: TraceRecord) -> str:
    key = trace.tags.get(Tag.RELEASE_BUNDLE)
    if not key:
        raise ContractError("tag release_bundle is missing")
    valid = _valid_bundle_or_none(key)
    if valid is None:
        raise ContractError("tag release_bundle is not a valid bundle key")
    return valid


def _state(trace: TraceRecord) -> Literal["OK", "ERROR"]:
    if trace.state in ("OK", "ERROR"):
        return trace.state
    raise ContractError(f"trace state is {trace.state}, not OK or ERROR")
