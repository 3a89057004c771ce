from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.labelling.queue.review_queue import (
    QueueConfig,
    ReviewCandidate,
    pick_for_review,
    review_candidates,
)
from tests.support.labelling import Group, make_turn, unit_vectors


def candidate(trace_id, **fields):
    defaults = {
        "trace_id": trace_id,
        "shopper": f"u-{trace_id}",
        "cluster_id": "fc-1",
        "cluster_name": "parcel",
        "cluster_users": 5,
        "confidence": 0.5,
        "disagreement": 0.0,
    }
    return ReviewCandidate(**{**defaults, **fields})


def ids(picking):
    return [item.trace_id for item in picking.items]


def test_one_shopper_with_ten_thousand_complaints_gets_two_minutes_and_no_more():
    flood = [
        candidate(f"f{number:05}", shopper="loud", cluster_id="fc-loud", cluster_users=1) for number in range(10_000)
    ]
    others = [candidate(f"q{number}", cluster_users=8) for number in range(20)]
    picking = pick_for_review([*flood, *others], unit_vectors(10_020), budget=12)
    assert sum(trace_id.startswith("f") for trace_id in ids(picking)) <= 2
    alone = pick_for_review(flood, unit_vectors(10_000), budget=50)
    assert len(alone.items) == 2
    assert alone.excluded == {"over the cap per shopper": 9_998}


def test_the_weight_of_a_cluster_is_its_shoppers_not_its_turns():
    turns = {f"a{number}": make_turn(f"a{number}", user_key="loud", session_id="s") for number in range(30)}
    turns |= {f"b{number}": make_turn(f"b{number}") for number in range(3)}
    groups = [
        Group(cluster_id="fc-a", trace_ids=tuple(name for name in turns if name.startswith("a"))),
        Group(cluster_id="fc-b", trace_ids=tuple(name for name in turns if name.startswith("b"))),
    ]
    users = {one.cluster_id: one.cluster_users for one in review_candidates(groups, turns)}
    assert users == {"fc-a": 1, "fc-b": 3}
    picking = pick_for_review(review_candidates(groups, turns), unit_vectors(33), budget=1)
    assert picking.items[0].cluster_id == "fc-b"


def test_what_the_classifier_knew_least_comes_first():
    rows = [
        candidate("sure", confidence=0.95),
        candidate("unsure", confidence=0.3),
        candidate("unknown", confidence=None),
    ]
    assert ids(pick_for_review(rows, np.eye(3, dtype=np.float32), budget=3)) == ["unknown", "unsure", "sure"]


def test_a_confidence_that_is_no_probability_counts_as_unknown():
    rows = [candidate("nan", confidence=float("nan")), candidate("two", confidence=2.0), candidate("half")]
    assert {item.uncertainty for item in pick_for_review(rows, np.eye(3, dtype=np.float32), budget=2).items} == {1.0}


def test_a_cluster_in_which_the_classifier_disagrees_with_itself_is_more_uncertain():
    turns = {
        name: make_turn(name, intent=intent, intent_confidence=0.9) for name, intent in zip("abcd", "xxyy", strict=True)
    }
    found = review_candidates([Group(cluster_id="fc", trace_ids=tuple("abcd"))], turns)
    assert {one.disagreement for one in found} == {0.5}
    item = pick_for_review(found, np.eye(4, dtype=np.float32), budget=1).items[0]
    assert item.uncertainty == pytest.approx(0.55)


def test_a_cluster_that_was_answered_in_part_leaves_room_for_others():
    rows = [candidate(f"a{number}") for number in range(10)]
    rows += [candidate(f"b{number}", cluster_id="fc-2", cluster_users=4) for number in range(10)]
    first = pick_for_review(rows, np.eye(20, dtype=np.float32), budget=10)
    assert [item.cluster_id for item in first.items].count("fc-2") in (4, 5)
    answered = [replace(row, cluster_reviewed=20) if row.cluster_id == "fc-1" else row for row in rows]
    after = pick_for_review(answered, np.eye(20, dtype=np.float32), budget=10)
    assert [item.cluster_id for item in after.items].count("fc-2") == 10


