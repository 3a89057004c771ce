"""Claims about the figures of one ranking."""

from __future__ import annotations

import math

import pytest

from mangaassist_assets.core.ranking_metrics import ndcg, reciprocal_rank


def test_reciprocal_rank_counts_from_one_and_stops_at_k() -> None:
    assert reciprocal_rank([0, 0, 1, 1]) == pytest.approx(1 / 3)
    assert reciprocal_rank([0, 0, 1], k=2) == 0.0
    assert reciprocal_rank([]) == 0.0


def test_ndcg_agrees_with_scikit_learn() -> None:
    from sklearn.metrics import ndcg_score

    relevances = [0.0, 1.0, 0.0, 1.0, 0.0]
    assert ndcg(relevances, k=3) == pytest.approx(ndcg_score([relevances], [[5, 4, 3, 2, 1]], k=3))
    assert ndcg([0.0, 0.0]) == 0.0
    assert ndcg([2.0, 1.0]) == pytest.approx(1.0)
    assert ndcg([1.0, 2.0]) == pytest.approx((1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3)))


def test_what_a_ranking_lacks_counts_against_it() -> None:
    assert ndcg([1.0, 0.0], ideal=[1.0, 1.0]) == pytest.approx(1 / (1 + 1 / math.log2(3)))
    assert ndcg([], ideal=[1.0]) == 0.0
    assert ndcg([1.0], ideal=[1.0] * 20) == pytest.approx(ndcg([1.0], ideal=[1.0] * 10))
