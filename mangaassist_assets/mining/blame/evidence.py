"""The kinds of evidence that rules may name: each looks at one turn and says what it found in a sentence with figures.

A sentence holds no words of the shopper and no document ids; names from outside go through `shown`. `EVIDENCE_KINDS`
says of each whether it speaks for or against a stage and how firmly; a judge's word counts as `judge`, below a
person's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import floor

from mangaassist_assets.mining.blame.opinions import Opinion, judged_intent, opinions, shown_opinions, trace_opinions
from mangaassist_assets.mining.blame.rule_names import EVIDENCE_KINDS, Basis, Stage, Verdict
from mangaassist_assets.mining.blame.rules import EvidenceRule, MiningRules, Rule
from mangaassist_assets.mining.blame.turn_context import TurnContext, best_score
from mangaassist_assets.mining.blame.turn_facts import (
    blocked_by_itself,
    failed_tools,
    found_expected,
    found_nothing,
    is_below,
    is_confirmed,
    is_contradicted,
    records_candidates,
    records_selection,
    shown,
    shown_list,
    used_expected,
)
from mangaassist_assets.tracing.contract.names import SpanName
from mangaassist_assets.tracing.contract.turns import ChatTurn


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one rule found for or against a stage.

    Verdict `none`: no rule found anything about it; `untold`: the trace records nothing to judge it by.
    """

    stage: Stage
    verdict: Verdict
    rule: str | None = None
    basis: Basis | None = None
    evidence: str = ""
    confidence: float = 0.0


@dataclass(frozen=True, slots=True)
class Look:
    """What a signal or a kind of evidence looks at: the turn, its rule, all rules, and what stands around the turn."""

    turn: ChatTurn
    rule: Rule
    rules: MiningRules
    around: TurnContext


def finding_of(rule: EvidenceRule, turn: ChatTurn, rules: MiningRules, around: TurnContext) -> Finding | None:
    """Return what the rule found, how firm that is and how sure it makes us; None where there is nothing."""
    found = KINDS[rule.name](Look(turn, rule, rules, around))
    if found is None:
        return None
    kind = EVIDENCE_KINDS[rule.name]
    sentence, basis = (found, kind.basis) if isinstance(found, str) else found
    factor = rules.judge_factor if basis == "judge" else 1.0
    return Finding(
        stage=rule.stage,
        verdict=kind.verdict,
        rule=rule.name,
        basis=basis,
        evidence=sentence,
        confidence=round(rule.confidence * factor, 6),
    )


def tool_failed(look: Look) -> str | None:
    """Return which tools' last call failed."""
    failed = failed_tools(look.turn)
    return f"the last call of {shown_list(failed, none='')} failed" if failed else None


def unsure_classifier(look: Look) -> str | None:
    """Return the classifier's confidence where it is below the rule's."""
    below = look.rule.number("below")
    if not is_below(look.turn, below):
        return None
    return f"intent confidence {look.turn.intent_confidence:.2f} is below {below:.2f}"


def nothing_found(look: Look) -> str | None:
    """Return that the search found nothing where it should have found something."""
    return "the search returned no chunk" if found_nothing(look.turn, look.rules) else None


def verdict_failed(look: Look) -> str | None:
    """Return which of the trace's own verdicts that the rule names failed."""
    found = trace_opinions(look.turn, look.rule.names("verdicts"), look.rules.verdicts)
    failed = [one for one in found if one.failed]
    return f"the trace's verdicts say no to {shown_opinions(failed)}" if failed else None


def turn_in_error(look: Look) -> str | None:
    """Return in which span the turn ended in an error."""
    if look.turn.state != "ERROR":
        return None
    return f"error in {shown(look.turn.failed_span) if look.turn.failed_span else 'an unnamed span'}"


def _span_failed(look: Look) -> str | None:
    # Tools are recognised by name, and a span of theirs that was tried again with another tool is no retry.
    last = {stage.name: stage for stage in look.turn.stages if stage.name != SpanName.TOOL_CALL}
    failed = [name for name, stage in last.items() if stage.failed]
    if look.turn.state == "ERROR" or not failed:
        return None
    return f"the turn went on although {shown_list(failed, none='')} failed"


