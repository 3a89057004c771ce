"""The simulated reviewer: says what is true of the turns that a queue asks about, once, and no more than the budget."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mangaassist_assets.chatbot.reviewing import REVIEWER, ReviewReport, answer_queue, reviews_by_simulation
from mangaassist_assets.chatbot.simulation import simulate, traces_of
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.tracing.contract.names import ANSWER_CORRECTNESS
from tests.support.labelling import make_turn, queue_item
from tests.support.mined_turns import assessment
from tests.support.store_chatbot import MemoryReviewer, MemorySink, MemoryStream, store_chatbot
from tests.support.turn_reading import read_turns

UTTERANCES = {
    f"t{number}": Utterance(text=f"message {number}", intent="gift_card", relevant_documents=("cards.md",))
    for number in range(40)
}
TURNS = {trace_id: make_turn(trace_id) for trace_id in UTTERANCES}
QUEUE = [
    queue_item(f"t{number}", number + 1, origin="audit" if number % 2 else "failure queue") for number in range(40)
]


class Reviewer:
    """Remembers what is put on traces, and may break down."""

    def __init__(self, *, breaks_at: str = "") -> None:
        self.reviews = {}
        self.answers = {}
        self._breaks_at = breaks_at

    def record_review(self, trace_id, *, expected_intent, relevant_documents, reviewer):
        if trace_id == self._breaks_at:
            raise ConnectionError(trace_id)
        assert trace_id not in self.reviews
        self.reviews[trace_id] = (expected_intent, relevant_documents, reviewer)

    def record_answer_review(self, trace_id, *, correct, reviewer):
        assert reviewer == REVIEWER
        self.answers[trace_id] = correct


def reviewed(said, turns=TURNS):
    """The turns as they are read back after reviews."""
    return {
        trace_id: replace(
            turn, expected_intent=said[trace_id][0], expected_documents=said[trace_id][1], reviewer=REVIEWER
        )
        if trace_id in said
        else turn
        for trace_id, turn in turns.items()
    }


def answer(reviewer, *, items=QUEUE, utterances=UTTERANCES, turns=TURNS, budget=100, **options):
    return answer_queue(items, utterances, turns, reviewer, budget=budget, **options)


def test_the_queue_is_answered_in_its_order_until_the_budget_is_spent():
    reviewer = Reviewer()
    report = answer(reviewer, items=QUEUE[::-1], budget=5)
    assert reviewer.reviews == {f"t{number}": ("gift_card", ("cards.md",), REVIEWER) for number in range(5)}
    assert report == ReviewReport(asked_for_audit=2, asked_as_failures=3, reviews=5)


def test_what_was_answered_is_not_said_again_and_counts_against_the_budget():
    first, second = Reviewer(), Reviewer()
    answer(first, budget=5)
    after = reviewed(first.reviews)
    assert reviews_by_simulation(after) == 5
    assert answer(second, turns=after, budget=5) == ReviewReport(reviews=5)
    assert second.reviews == {}
    assert answer(second, turns=after, budget=7).reviews == 7
    assert sorted(second.reviews) == ["t5", "t6"]


def test_a_reviewer_who_was_killed_goes_on_where_they_stopped():
    killed, again = Reviewer(breaks_at="t20"), Reviewer()
    with pytest.raises(ConnectionError):
        answer(killed, budget=30)
    assert "t0" in killed.reviews
    report = answer(again, turns=reviewed(killed.reviews), budget=30)
    assert killed.reviews | again.reviews == {
        f"t{number}": ("gift_card", ("cards.md",), REVIEWER) for number in range(30)
    }
    assert not killed.reviews.keys() & again.reviews.keys()
    assert report.reviews == 30


def test_a_turn_in_the_middle_of_which_it_was_killed_is_finished():
    half = {**TURNS, "t0": replace(TURNS["t0"], expected_intent="gift_card", reviewer=REVIEWER)}
    reviewer = Reviewer()
    report = answer(reviewer, turns=half, budget=1)
    assert reviewer.reviews == {"t0": (None, ("cards.md",), REVIEWER)}
    assert report.reviews == 1


def test_what_nobody_knows_is_not_answered():
    reviewer = Reviewer()
    utterances = {"t0": Utterance(text="message 0"), "t1": UTTERANCES["t1"]}
    turns = {trace_id: turn for trace_id, turn in TURNS.items() if trace_id != "t1"}
    assert answer(reviewer, utterances=utterances, turns=turns) == ReviewReport()
    assert reviewer.reviews == {}


def test_the_answer_itself_is_judged_where_somebody_can_and_everything_before_it_was_right():
    right = {trace_id: replace(turn, intent="gift_card") for trace_id, turn in list(TURNS.items())[:3]}
    right["t1"] = replace(right["t1"], reviews=(assessment(ANSWER_CORRECTNESS, "true"),))
    utterances = {trace_id: replace(UTTERANCES[trace_id], relevant_documents=()) for trace_id in right}
    right["t2"] = replace(right["t2"], intent="order_status")
    reviewer = Reviewer()
    answer(reviewer, utterances=utterances, turns=right, answer_check=lambda *_: False)
    assert sorted(reviewer.reviews) == ["t0", "t1", "t2"]
    assert reviewer.answers == {"t0": False}


def test_progress_is_told_by_portions():
    told = []
    answer(Reviewer(), budget=20, progress=lambda done, of: told.append((done, of)))
    assert told == [(16, 20), (20, 20)]


def test_utterances_are_found_by_the_traces_that_were_made_of_them():
    sink = MemorySink()
    chatbot = store_chatbot(sink)
    utterances = [Utterance(text=f"how do i return book {number}", line_number=number) for number in range(5)]
    simulate(utterances, chatbot, MemoryStream(), MemoryReviewer(sink), release_bundle="b1")
    found = traces_of(utterances, chatbot, release_bundle="b1", seed=0)
    messages = {turn.trace_id: turn.message for turn in read_turns(sink.traces).turns}
    assert {trace_id: one.text for trace_id, one in found.items()} == messages
