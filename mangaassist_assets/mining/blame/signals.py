"""What says that a turn failed. Explicit signals make a failure; implicit ones only rank failures.

An explicit signal is somebody's word (a thumb, a review, a moderator's verdict) or a fact of the trace (an error, a
block, nothing found). An implicit one is a hint: low confidence, the shopper asking the same thing again, a bad mood, a
tool that failed. Which is which, and how much each counts for, is in the mining rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from mangaassist_assets.mining.blame.evidence import (
    Look,
    nothing_found,
    tool_failed,
    turn_in_error,
    unsure_classifier,
    verdict_failed,
)
from mangaassist_assets.mining.blame.opinions import opinions, shown_opinions
from mangaassist_assets.mining.blame.rule_names import SignalName
from mangaassist_assets.mining.blame.rules import MiningRules, SignalRule
from mangaassist_assets.mining.blame.turn_context import TurnContext
from mangaassist_assets.mining.blame.turn_facts import is_contradicted, misses_expected, shown, shown_list
from mangaassist_assets.tracing.contract.turns import ChatTurn


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One reason to look at a turn; `evidence` is a sentence with the figures and no words of the shopper.

    `confidence` is how sure the signal makes us that the turn failed, 0 to 1.
    """

    name: SignalName
    explicit: bool
    evidence: str
    confidence: float = 1.0


def signals_of(turn: ChatTurn, rules: MiningRules, around: TurnContext) -> tuple[Signal, ...]:
    """Return the signals of one turn, explicit ones first."""
    found: list[Signal] = []
    for name, look_for in _LOOKS.items():
        rule = rules.signals[name]
        sentence = look_for(Look(turn, rule, rules, around)) if rule.enabled else None
        if sentence is not None:
            found.append(Signal(name=name, explicit=rule.explicit, evidence=sentence, confidence=rule.confidence))
    return tuple(sorted(found, key=lambda signal: not signal.explicit))


def may_fail(rules: MiningRules, around: TurnContext) -> pl.Expr:
    """Return a condition on the columns of stored turns that every turn with an explicit signal meets.

    Others meet it as well: only `signals_of` tells.
    """
    return pl.any_horizontal(
        _NEEDED[name](rule, around).fill_null(value=False)
        for name, rule in rules.signals.items()
        if rule.explicit and rule.enabled
    )


def _thumbs_down(look: Look) -> str | None:
    return "the shopper gave a thumbs-down" if look.turn.user_feedback == "thumbs_down" else None


def _failed_review(look: Look) -> str | None:
    turn = look.turn
    if is_contradicted(turn):
        return f"a review expects intent {shown(turn.expected_intent)}, the classifier said {shown(turn.intent)}"
    if misses_expected(turn):
        return f"none of the {len(turn.expected_documents)} documents a review expects was used"
    found = opinions(turn, look.rule.names("assessments"), look.rules.verdicts)
    failed = [opinion for opinion in found if opinion.failed]
    if not failed:
        return None
    who = "a person" if any(opinion.by == "human" for opinion in failed) else "a judge"
    return f"{who} said no to {shown_opinions(failed)}"


def _guardrail_block(look: Look) -> str | None:
    if not look.turn.guardrail_blocked:
        return None
    return f"the guardrail blocked it: {shown_list(look.turn.guardrail_reasons, none='no reason recorded')}"


def _error(look: Look) -> str | None:
    error = turn_in_error(look)
    return None if error is None else f"the turn ended in an {error}"


def _rephrased(look: Look) -> str | None:
    again = look.around.rephrasings.get(look.turn.trace_id)
    if again is None:
        return None
    return f"{again.overlap:.0%} of the words came again in the same session {again.seconds:.0f} s later"


_LOOKS: Mapping[SignalName, Callable[[Look], str | None]] = {
    "thumbs_down": _thumbs_down,
    "failed_review": _failed_review,
    "guardrail_block": _guardrail_block,
    "error": _error,
    "empty_retrieval": nothing_found,
    "failed_verdict": verdict_failed,
    "low_confidence": unsure_classifier,
    "rephrased": _rephrased,
    "noted_verdict": verdict_failed,
    "tool_failed": tool_failed,
}

_NEEDED: Mapping[SignalName, Callable[[SignalRule, TurnContext], pl.Expr]] = {
    "thumbs_down": lambda *_: pl.col("user_feedback") == "thumbs_down",
    "failed_review": lambda *_: pl.any_horizontal(
        pl.col("expected_intent").is_not_null(), _is_filled("expected_documents"), _is_filled("reviews")
    ),
    "guardrail_block": lambda *_: pl.col("guardrail_blocked"),
    "error": lambda *_: pl.col("state") == "ERROR",
    "empty_retrieval": lambda *_: pl.col("candidate_count") == 0,
    "failed_verdict": lambda *_: _is_filled("verdicts"),
    "low_confidence": lambda rule, _: pl.col("intent_confidence") < rule.number("below"),
    "rephrased": lambda _, around: pl.col("trace_id").is_in(list(around.rephrasings)),
    "noted_verdict": lambda *_: _is_filled("verdicts"),
    "tool_failed": lambda *_: _is_filled("tools"),
}
"""What the columns of a turn have wherever the look of the same name finds something."""


def _is_filled(name: str) -> pl.Expr:
    return pl.col(name).list.len() > 0
