"""Which stage a failure is blamed on: the first one with evidence against it, and the loop that this feeds.

Stages are tried in the order in which a turn passes them. A later stage cannot be judged on what an earlier one
spoiled, so the first evidence decides; a review outranks a guess, so low confidence blames the classifier only where
no review speaks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from mangaassist_assets.mining.signals import (
    Signal,
    SignalConfig,
    documents_missed,
    find_signals,
    intent_contradicted,
    is_unsure,
    retrieved_nothing,
)
from mangaassist_assets.tracing.turns import ChatTurn

Stage = Literal["infrastructure", "guardrail", "intent", "retrieval", "reranker", "generation", "unknown"]
Loop = Literal["retrain_intent", "retrain_reranker", "reindex", "configuration", "none"]

STAGES: tuple[Stage, ...] = (
    "infrastructure",
    "guardrail",
    "intent",
    "retrieval",
    "reranker",
    "generation",
    "unknown",
)
LOOP_OF_STAGE: Mapping[Stage, Loop] = {
    "infrastructure": "none",
    "guardrail": "configuration",
    "intent": "retrain_intent",
    "retrieval": "reindex",
    "reranker": "retrain_reranker",
    "generation": "configuration",
    "unknown": "none",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Blame:
    """The blamed stage, the sentence that blames it, and how sure that is (0 to 1)."""

    stage: Stage
    evidence: str
    confidence: float

    @property
    def loop(self) -> Loop:
        """The loop this failure feeds."""
        return LOOP_OF_STAGE[self.stage]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlameConfig:
    """Thresholds of signals, and how sure each kind of evidence makes us.

    A trace's own facts and reviews are sure; an unsure classifier under a thumbs-down is a guess.
    """

    signals: SignalConfig = field(default_factory=SignalConfig)
    confidence_of_facts: float = 1.0
    confidence_of_reviews: float = 0.95
    confidence_of_empty_retrieval: float = 0.8
    confidence_of_guesses: float = 0.5


DEFAULT_BLAME = BlameConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedTurn:
    """A turn with at least one explicit signal."""

    turn: ChatTurn
    signals: tuple[Signal, ...]
    blame: Blame

    @property
    def severity(self) -> float:
        """Rank among failures: one for every explicit signal, a quarter for every implicit one."""
        return sum(1.0 if signal.explicit else 0.25 for signal in self.signals)


def find_failures(turns: Iterable[ChatTurn], *, config: BlameConfig = DEFAULT_BLAME) -> list[FailedTurn]:
    """Return the failed turns with their blame, ordered by (timestamp_ms, trace_id).

    Pass all turns of a bundle, not only the bad ones: a rephrased question is known by the message after it.
    """
    all_turns = sorted(turns, key=lambda turn: (turn.timestamp_ms, turn.trace_id))
    signals = find_signals(all_turns, config=config.signals)
    return [
        FailedTurn(turn=turn, signals=signals[turn.trace_id], blame=blame_turn(turn, config=config))
        for turn in all_turns
        if any(signal.explicit for signal in signals.get(turn.trace_id, ()))
    ]


def blame_turn(turn: ChatTurn, *, config: BlameConfig = DEFAULT_BLAME) -> Blame:
    """Return the first stage with evidence against it; `unknown` where nothing speaks against any."""
    for rule in (_infrastructure, _guardrail, _intent, _retrieval, _reranker, _generation):
        blame = rule(turn, config)
        if blame is not None:
            return blame
    return Blame(stage="unknown", evidence="no stage has evidence against it: a review would tell", confidence=0.0)


def _infrastructure(turn: ChatTurn, config: BlameConfig) -> Blame | None:
    if turn.state != "ERROR":
        return None
    where = turn.failed_span or "an unnamed span"
    return Blame(stage="infrastructure", evidence=f"error in {where}", confidence=config.confidence_of_facts)


def _guardrail(turn: ChatTurn, config: BlameConfig) -> Blame | None:
    if not turn.guardrail_blocked:
        return None
    reasons = ", ".join(turn.guardrail_reasons) or "no reason recorded"
    evidence = f"blocked under rule set {turn.guardrail_ruleset_version or 'unknown'}: {reasons}"
    return Blame(stage="guardrail", evidence=evidence, confidence=config.confidence_of_facts)


def _intent(turn: ChatTurn, config: BlameConfig) -> Blame | None:
    if intent_contradicted(turn):
        evidence = f"a review expects {turn.expected_intent!r}, the classifier said {turn.intent!r}"
        return Blame(stage="intent", evidence=evidence, confidence=config.confidence_of_reviews)
    reviewed = turn.expected_intent is not None or bool(turn.expected_documents)
    if turn.user_feedback == "thumbs_down" and is_unsure(turn, config.signals) and not reviewed:
        evidence = (
            f"thumbs-down and intent confidence {turn.intent_confidence:.2f} below {config.signals.low_confidence:.2f}"
        )
        return Blame(stage="intent", evidence=evidence, confidence=config.confidence_of_guesses)
    return None


def _retrieval(turn: ChatTurn, config: BlameConfig) -> Blame | None:
    found = {candidate.document_id for candidate in turn.candidates}
    if turn.expected_documents and found.isdisjoint(turn.expected_documents):
        evidence = (
            f"none of the {len(turn.expected_documents)} expected documents is among {len(turn.candidates)} candidates"
        )
        return Blame(stage="retrieval", evidence=evidence, confidence=config.confidence_of_reviews)
    if retrieved_nothing(turn, config.signals):
        return Blame(
            stage="retrieval",
            evidence="the search returned no chunk",
            confidence=config.confidence_of_empty_retrieval,
        )
    return None


def _reranker(turn: ChatTurn, config: BlameConfig) -> Blame | None:
    if not documents_missed(turn):
        return None
    ranks = [
        candidate.rerank_rank or candidate.retrieval_rank
        for candidate in turn.candidates
        if candidate.document_id in turn.expected_documents
    ]
    evidence = f"an expected document was found but ranked {min(ranks)} of {len(turn.candidates)} and not used"
    return Blame(stage="reranker", evidence=evidence, confidence=config.confidence_of_reviews)


def _generation(turn: ChatTurn, config: BlameConfig) -> Blame | None:
    confirmed = turn.expected_intent is not None and bool(turn.expected_documents)
    if turn.user_feedback != "thumbs_down" or not confirmed:
        return None
    evidence = "thumbs-down although a review confirms the intent and the documents used"
    return Blame(stage="generation", evidence=evidence, confidence=config.confidence_of_reviews)
