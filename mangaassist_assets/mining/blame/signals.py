"""What says that a turn failed. Explicit signals make a failure; implicit ones only rank failures.

An explicit signal is somebody's word (a thumb, a review, a moderator's verdict) or a fact of the trace (an error, a
block, nothing found). An implicit one is a hint: low confidence, the shopper asking the same thing again, a bad mood, a
tool that failed. Which is which, and how much each counts for, is in the mining rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mangaassist_assets.mining.blame.opinions import Opinion, opinions, shown_opinions, trace_opinions
from mangaassist_assets.mining.blame.rule_names import SignalName
from mangaassist_assets.mining.blame.rules import MiningRules, SignalRule, read_rules
from mangaassist_assets.mining.blame.turn_context import TurnContext, context_of
from mangaassist_assets.mining.blame.turn_facts import (
    failed_tools,
    found_nothing,
    is_below,
    is_contradicted,
    misses_expected,
    shown,
    shown_list,
)
from mangaassist_assets.tracing.contract.turns import ChatTurn

__all__ = ["Signal", "SignalName", "find_signals", "signals_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One reason to look at a turn; `evidence` is a sentence with the figures and no words of the shopper.

    `confidence` is how sure the signal makes us that the turn failed, 0 to 1.
    """

    name: SignalName
    explicit: bool
    evidence: str
    confidence: float = 1.0


def find_signals(turns: Iterable[ChatTurn], *, config: MiningRules | None = None) -> dict[str, tuple[Signal, ...]]:
    """Return the signals of each turn by trace id, explicit ones first; turns without any are left out.

    Pass whole sessions: a rephrased question is seen only beside the message that follows it.
    """
    rules = config or read_rules()
    all_turns = list(turns)
    around = context_of(all_turns, rules)
    found = {turn.trace_id: signals_of(turn, rules, around) for turn in all_turns}
    return {trace_id: signals for trace_id, signals in found.items() if signals}


def signals_of(turn: ChatTurn, rules: MiningRules, around: TurnContext) -> tuple[Signal, ...]:
    """Return the signals of one turn, explicit ones first."""
    found: list[Signal] = []
    for name, look in _LOOKS.items():
        rule = rules.signals[name]
        sentence = look(turn, rule, rules, around) if rule.enabled else None
        if sentence is not None:
            found.append(Signal(name=name, explicit=rule.explicit, evidence=sentence, confidence=rule.confidence))
    return tuple(sorted(found, key=lambda signal: not signal.explicit))


def _thumbs_down(turn: ChatTurn, _rule: SignalRule, _rules: MiningRules, _around: TurnContext) -> str | None:
    return "the shopper gave a thumbs-down" if turn.user_feedback == "thumbs_down" else None


def _failed_review(turn: ChatTurn, rule: SignalRule, rules: MiningRules, _around: TurnContext) -> str | None:
    if is_contradicted(turn):
        return f"a review expects intent {shown(turn.expected_intent)}, the classifier said {shown(turn.intent)}"
    if misses_expected(turn):
        return f"none of the {len(turn.expected_documents)} documents a review expects was used"
    failed = [opinion for opinion in opinions(turn, rule.names("assessments"), rules.verdicts) if opinion.failed]
    return _said_to_fail(failed) if failed else None


def _said_to_fail(failed: list[Opinion]) -> str:
    who = "a person" if any(opinion.by == "human" for opinion in failed) else "a judge"
    return f"{who} said no to {shown_opinions(failed)}"


def _failed_verdict(turn: ChatTurn, rule: SignalRule, rules: MiningRules, _around: TurnContext) -> str | None:
    failed = [one for one in trace_opinions(turn, rule.names("verdicts"), rules.verdicts) if one.failed]
    return f"the trace's verdicts say no to {shown_opinions(failed)}" if failed else None


def _tool_failed(turn: ChatTurn, _rule: SignalRule, _rules: MiningRules, _around: TurnContext) -> str | None:
    failed = failed_tools(turn)
    return f"the last call of {shown_list(failed, none='')} failed" if failed else None


def _guardrail_block(turn: ChatTurn, _rule: SignalRule, _rules: MiningRules, _around: TurnContext) -> str | None:
    if not turn.guardrail_blocked:
        return None
    return f"the guardrail blocked it: {shown_list(turn.guardrail_reasons, none='no reason recorded')}"


def _error(turn: ChatTurn, _rule: SignalRule, _rules: MiningRules, _around: TurnContext) -> str | None:
    if turn.state != "ERROR":
        return None
    return f"the turn ended in an error in {shown(turn.failed_span) if turn.failed_span else 'an unnamed span'}"


def _empty_retrieval(turn: ChatTurn, _rule: SignalRule, rules: MiningRules, _around: TurnContext) -> str | None:
    empty = found_nothing(
        turn,
        intents_without_retrieval=rules.intents_without_retrieval,
        ungrounded_reasons=rules.ungrounded_reasons,
    )
    return "the search returned no chunk" if empty else None


def _low_confidence(turn: ChatTurn, rule: SignalRule, _rules: MiningRules, _around: TurnContext) -> str | None:
    below = rule.number("below")
    return f"intent confidence {turn.intent_confidence:.2f} is below {below:.2f}" if is_below(turn, below) else None


def _rephrased(turn: ChatTurn, _rule: SignalRule, _rules: MiningRules, around: TurnContext) -> str | None:
    again = around.rephrasings.get(turn.trace_id)
    if again is None:
        return None
    return f"{again.overlap:.0%} of the words came again in the same session {again.seconds:.0f} s later"


_Look = Callable[[ChatTurn, SignalRule, MiningRules, TurnContext], str | None]
_LOOKS: Mapping[SignalName, _Look] = {
    "thumbs_down": _thumbs_down,
    "failed_review": _failed_review,
    "guardrail_block": _guardrail_block,
    "error": _error,
    "empty_retrieval": _empty_retrieval,
    "failed_verdict": _failed_verdict,
    "low_confidence": _low_confidence,
    "rephrased": _rephrased,
    "noted_verdict": _failed_verdict,
    "tool_failed": _tool_failed,
}
