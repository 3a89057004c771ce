"""What says that a turn failed. Explicit signals make a failure; implicit ones only rank failures.

An explicit signal is somebody's word (a thumb, a review) or a fact of the trace (an error, a block, nothing found). An
implicit one is a guess from behaviour: low confidence, or the shopper asking the same thing again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from mangaassist_assets.mining.words import word_overlap
from mangaassist_assets.tracing.turns import ChatTurn

SignalName = Literal[
    "thumbs_down",
    "failed_review",
    "guardrail_block",
    "error",
    "empty_retrieval",
    "low_confidence",
    "rephrased",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One reason to look at a turn; `evidence` is a sentence with the figures and no words of the shopper."""

    name: SignalName
    explicit: bool
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalConfig:
    """Thresholds of the signals.

    `low_confidence` is a probability. A turn is rephrased if the same session's next message comes within
    `rephrase_within_s` seconds and shares at least `rephrase_overlap` of the words (Jaccard). Intents in
    `intents_without_retrieval` are answered without a search, so finding nothing is no failure of theirs.
    """

    low_confidence: float = 0.5
    rephrase_within_s: float = 300.0
    rephrase_overlap: float = 0.5
    intents_without_retrieval: frozenset[str] = frozenset()


DEFAULT_SIGNALS = SignalConfig()


def find_signals(turns: Iterable[ChatTurn], *, config: SignalConfig = DEFAULT_SIGNALS) -> dict[str, tuple[Signal, ...]]:
    """Return the signals of each turn by trace id, explicit ones first; turns without any are left out.

    Pass whole sessions: a rephrased question is seen only beside the message that follows it.
    """
    all_turns = list(turns)
    rephrased = _rephrasings(all_turns, config)
    found: dict[str, tuple[Signal, ...]] = {}
    for turn in all_turns:
        signals = [*_explicit_signals(turn, config), *_implicit_signals(turn, rephrased, config)]
        if signals:
            found[turn.trace_id] = tuple(signals)
    return found


def retrieved_nothing(turn: ChatTurn, config: SignalConfig = DEFAULT_SIGNALS) -> bool:
    """Return whether a search that should have found something found nothing."""
    return (
        not turn.candidates
        and turn.state == "OK"
        and not turn.guardrail_blocked
        and not turn.cache_hit
        and turn.intent not in config.intents_without_retrieval
    )


def documents_missed(turn: ChatTurn) -> bool:
    """Return whether a reviewer named documents and none of them was used for the answer."""
    if not turn.expected_documents:
        return False
    used = {candidate.document_id for candidate in turn.candidates if candidate.selected}
    return used.isdisjoint(turn.expected_documents)


def intent_contradicted(turn: ChatTurn) -> bool:
    """Return whether a reviewer named another intent than the classifier did."""
    return turn.expected_intent is not None and turn.expected_intent != turn.intent


def is_unsure(turn: ChatTurn, config: SignalConfig = DEFAULT_SIGNALS) -> bool:
    """Return whether the classifier's confidence is known and low."""
    return turn.intent_confidence is not None and turn.intent_confidence < config.low_confidence


def _explicit_signals(turn: ChatTurn, config: SignalConfig) -> list[Signal]:
    found: list[Signal] = []
    if turn.user_feedback == "thumbs_down":
        found.append(Signal(name="thumbs_down", explicit=True, evidence="the shopper gave a thumbs-down"))
    if intent_contradicted(turn):
        evidence = f"a review expects intent {turn.expected_intent!r}, the classifier said {turn.intent!r}"
        found.append(Signal(name="failed_review", explicit=True, evidence=evidence))
    elif documents_missed(turn):
        evidence = f"none of the {len(turn.expected_documents)} documents a review expects was used"
        found.append(Signal(name="failed_review", explicit=True, evidence=evidence))
    if turn.guardrail_blocked:
        reasons = ", ".join(turn.guardrail_reasons) or "no reason recorded"
        found.append(Signal(name="guardrail_block", explicit=True, evidence=f"the guardrail blocked it: {reasons}"))
    if turn.state == "ERROR":
        span = turn.failed_span or "an unnamed span"
        found.append(Signal(name="error", explicit=True, evidence=f"the turn ended in an error in {span}"))
    if retrieved_nothing(turn, config):
        found.append(Signal(name="empty_retrieval", explicit=True, evidence="the search returned no chunk"))
    return found


def _implicit_signals(turn: ChatTurn, rephrased: Mapping[str, str], config: SignalConfig) -> list[Signal]:
    found: list[Signal] = []
    if is_unsure(turn, config):
        evidence = f"intent confidence {turn.intent_confidence:.2f} is below {config.low_confidence:.2f}"
        found.append(Signal(name="low_confidence", explicit=False, evidence=evidence))
    if turn.trace_id in rephrased:
        found.append(Signal(name="rephrased", explicit=False, evidence=rephrased[turn.trace_id]))
    return found


def _rephrasings(turns: Iterable[ChatTurn], config: SignalConfig) -> dict[str, str]:
    sessions: defaultdict[tuple[str, str], list[ChatTurn]] = defaultdict(list)
    for turn in turns:
        sessions[turn.release_bundle, turn.session_id].append(turn)
    found: dict[str, str] = {}
    for session in sessions.values():
        ordered = sorted(session, key=lambda turn: (turn.timestamp_ms, turn.trace_id))
        for turn, following in pairwise(ordered):
            seconds = (following.timestamp_ms - turn.timestamp_ms) / 1000
            if seconds > config.rephrase_within_s:
                continue
            overlap = word_overlap(turn.message, following.message)
            if overlap >= config.rephrase_overlap:
                found[turn.trace_id] = (
                    f"{overlap:.0%} of the words came again in the same session {seconds:.0f} s later"
                )
    return found