def _blocked(look: Look) -> str | None:
    turn = look.turn
    if not blocked_by_itself(turn, look.rules):
        return None
    ruleset = shown(turn.guardrail_ruleset_version) if turn.guardrail_ruleset_version else "unknown"
    return f"blocked under rule set {ruleset}: {shown_list(turn.guardrail_reasons, none='no reason recorded')}"


def _stop_reason(look: Look) -> str | None:
    if not look.turn.generations:
        return None
    last = look.turn.generations[-1]
    if last.stop_reason not in look.rule.names("values"):
        return None
    tokens = "" if last.output_tokens is None else f" after {last.output_tokens} tokens"
    return f"the model stopped with {shown(last.stop_reason)}{tokens}"


def _review_names_other_intent(look: Look) -> str | None:
    if not is_contradicted(look.turn):
        return None
    return f"a review expects {shown(look.turn.expected_intent)}, the classifier said {shown(look.turn.intent)}"


def _judge_names_other_intent(look: Look) -> str | None:
    judged = judged_intent(look.turn)
    if judged is None or look.turn.intent is None or judged == look.turn.intent:
        return None
    return f"a judge expects {shown(judged)}, the classifier said {shown(look.turn.intent)}"


def _rephrased_with_other_intent(look: Look) -> str | None:
    again = look.around.rephrasings.get(look.turn.trace_id)
    if again is None or again.failed or look.turn.intent is None or again.intent in (None, look.turn.intent):
        return None
    return (
        f"asked again {again.seconds:.0f} s later the classifier said {shown(again.intent)}, "
        f"not {shown(look.turn.intent)}"
    )


def _review_confirms_intent(look: Look) -> str | None:
    return f"a review confirms {shown(look.turn.intent)}" if is_confirmed(look.turn) else None


def _expected_documents_not_found(look: Look) -> str | None:
    turn = look.turn
    if not turn.expected_documents or not records_candidates(turn) or found_expected(turn):
        return None
    return f"none of the {len(turn.expected_documents)} expected documents is among {len(turn.candidates)} candidates"


def _blocked_as_ungrounded(look: Look) -> str | None:
    turn = look.turn
    if not turn.guardrail_blocked or blocked_by_itself(turn, look.rules):
        return None
    if not records_candidates(turn):
        return "blocked because no passage was relevant enough"
    return f"blocked because none of {len(turn.candidates)} candidates was relevant enough"


def _unusually_low_scores(look: Look) -> str | None:
    best = best_score(look.turn)
    if best is None:
        return None
    group, score = best
    usual = look.around.usual_scores.get(group, ())
    if len(usual) < look.rule.number("well_rated_at_least"):
        return None
    bound = usual[floor(look.rule.number("quantile") * (len(usual) - 1))] * look.rule.number("share_of_usual")
    if not score < bound:
        return None
    return (
        f"the {group[1]}'s best score {score:.3f} is below {bound:.3f}, far under what the bundle's {len(usual)} "
        "well-rated turns reach"
    )


def _expected_document_found(look: Look) -> str | None:
    if not found_expected(look.turn):
        return None
    return f"an expected document is among the {len(look.turn.candidates)} candidates"


def _expected_document_not_used(look: Look) -> str | None:
    turn = look.turn
    if used_expected(turn) or not found_expected(turn) or not records_selection(turn):
        return None
    ranks = [
        candidate.rerank_rank or candidate.retrieval_rank
        for candidate in turn.candidates
        if candidate.document_id in turn.expected_documents
    ]
    return f"an expected document was found but ranked {min(ranks)} of {len(turn.candidates)} and not used"


def _order_reversed(look: Look) -> str | None:
    pairs = [(one.retrieval_rank, one.rerank_rank) for one in look.turn.candidates if one.rerank_rank is not None]
    if len(pairs) < look.rule.number("candidates_at_least"):
        return None
    tau = kendall_tau(pairs)
    if tau > look.rule.number("tau_at_most"):
        return None
    return f"the reranker turned the order of {len(pairs)} candidates around (Kendall's tau {tau:.2f})"


