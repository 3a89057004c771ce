"""Groups of failures: by meaning, then by stage, the unexplained ones beside those they are like."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.mining.blame.rule_names import STAGES
from mangaassist_assets.mining.clustering.grouping import FailureGroup, group_failures


def near(topic: int, count: int, *, seed: int = 0, spread: float = 0.05) -> np.ndarray:
    rng = np.random.default_rng(100 * seed + topic)
    centre = np.zeros(16)
    centre[topic] = 1.0
    vectors = centre + rng.normal(size=(count, 16)) * spread
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_the_same_question_blamed_on_two_stages_is_two_groups():
    groups = group_failures(["intent"] * 6 + ["reranker"] * 6, near(0, 12))
    assert groups == [
        FailureGroup(stage="intent", meaning=0, rows=tuple(range(6))),
        FailureGroup(stage="reranker", meaning=0, rows=tuple(range(6, 12))),
    ]


def test_what_is_blamed_on_nothing_goes_with_the_blamed_turn_it_is_most_like():
    vectors = np.concatenate([near(0, 8), near(1, 8)])
    stages = ["intent"] * 2 + ["unknown"] * 6 + ["retrieval"] * 2 + ["unknown"] * 6
    assert group_failures(stages, vectors) == [
        FailureGroup(stage="intent", meaning=0, rows=tuple(range(8))),
        FailureGroup(stage="retrieval", meaning=1, rows=tuple(range(8, 16))),
    ]


@pytest.mark.parametrize("fact", ["infrastructure", "guardrail"])
def test_what_left_no_fact_in_the_trace_is_not_put_down_to_one(fact):
    assert group_failures([fact] * 4 + ["unknown"] * 4, near(0, 8)) == [
        FailureGroup(stage=fact, meaning=0, rows=(0, 1, 2, 3)),
        FailureGroup(stage="unknown", meaning=0, rows=(4, 5, 6, 7)),
    ]


def test_no_failures_make_no_groups():
    assert group_failures([], np.zeros((0, 16), dtype=np.float32)) == []


def test_stages_and_vectors_must_fit_together():
    with pytest.raises(ValueError, match="3 blamed turns but 2 vectors"):
        group_failures(["intent"] * 3, near(0, 2))


@given(st.lists(st.tuples(st.sampled_from(STAGES), st.integers(0, 3)), max_size=40))
def test_every_turn_is_in_one_group_and_a_known_blame_is_kept(turns):
    vectors = np.array([near(topic, 1, seed=row)[0] for row, (_, topic) in enumerate(turns)], dtype=np.float32)
    groups = group_failures([stage for stage, _ in turns], vectors.reshape(len(turns), 16))
    assert sorted(row for group in groups for row in group.rows) == list(range(len(turns)))
    assert [group.rows for group in groups] == sorted(group.rows for group in groups)
    for group in groups:
        assert {turns[row][0] for row in group.rows} <= {group.stage, "unknown"}
