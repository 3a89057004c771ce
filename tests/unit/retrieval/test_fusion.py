"""Reciprocal rank fusion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.retrieval.fusion import reciprocal_rank_fusion


def test_scores_are_sums_of_reciprocal_ranks():
    fused = reciprocal_rank_fusion([["a", "b"], ["b", "c"]], k=10)
    assert fused == [("b", pytest.approx(1 / 12 + 1 / 11)), ("a", pytest.approx(1 / 11)), ("c", pytest.approx(1 / 12))]


def test_equal_scores_are_ordered_by_best_rank_and_then_by_id():
    assert [chunk_id for chunk_id, _ in reciprocal_rank_fusion([["b"], ["a"]])] == ["a", "b"]


def test_an_id_counts_once_in_a_ranking():
    assert reciprocal_rank_fusion([["a", "a", "b"]]) == reciprocal_rank_fusion([["a", "b"]])


@pytest.mark.parametrize("rankings", [[], [[]], [[], []]])
def test_nothing_fuses_to_nothing(rankings):
    assert reciprocal_rank_fusion(rankings) == []


def test_a_negative_constant_is_refused():
    with pytest.raises(ValueError, match="-1"):
        reciprocal_rank_fusion([["a"]], k=-1)


@given(st.lists(st.lists(st.sampled_from("abcdefg"), unique=True), max_size=4))
def test_the_order_of_the_rankings_does_not_matter(rankings):
    forward = dict(reciprocal_rank_fusion(rankings))
    assert dict(reciprocal_rank_fusion(rankings[::-1])) == pytest.approx(forward)
    assert set(forward) == {chunk_id for ranking in rankings for chunk_id in ranking}
