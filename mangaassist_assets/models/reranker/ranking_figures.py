"""How well scores order passages: what rerankers are chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.ranking_metrics import ndcg, reciprocal_rank
from mangaassist_assets.evaluation.metrics import order_by_scores
from mangaassist_assets.models.examples import RankingExample

_LOG_SCALES = (-5.0, 5.0)

Scores = Sequence[NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingFigures:
    """How well scores order the passages of some queries; `loss` is the listwise one over all relevant passages."""

    loss: float
    mrr: float
    ndcg: float

    @property
    def score(self) -> tuple[float, float]:
        """What rerankers are chosen by, higher is better: nDCG@10, as the gate decides, then the loss.

        Rounded, so that the last bits, which differ between machines, do not decide.
        """
        return (round(self.ndcg, 6), -round(self.loss, 6))

    def named(self, suffix: str = "") -> dict[str, float]:
        """Return the figures under the names that MLflow gets."""
        return {
            f"validation_loss{suffix}": self.loss,
            f"validation_mrr{suffix}": self.mrr,
            f"validation_ndcg{suffix}": self.ndcg,
        }


def ranking_figures(examples: Sequence[RankingExample], scores: Scores) -> RankingFigures:
    """Return mean listwise loss, MRR@10 and nDCG@10; scores are parallel to the passages of each example.

    nDCG@10 counts what the retriever missed in its ideal. Queries without a relevant passage in their list have no
    loss.
    """
    ranked = []
    for example, row in zip(examples, scores, strict=True):
        order = order_by_scores(np.round(row, 6).tolist(), example.first_stage_ranks)
        ranked.append([example.relevances[place] for place in order])
    return RankingFigures(
        loss=_list_loss(examples, scores),
        mrr=float(np.mean([reciprocal_rank(relevances) for relevances in ranked])),
        ndcg=float(np.mean([ndcg(row, ideal=one.ideal) for row, one in zip(ranked, examples, strict=True)])),
    )


def first_stage_scores(examples: Sequence[RankingExample]) -> Scores:
    """Return scores that keep the retriever's order."""
    return [-np.array(example.first_stage_ranks, dtype=np.float64) for example in examples]


def _list_loss(examples: Sequence[RankingExample], scores: Scores) -> float:
    """Return the mean listwise loss over all relevant passages of a list, at the scale that suits the scores best.

    It is the one that training lowers, less what no scores could go below: 0 where the relevant passages of every list
    share the whole probability as their relevances do. Lists without a relevant passage are left out.
    """
    from scipy.optimize import minimize_scalar

    useful = [
        (row, np.asarray(one.relevances, dtype=np.float64))
        for one, row in zip(examples, scores, strict=True)
        if max(one.relevances) > 0
    ]
    if not useful:
        return 0.0
    width = max(len(row) for row, _ in useful)
    logits, shares = np.full((len(useful), width), -np.inf), np.zeros((len(useful), width))
    for place, (row, relevances) in enumerate(useful):
        logits[place, : len(row)] = row
        shares[place, : len(row)] = relevances / relevances.sum()
    least = -float(np.sum(shares[shares > 0] * np.log(shares[shares > 0])))

    def loss(log_scale: float) -> float:
        scaled = logits * np.exp(log_scale)
        top = scaled.max(axis=1, keepdims=True)
        chances = scaled - top - np.log(np.exp(scaled - top).sum(axis=1, keepdims=True))
        return (-float(np.sum(shares * np.where(shares > 0, chances, 0.0))) - least) / len(useful)

    found = minimize_scalar(loss, bounds=_LOG_SCALES, method="bounded", options={"xatol": 1e-3})
    return float(found.fun)
