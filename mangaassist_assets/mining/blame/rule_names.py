"""The closed set of names that mining rules are written in: stages, loops, signals, kinds of evidence.

What each kind of evidence looks at is code, in `evidence`; how much it counts for, and where, is data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

Stage = Literal["infrastructure", "guardrail", "intent", "retrieval", "reranker", "generation", "unknown"]
Loop = Literal["retrain_intent", "retrain_reranker", "reindex", "configuration", "none"]
SignalName = Literal[
    "thumbs_down",
    "failed_review",
    "guardrail_block",
    "error",
    "empty_retrieval",
    "failed_verdict",
    "low_confidence",
    "rephrased",
    "noted_verdict",
    "tool_failed",
]
Verdict = Literal["against", "for", "none", "untold"]
"""What is found of a stage: something against it, for it, nothing, or that its trace tells nothing to judge it by."""
Basis = Literal["fact", "review", "judge", "guess"]
"""How firm evidence is: the trace says so, a person does, a judging model or code does, or behaviour suggests it."""

STAGES: Final[tuple[Stage, ...]] = get_args(Stage)
JUDGED_STAGES: Final = STAGES[:-1]
LOOPS: Final[tuple[Loop, ...]] = get_args(Loop)
LOOP_OF_STAGE: Final[Mapping[Stage, Loop]] = {
    "infrastructure": "none",
    "guardrail": "configuration",
    "intent": "retrain_intent",
    "retrieval": "reindex",
    "reranker": "retrain_reranker",
    "generation": "configuration",
    "unknown": "none",
}
"""The loop of each stage as the packaged rules have it; rules of one's own may say otherwise."""


@dataclass(frozen=True, slots=True)
class Number:
    """A parameter that is a number from `low` to `high`, both included."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Names:
    """A parameter that is a list of names; those of verdicts and assessments are compared as plain names."""

    of_verdicts: bool = False


Parameter = Number | Names
SHARE = Number(0.0, 1.0)

SIGNAL_PARAMETERS: Final[Mapping[SignalName, Mapping[str, Parameter]]] = {
    "thumbs_down": {},
    "failed_review": {"assessments": Names(of_verdicts=True)},
    "guardrail_block": {},
    "error": {},
    "empty_retrieval": {},
    "failed_verdict": {"verdicts": Names(of_verdicts=True)},
    "low_confidence": {"below": SHARE},
    "rephrased": {"within_s": Number(0.0, 86_400.0), "word_overlap": SHARE},
    "noted_verdict": {"verdicts": Names(of_verdicts=True)},
    "tool_failed": {},
}


@dataclass(frozen=True, slots=True)
class EvidenceKind:
    """What a kind of evidence can do: speak against a stage or for it, how firmly, and which parameters it needs."""

    verdict: Literal["against", "for"]
    basis: Basis
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


EVIDENCE_KINDS: Final[Mapping[str, EvidenceKind]] = {
    "turn_in_error": EvidenceKind("against", "fact"),
    "tool_failed": EvidenceKind("against", "fact"),
    "span_failed": EvidenceKind("against", "guess"),
    "blocked": EvidenceKind("against", "fact"),
    "stop_reason": EvidenceKind("against", "fact", {"values": Names()}),
    "verdict_failed": EvidenceKind("against", "judge", {"verdicts": Names(of_verdicts=True)}),
    "review_names_other_intent": EvidenceKind("against", "review"),
    "judge_names_other_intent": EvidenceKind("against", "judge"),
    "unsure_classifier": EvidenceKind("against", "guess", {"below": SHARE}),
    "rephrased_with_other_intent": EvidenceKind("against", "guess"),
    "review_confirms_intent": EvidenceKind("for", "review"),
    "expected_documents_not_found": EvidenceKind("against", "review"),
    "nothing_found": EvidenceKind("against", "fact"),
    "blocked_as_ungrounded": EvidenceKind("against", "guess"),
    "unusually_low_scores": EvidenceKind(
        "against",
        "guess",
        {"quantile": SHARE, "share_of_usual": SHARE, "well_rated_at_least": Number(1.0, 1e6)},
    ),
    "expected_document_found": EvidenceKind("for", "review"),
    "expected_document_not_used": EvidenceKind("against", "review"),
    "order_reversed": EvidenceKind(
        "against", "guess", {"tau_at_most": Number(-1.0, 0.0), "candidates_at_least": Number(3.0, 1_000.0)}
    ),
    "expected_document_used": EvidenceKind("for", "review"),
    "empty_answer": EvidenceKind("against", "fact"),
    "wrong_answer_from_right_inputs": EvidenceKind("against", "review", {"assessments": Names(of_verdicts=True)}),
    "thumbs_down_with_right_inputs": EvidenceKind("against", "guess"),
    "assessment_failed": EvidenceKind("against", "review", {"assessments": Names(of_verdicts=True)}),
    "assessment_passed": EvidenceKind("for", "review", {"assessments": Names(of_verdicts=True)}),
}