def _expected_document_used(look: Look) -> str | None:
    return "an expected document was used for the answer" if used_expected(look.turn) else None


def _empty_answer(look: Look) -> str | None:
    turn = look.turn
    if turn.state == "ERROR" or turn.guardrail_blocked or not any(one.selected for one in turn.candidates):
        return None
    if turn.generations and turn.generations[-1].output_tokens == 0:
        return "the model wrote no token although passages were there"
    return "the answer is empty" if turn.answer is not None and not turn.answer.strip() else None


def _wrong_answer_from_right_inputs(look: Look) -> tuple[str, Basis] | None:
    if not _has_right_inputs(look):
        return None
    return _by_opinion(
        [one for one in _opinions(look) if one.failed],
        "said no to {} although a review confirms the intent and the documents used",
    )


def _thumbs_down_with_right_inputs(look: Look) -> str | None:
    if look.turn.user_feedback != "thumbs_down" or not _has_right_inputs(look):
        return None
    return "thumbs-down although a review confirms the intent and the documents used"


def _assessment_failed(look: Look) -> tuple[str, Basis] | None:
    return _by_opinion([one for one in _opinions(look) if one.failed], "said no to {}")


def _assessment_passed(look: Look) -> tuple[str, Basis] | None:
    found = _opinions(look)
    return None if any(one.failed for one in found) else _by_opinion(found, "said yes to {}")


def _opinions(look: Look) -> list[Opinion]:
    return opinions(look.turn, look.rule.names("assessments"), look.rules.verdicts)


def _has_right_inputs(look: Look) -> bool:
    needs_documents = look.turn.intent not in look.rules.intents_without_retrieval
    return is_confirmed(look.turn) and (used_expected(look.turn) or not needs_documents)


def _by_opinion(found: list[Opinion], sentence: str) -> tuple[str, Basis] | None:
    """Return what people said; what judges said where no person spoke."""
    if not found:
        return None
    people = [one for one in found if one.by == "human"]
    if people:
        return f"a person {sentence.format(shown_opinions(people))}", "review"
    return f"a judge {sentence.format(shown_opinions(found))}", "judge"


def kendall_tau(pairs: list[tuple[int, int]]) -> float:
    """Return Kendall's tau-a of two rankings, -1 (reversed) to 1 (the same); 0 for fewer than two pairs."""
    products = [(a - b) * (c - d) for (a, c), (b, d) in combinations(pairs, 2)]
    return sum((product > 0) - (product < 0) for product in products) / len(products) if products else 0.0


KINDS: Mapping[str, Callable[[Look], str | tuple[str, Basis] | None]] = {
    "turn_in_error": turn_in_error,
    "tool_failed": tool_failed,
    "span_failed": _span_failed,
    "blocked": _blocked,
    "stop_reason": _stop_reason,
    "verdict_failed": verdict_failed,
    "review_names_other_intent": _review_names_other_intent,
    "judge_names_other_intent": _judge_names_other_intent,
    "unsure_classifier": unsure_classifier,
    "rephrased_with_other_intent": _rephrased_with_other_intent,
    "review_confirms_intent": _review_confirms_intent,
    "expected_documents_not_found": _expected_documents_not_found,
    "nothing_found": nothing_found,
    "blocked_as_ungrounded": _blocked_as_ungrounded,
    "unusually_low_scores": _unusually_low_scores,
    "expected_document_found": _expected_document_found,
    "expected_document_not_used": _expected_document_not_used,
    "order_reversed": _order_reversed,
    "expected_document_used": _expected_document_used,
    "empty_answer": _empty_answer,
    "wrong_answer_from_right_inputs": _wrong_answer_from_right_inputs,
    "thumbs_down_with_right_inputs": _thumbs_down_with_right_inputs,
    "assessment_failed": _assessment_failed,
    "assessment_passed": _assessment_passed,
}
