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
    }
    return ReviewCandidate(**{**defaults, **fields})


def ids(picking):
    return [item.trace_id for item in picking.items]


def test_one_shopper_with_ten_thousand_complaints_gets_two_minutes_and_no_more():
    flood = [candidate(f"f{number:05}", shopper="loud", cluster_id="fc-loud") for number in range(10_000)]
    others = [candidate(f"q{number}") for number in range(20)]
    picking = pick_for_review([*flood, *others], unit_vectors(10_020), budget=12)
    assert sum(trace_id.startswith("f") for trace_id in ids(picking)) <= 2
    alone = pick_for_review(flood, unit_vectors(10_000), budget=50)
    assert len(alone.items) == 2
    assert alone.excluded == {"over the cap per shopper": 9_998}


def around(centre, count, *, near, seed=0):
    """Vectors of length one with the cosine `near` to a centre."""
    away = np.random.default_rng(seed).normal(size=(count, len(centre))).astype(np.float32)
    away -= np.outer(away @ centre, centre)
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    return near * centre + np.sqrt(1 - near**2) * away


def test_what_stands_for_most_failures_comes_first_and_what_nothing_is_like_last():
    axes = np.eye(12, dtype=np.float32)
    vectors = np.vstack([axes[:1], around(axes[0], 9, near=0.8), axes[1:2], around(axes[1], 4, near=0.8), axes[2:3]])
    rows = [candidate(f"{number:02}") for number in range(16)]
    first, second, *others = pick_for_review(rows, vectors, budget=16, config=QueueConfig(per_cluster=99)).items
    assert [(item.trace_id, item.speaks_for) for item in (first, second)] == [("00", 10), ("10", 5)]
    assert others[0].trace_id == "15", "a failure like no other counts once, a repeated one for what it adds"


def test_a_shopper_counts_for_as_many_turns_as_they_may_be_asked_about():
    axes = np.eye(12, dtype=np.float32)
    vectors = np.vstack([around(axes[0], 30, near=0.9), around(axes[1], 5, near=0.9, seed=1)])
    rows = [candidate(f"a{number:02}", shopper="loud") for number in range(30)]
    rows += [candidate(f"b{number}") for number in range(5)]
    assert pick_for_review(rows, vectors, budget=1).items[0].trace_id.startswith("b")


def test_of_many_failures_some_stand_for_all_and_the_same_come_first():
    axes = np.eye(12, dtype=np.float32)
    vectors = np.vstack([around(axes[0], 300, near=0.9), around(axes[1], 100, near=0.9, seed=1)])
    rows = [candidate(f"{number:03}") for number in range(400)]
    few = pick_for_review(rows, vectors, budget=2, config=QueueConfig(most_compared=80))
    assert [int(trace_id) < 300 for trace_id in ids(few)] == [True, False]


def test_what_is_picked_lazily_is_what_looking_at_all_would_pick():
    vectors = unit_vectors(60, seed=5)
    rows = [candidate(f"{number:02}", cluster_id=f"fc-{number}") for number in range(60)]
    nearest, best = np.zeros(60, dtype=np.float32), []
    for _ in range(10):
        gains = np.maximum(vectors @ vectors.T - nearest, 0.0).sum(axis=1)
        gains[best] = -1
        best.append(int(gains.argmax()))
        nearest = np.maximum(nearest, vectors @ vectors[best[-1]])
    assert ids(pick_for_review(rows, vectors, budget=10)) == [f"{row:02}" for row in best]


def test_nobody_is_asked_twice_about_almost_the_same_message():
    vectors = np.array([[1, 0, 0], [1, 0.01, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    picking = pick_for_review(
        [candidate(name) for name in "abcd"], vectors, seen=np.array([[0, 0, 1]], dtype=np.float32), budget=4
    )
    assert ids(picking) == ["b", "c"]
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
    assert reason == "1 of 1 failures are like it, and like nothing else as much"
    assert "secret" not in reason


def test_what_is_asked_about_anyway_costs_nothing_and_is_not_left_out():
    rows = [candidate(name) for name in "abcd"]
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
