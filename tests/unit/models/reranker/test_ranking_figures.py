"""Claims about what rerankers are chosen by."""

import numpy as np
import pytest

from mangaassist_assets.models.examples import RankingExample
from mangaassist_assets.models.reranker.ranking_figures import ranking_figures


def query_with(relevances: tuple[float, ...], *, missed: tuple[float, ...] = ()) -> RankingExample:
    passages = tuple(f"passage {place}" for place in range(len(relevances)))
    ranks = tuple(range(1, len(relevances) + 1))
    return RankingExample(
        example_id="q", query="q", passages=passages, relevances=relevances, first_stage_ranks=ranks, missed=missed
    )


THREE_OF_TEN = query_with((1.0, 1.0, 1.0, *(0.0,) * 7))
PERFECT = [np.array([10.0, 10.0, 10.0, *(0.0,) * 7])]
ONLY_THE_FIRST = [np.array([10.0, -10.0, -10.0, *(0.0,) * 7])]


def test_a_perfect_order_of_three_relevant_passages_beats_one_with_only_the_first_on_top() -> None:
    perfect, first = (ranking_figures([THREE_OF_TEN], scores) for scores in (PERFECT, ONLY_THE_FIRST))
    assert perfect.score > first.score
    assert perfect.ndcg == 1.0 > first.ndcg
    assert perfect.loss == pytest.approx(0.0, abs=1e-3)
    assert perfect.loss < 1.0 < first.loss


def test_equal_orders_are_told_apart_by_the_loss() -> None:
    just_wrong = [np.array([4.0, 0.0, 0.0]), np.array([0.0, 0.1, -4.0])]
    quite_wrong = [np.array([4.0, 0.0, 0.0]), np.array([0.0, 4.0, -4.0])]
    two = [query_with((1.0, 0.0, 0.0))] * 2
    assert ranking_figures(two, just_wrong).ndcg == ranking_figures(two, quite_wrong).ndcg < 1.0
    assert ranking_figures(two, just_wrong).score > ranking_figures(two, quite_wrong).score


def test_what_the_retriever_missed_lowers_ndcg_and_leaves_the_loss() -> None:
    scores = [np.array([2.0, 1.0, 0.0])]
    found = ranking_figures([query_with((1.0, 0.0, 0.0))], scores)
    half = ranking_figures([query_with((1.0, 0.0, 0.0), missed=(1.0,))], scores)
    lost = ranking_figures([query_with((0.0, 0.0, 0.0), missed=(1.0,))], scores)
    assert found.ndcg > half.ndcg > lost.ndcg == lost.mrr == lost.loss == 0.0
    assert half.loss == found.loss


def test_the_scale_of_scores_does_not_count() -> None:
    example = query_with((1.0, 0.0, 1.0, 0.0))
    scores = np.array([1.0, 0.5, -0.5, -1.0])
    small, large = (ranking_figures([example], [factor * scores]) for factor in (0.1, 10.0))
    assert small.loss == pytest.approx(large.loss, abs=1e-4)