def test_nobody_is_asked_twice_about_almost_the_same_message():
    vectors = np.array([[1, 0, 0], [1, 0.01, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    picking = pick_for_review(
        [candidate(name) for name in "abcd"], vectors, seen=np.array([[0, 0, 1]], dtype=np.float32), budget=4
    )
    assert ids(picking) == ["a", "c"]
    assert picking.excluded == {"almost the same message is seen already": 2}


def test_reviewed_blocked_empty_and_declined_turns_are_not_asked_about_and_counted():
    turns = {
        "reviewed": make_turn("reviewed", expected_intent="x"),
        "documents": make_turn("documents", expected_documents=("d",)),
        "blocked": make_turn("blocked", guardrail_blocked=True),
        "empty": make_turn("empty", message=" "),
        "declined": make_turn("declined"),
        "open": make_turn("open"),
    }
    found = review_candidates([Group(cluster_id="fc", trace_ids=tuple(turns))], turns, handled={"declined"})
    picking = pick_for_review(found, unit_vectors(len(found)), budget=10)
    assert ids(picking) == ["open"]
    assert picking.excluded == {
        "a reviewer declined it, or is done with it": 1,
        "reviewed already": 2,
        "the guardrail blocked the message": 1,
        "the message is empty": 1,
    }


def test_documents_are_asked_for_where_the_stage_can_be_about_documents():
    turns = {"a": make_turn("a"), "b": make_turn("b")}
    groups = [
        Group(cluster_id="fc-a", trace_ids=("a",), stage="intent"),
        Group(cluster_id="fc-b", trace_ids=("b",), stage="retrieval"),
    ]
    assert [one.questions for one in review_candidates(groups, turns)] == [("intent",), ("intent", "documents")]


def test_the_reason_has_figures_and_no_word_of_the_shopper():
    turns = {"a": make_turn("a", "my secret wish", intent_confidence=0.25)}
    found = review_candidates([Group(cluster_id="fc", trace_ids=("a",))], turns)
    reason = pick_for_review(found, np.eye(1, dtype=np.float32), budget=1).items[0].reason
    assert "confidence 0.25; 1 shopper" in reason
    assert "secret" not in reason


def test_what_is_asked_about_anyway_costs_nothing_and_is_not_left_out():
    rows = [
        candidate(name, confidence=confidence) for name, confidence in zip("abcd", (0.1, 0.2, 0.3, 0.4), strict=True)
    ]
    picking = pick_for_review(rows, np.eye(4, dtype=np.float32), asked_anyway={"a", "d"}, budget=1)
    assert ids(picking) == ["a", "b"]
    assert picking.excluded == {"over the budget": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": -1}, "no budget"),
        ({"vectors": np.zeros((2, 3), dtype=np.float32)}, "1 candidates but 2 vectors"),
        ({"vectors": np.full((1, 3), np.nan, dtype=np.float32)}, "not finite"),
        ({"seen": np.zeros((1, 2), dtype=np.float32)}, "3 dimensions and reviewed messages 2"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arguments = {"vectors": np.eye(1, 3, dtype=np.float32), "budget": 1, **change}
    with pytest.raises(ValueError, match=message):
        pick_for_review([candidate("a")], arguments.pop("vectors"), **arguments)
    with pytest.raises(ValueError, match="trace a is a candidate twice"):
        pick_for_review([candidate("a"), candidate("a")], np.eye(2, dtype=np.float32), budget=1)


@given(st.data())
def test_order_of_candidates_changes_nothing_and_no_cap_is_broken(data):
    count = data.draw(st.integers(0, 25))
    rows = [
        candidate(
            f"t{number:02}",
            shopper=f"u{data.draw(st.integers(0, 5))}",
            cluster_id=f"fc{data.draw(st.integers(0, 3))}",
            cluster_users=data.draw(st.integers(1, 9)),
            confidence=data.draw(st.none() | st.floats(0, 1)),
        )
        for number in range(count)
    ]
    budget = data.draw(st.integers(0, 30))
    vectors = unit_vectors(count, seed=data.draw(st.integers(0, 9)))
    config = QueueConfig(per_shopper=2, per_cluster=4)
    picking = pick_for_review(rows, vectors, budget=budget, config=config)
    order = data.draw(st.permutations(range(count)))
    again = pick_for_review([rows[row] for row in order], vectors[list(order)], budget=budget, config=config)
    assert again == picking
    chosen = {one.trace_id: one for one in rows}
    for key, cap in (("shopper", 2), ("cluster_id", 4)):
        owners = [getattr(chosen[trace_id], key) for trace_id in ids(picking)]
        assert all(owners.count(owner) <= cap for owner in owners)
    assert len(picking.items) <= budget
    assert len(picking.items) + sum(picking.excluded.values()) == count
    scores = [item.score for item in picking.items]
    assert scores == sorted(scores, reverse=True)
