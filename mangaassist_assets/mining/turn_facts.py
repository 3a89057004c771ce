"""What one turn says by itself: plain questions that signals and evidence share.

What comes from outside (intents, reasons, spans) is shown by `shown` only: evidence never quotes a shopper.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from mangaassist_assets.tracing.names import EXPECTED_INTENT, SpanName
from mangaassist_assets.tracing.turns import ChatTurn, Review

_PLAIN = re.compile(r"\w[\w.:#/-]{0,63}")
_MANY_DIGITS = re.compile(r"(?:\d[.:/_-]?){7,}")
_FAILING = frozenset({"false", "no", "fail", "failed", "bad", "incorrect"})
_PASSING = frozenset({"true", "yes", "pass", "passed", "good", "correct"})
_MOST_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What the most trusted assessment of one name says: a person's before a judge's, then the latest."""

    name: str
    failed: bool
    by: Literal["human", "judge"]


def shown(name: str | None) -> str:
    """Return a name from outside for a sentence: quoted if it is a plain name, else only how long it is.

    A plain name has no spaces, no `@`, no markup and no long run of digits: neither a message nor a phone number,
    an e-mail address or an order id passes for one.
    """
    if name is None:
        return "none"
    if _PLAIN.fullmatch(name) and not _MANY_DIGITS.search(name):
        return f"'{name}'"
    return f"a name of {len(name)} characters that is no plain one"


def shown_list(names: Iterable[str], *, none: str) -> str:
    """Return a few names from outside for a sentence; `none` where there are none."""
    found = list(dict.fromkeys(names))
    if not found:
        return none
    rest = f" and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
    return ", ".join(shown(name) for name in found[:_MOST_SHOWN]) + rest


def was_searched(turn: ChatTurn) -> bool:
    """Return whether the turn went through a search, as far as its trace tells.

    Traces of other tools that record no search are no empty searches; our own chatbot always searches.
    """
    recorded = {stage.name for stage in turn.stages}
    if SpanName.RETRIEVE_CHUNKS in recorded:
        return True
    return turn.shape == "mangaassist" and not recorded


def blocked_by_itself(turn: ChatTurn, ungrounded_reasons: Collection[str]) -> bool:
    """Return whether the guardrails refused for a reason of their own, and not for want of passages."""
    passed_on = bool(turn.guardrail_reasons) and set(turn.guardrail_reasons) <= set(ungrounded_reasons)
    return turn.guardrail_blocked and not passed_on


def found_nothing(
    turn: ChatTurn, *, intents_without_retrieval: Collection[str], ungrounded_reasons: Collection[str]
) -> bool:
    """Return whether a search that should have found something found nothing."""
    return (
        not turn.candidates
        and turn.state == "OK"
        and not turn.cache_hit
        and turn.intent not in intents_without_retrieval
        and not blocked_by_itself(turn, ungrounded_reasons)
        and was_searched(turn)
    )


def is_contradicted(turn: ChatTurn) -> bool:
    """Return whether a reviewer named another intent than the classifier did."""
    return turn.expected_intent is not None and turn.expected_intent != turn.intent


def is_confirmed(turn: ChatTurn) -> bool:
    """Return whether a reviewer named the intent that the classifier named."""
    return turn.expected_intent is not None and turn.expected_intent == turn.intent


def found_expected(turn: ChatTurn) -> bool:
    """Return whether one of the documents that a reviewer named is among the candidates."""
    return not {candidate.document_id for candidate in turn.candidates}.isdisjoint(turn.expected_documents)


def used_expected(turn: ChatTurn) -> bool:
    """Return whether one of the documents that a reviewer named was selected for the answer."""
    used = {candidate.document_id for candidate in turn.candidates if candidate.selected}
    return not used.isdisjoint(turn.expected_documents)


def is_below(turn: ChatTurn, confidence: float) -> bool:
    """Return whether the classifier's confidence is known and lower than this."""
    return turn.intent_confidence is not None and turn.intent_confidence < confidence


def opinions(turn: ChatTurn, names: Collection[str]) -> list[Opinion]:
    """Return what the assessments of these names say, by name; one without a clear verdict says nothing."""
    best: dict[str, tuple[tuple[bool, int, str], Opinion]] = {}
    for review in turn.reviews:
        verdict = _verdict(review)
        if review.kind != "feedback" or review.name not in names or verdict is None:
            continue
        human = review.source == "human"
        rank = (human, review.timestamp_ms, review.source_id)
        if review.name not in best or rank >= best[review.name][0]:
            by: Literal["human", "judge"] = "human" if human else "judge"
            best[review.name] = rank, Opinion(name=review.name, failed=verdict == "failed", by=by)
    return [best[name][1] for name in sorted(best)]


def judged_intent(turn: ChatTurn) -> str | None:
    """Return the intent that a judging model expects, its latest word; None where none judged."""
    words = [
        review
        for review in turn.reviews
        if review.kind == "expectation" and review.name == EXPECTED_INTENT and review.source != "human"
    ]
    latest = max(words, key=lambda one: (one.timestamp_ms, one.source_id, one.values), default=None)
    return None if latest is None else latest.values[0]


def _verdict(review: Review) -> Literal["failed", "passed"] | None:
    if len(review.values) != 1:
        return None
    if review.values[0] in _FAILING:
        return "failed"
    return "passed" if review.values[0] in _PASSING else None
