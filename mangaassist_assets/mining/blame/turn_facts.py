"""What one turn shows by itself: plain questions that signals and evidence share.

What comes from outside (intents, reasons, spans) is shown by `shown` only: evidence never quotes a shopper.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mangaassist_assets.mining.blame.rules import MiningRules
from mangaassist_assets.tracing.contract.turns import ChatTurn

_PLAIN = re.compile(r"\w[\w.:#/-]{0,63}")
_MANY_DIGITS = re.compile(r"(?:\d[.:/_-]?){7,}")
MOST_SHOWN = 3


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
    rest = f" and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else ""
    return ", ".join(shown(name) for name in found[:MOST_SHOWN]) + rest


def blocked_by_itself(turn: ChatTurn, rules: MiningRules) -> bool:
    """Return whether the guardrails refused for a reason of their own, and not for want of passages."""
    passed_on = bool(turn.guardrail_reasons) and set(turn.guardrail_reasons) <= rules.ungrounded_reasons
    return turn.guardrail_blocked and not passed_on


def found_nothing(turn: ChatTurn, rules: MiningRules) -> bool:
    """Return whether a search that should have found something found nothing, as its trace shows.

    A trace that records no candidates is no record of an empty search either.
    """
    return (
        turn.candidate_count == 0
        and not turn.candidates
        and turn.state == "OK"
        and not turn.cache_hit
        and turn.intent not in rules.intents_without_retrieval
        and not blocked_by_itself(turn, rules)
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


def records_candidates(turn: ChatTurn) -> bool:
    """Return whether the trace records which chunks the search found, be it none."""
    return bool(turn.candidates) or turn.candidate_count == 0


def misses_expected(turn: ChatTurn) -> bool:
    """Return whether the trace shows that no document was used that a reviewer named.

    A trace that names no selected chunk shows it only where none of them was found either.
    """
    if not turn.expected_documents or not records_candidates(turn) or used_expected(turn):
        return False
    return not found_expected(turn) or records_selection(turn)


def records_selection(turn: ChatTurn) -> bool:
    """Return whether the trace records which candidates were used."""
    return any(candidate.selected for candidate in turn.candidates)


def is_below(turn: ChatTurn, confidence: float) -> bool:
    """Return whether the classifier's confidence is known and lower than this."""
    return turn.intent_confidence is not None and turn.intent_confidence < confidence


def failed_tools(turn: ChatTurn) -> list[str]:
    """Return the tools whose last call failed: a call that was tried again and worked did no harm."""
    last = {call.name: call for call in turn.tools}
    return [name for name, call in last.items() if call.failed]
