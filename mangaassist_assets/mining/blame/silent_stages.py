"""Stages of which a trace records nothing: such a stage can be judged by reviews only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mangaassist_assets.mining.blame.opinions import opinions, trace_opinions
from mangaassist_assets.mining.blame.rule_names import JUDGED_STAGES, Stage
from mangaassist_assets.mining.blame.rules import MiningRules
from mangaassist_assets.mining.blame.turn_facts import blocked_by_itself
from mangaassist_assets.tracing.contract.names import SpanName
from mangaassist_assets.tracing.contract.turns import ChatTurn

MISSING: Final[Mapping[Stage, str]] = {
    "guardrail": "no guardrail's verdict",
    "intent": "neither an intent nor a confidence",
    "retrieval": "no candidates",
    "reranker": "neither an order nor scores of a reranker",
    "generation": "no answer, no tokens and no stop reason",
}
"""What a trace must record of a stage so that it can be judged. Infrastructure always can: a trace has a state."""


def unrecorded_stages(turn: ChatTurn, rules: MiningRules) -> frozenset[Stage]:
    """Return the stages of which neither the trace holds anything nor an assessment that the rules look at."""
    return frozenset(
        stage for stage in JUDGED_STAGES if not _records(turn, stage, rules) and not _assessed(turn, stage, rules)
    )


def is_passed(turn: ChatTurn, stage: Stage, rules: MiningRules) -> bool:
    """Return whether the turn went through a stage for all that its trace shows.

    One that ended in an error or was blocked, came from a cache, needed no search or found nothing left stages out:
    nothing is missing of these.
    """
    if turn.state == "ERROR":
        return stage == "infrastructure"
    if blocked_by_itself(turn, rules):
        return stage in ("infrastructure", "guardrail")
    if stage in ("retrieval", "reranker") and (turn.cache_hit or turn.intent in rules.intents_without_retrieval):
        return False
    return stage != "reranker" or turn.candidate_count != 0


def _records(turn: ChatTurn, stage: Stage, rules: MiningRules) -> bool:
    match stage:
        case "guardrail":
            return (
                turn.guardrail_blocked
                or bool(turn.guardrail_reasons)
                or any(one.name == SpanName.GUARDRAILS for one in turn.stages)
                or any(one.stop_reason in _guardrail_stops(rules) for one in turn.generations)
            )
        case "intent":
            return turn.intent is not None or turn.intent_confidence is not None
        case "retrieval":
            # A block for want of passages is the guardrail's word on what the search found.
            passed_on = turn.guardrail_blocked and not blocked_by_itself(turn, rules)
            return bool(turn.candidates) or turn.candidate_count is not None or passed_on
        case "reranker":
            return any(one.rerank_rank is not None or one.rerank_score is not None for one in turn.candidates)
        case "generation":
            return turn.answer is not None or any(
                one.output_tokens is not None or one.input_tokens is not None or one.stop_reason is not None
                for one in turn.generations
            )
        case _:
            return True


def _guardrail_stops(rules: MiningRules) -> frozenset[str]:
    found = (rule for rule in rules.evidence if rule.stage == "guardrail" and "values" in rule.parameters)
    return frozenset(value for rule in found for value in rule.names("values"))


def _assessed(turn: ChatTurn, stage: Stage, rules: MiningRules) -> bool:
    if not turn.reviews and not turn.verdicts:
        return False
    for rule in rules.evidence:
        if rule.stage != stage:
            continue
        if "assessments" in rule.parameters and opinions(turn, rule.names("assessments"), rules.verdicts):
            return True
        if "verdicts" in rule.parameters and trace_opinions(turn, rule.names("verdicts"), rules.verdicts):
            return True
    return False
