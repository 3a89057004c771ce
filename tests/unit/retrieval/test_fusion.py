"""Reciprocal rank fusion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.retrieval.pipeline import reciprocal_rank_fusion


def test_scores_are_sums_of_reciprocal_ranks():
    fused = reciprocal_rank_fusion([["a", "b"], ["b", "c"]], rank_constant=10)
    assert fused == [("b", pytest.approx(1 / 12 + 1 / 11)), ("a", pytest.approx(1 / 11)), ("c", pytest.approx(1 / 12))]


def test_equal_scores_are_ordered_by_best_rank_and_then_by_id():
    assert [chunk_id for chunk_id, _ in reciprocal_rank_fusion([["b"], ["a"]])] == ["a", "b"]


def test_an_id_counts_once_in_a_ranking():
    assert reciprocal_rank_fusion([["a", "a", "b"]]) == reciprocal_rank_fusion([["a", "b"]])


@pytest.mark.parametrize("rankings", [[], [[]], [[], []]])
def test_nothing_fuses_to_nothing(rankings):
    assert reciprocal_rank_fusion(rankings) == []


def test_a_weight_shifts_the_fusion_towards_its_ranking():
    rankings = [["a", "b"], ["c", "b"]]
    assert reciprocal_rank_fusion(rankings, weights=[1.0, 1.0]) == reciprocal_rank_fusion(rankings)
    fused = reciprocal_rank_fusion(rankings, weights=[1.0, 3.0], rank_constant=0)
    assert fused == [("c", 3.0), ("b", pytest.approx(1 / 2 + 3 / 2)), ("a", 1.0)]


@pytest.mark.parametrize("options", [{"rank_constant": -1}, {"weights": [1.0, 1.0]}, {"weights": [0.0]}])
def test_a_constant_and_weights_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match=r"1 rankings need as many weights"):
        reciprocal_rank_fusion([["a"]], **options)


@given(st.lists(st.lists(st.sampled_from("abcdefg"), unique=True), max_size=4))
def test_the_order_of_the_rankings_does_not_matter(rankings):
    forward = dict(reciprocal_rank_fusion(rankings))
    assert dict(reciprocal_rank_fusion(rankings[::-1])) == pytest.approx(forward)
    assert set(forward) == {chunk_id for ranking in rankings for chunk_id in ranking}
