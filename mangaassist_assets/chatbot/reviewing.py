"""Simulated reviews: a reviewer who answers what the review queue asks, from what the utterances know to be true."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from mangaassist_assets.chatbot.shopper import AnswerCheck, true_of
from mangaassist_assets.chatbot.simulation import reply_of
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.labelling.queue.review_queue import QueueItem
from mangaassist_assets.labelling.reviews import is_reviewed
from mangaassist_assets.tracing.contract.names import ANSWER_CORRECTNESS
from mangaassist_assets.tracing.contract.turns import ChatTurn

REVIEWER = "simulated-reviewer"
_PORTION = 16
_THREADS = 2


class TraceReviewer(Protocol):
    """What a reviewer puts on traces."""

    def record_review(
        self, trace_id: str, *, expected_intent: str | None, relevant_documents: Sequence[str], reviewer: str
    ) -> None:
        """Put a human review on a trace."""

    def record_answer_review(self, trace_id: str, *, correct: bool, reviewer: str) -> None:
        """Put a person's word on the answer itself on a trace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewReport:
    """How many turns the reviewer was asked about now, and how many of the bundle are reviewed by them in all."""

    asked_for_audit: int = 0
    asked_as_failures: int = 0
    reviews: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    item: QueueItem
    intent: str | None
    documents: tuple[str, ...]
    correct: bool | None


def reviews_by_simulation(turns: Mapping[str, ChatTurn]) -> int:
    """Return how many turns the simulated reviewer reviewed."""
    return sum(turn.reviewer == REVIEWER for turn in turns.values())


def answer_queue(
    items: Sequence[QueueItem],
    utterances: Mapping[str, Utterance],
    turns: Mapping[str, ChatTurn],
    reviewer: TraceReviewer,
    *,
    budget: int,
    answer_check: AnswerCheck | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ReviewReport:
    """Answer what a queue asks, in its order, until the bundle has as many reviews as the budget.

    What the utterances do not know is not answered. What an earlier call answered is not said again, and where it was
    stopped in the middle of a turn the rest is said.

    Args:
        items: What is asked.
        utterances: What shoppers truly wanted, by trace id.
        turns: All turns of the bundle by trace id, with what was said of them until now.
        reviewer: Gets the answers.
        budget: How many turns the simulated reviewer reviews in all.
        answer_check: Says whether an answer is right; without it nobody judges the answer itself.
        progress: Called with (turns reviewed, turns to review).
    """
    before = reviews_by_simulation(turns)
    left = max(0, budget - before)
    answers: list[_Answer] = []
    fresh = 0
    for item in sorted(items, key=lambda one: one.rank):
        turn, utterance = turns.get(item.trace_id), utterances.get(item.trace_id)
        answer = None if turn is None or utterance is None else _answer(item, turn, utterance, answer_check)
        if turn is None or answer is None:
            continue
        is_fresh = not is_reviewed(turn)
        if fresh + is_fresh <= left:
            answers.append(answer)
            fresh += is_fresh
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="reviewer") as people:
        for start in range(0, len(answers), _PORTION):
            list(people.map(lambda one: _say(one, reviewer), answers[start : start + _PORTION]))
            if progress is not None:
                progress(min(start + _PORTION, len(answers)), len(answers))
    audits = sum(one.item.origin == "audit" for one in answers)
    return ReviewReport(asked_for_audit=audits, asked_as_failures=len(answers) - audits, reviews=before + fresh)


def _answer(item: QueueItem, turn: ChatTurn, utterance: Utterance, check: AnswerCheck | None) -> _Answer | None:
    """Return what is still to be said of a turn, None where there is nothing."""
    truth = true_of(utterance, reply_of(turn), answer_check=check)
    judged = any(review.name == ANSWER_CORRECTNESS for review in turn.reviews)
    answer = _Answer(
        item=item,
        intent=None if turn.expected_intent else utterance.intent,
        documents=() if turn.expected_documents else utterance.relevant_documents,
        correct=None if judged else truth.answer_correct,
    )
    nothing = answer.intent is None and not answer.documents and answer.correct is None
    return None if nothing else answer


def _say(answer: _Answer, reviewer: TraceReviewer) -> None:
    trace_id = answer.item.trace_id
    if answer.intent is not None or answer.documents:
        reviewer.record_review(
            trace_id, expected_intent=answer.intent, relevant_documents=answer.documents, reviewer=REVIEWER
        )
    if answer.correct is not None:
        reviewer.record_answer_review(trace_id, correct=answer.correct, reviewer=REVIEWER)
