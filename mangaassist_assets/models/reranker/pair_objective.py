"""What the training loop needs to know of a reranker: what learns, the losses of lists, and how good it is by now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.ranking_metrics import ndcg, reciprocal_rank
from mangaassist_assets.evaluation.metrics import order_by_scores
from mangaassist_assets.models.examples import RankingExample
from mangaassist_assets.models.reranker.pair_training import PairTable
from mangaassist_assets.models.reranker.ranking_losses import RankingLoss, ranking_loss
from mangaassist_assets.training.objective import ParameterGroup, Validation

if TYPE_CHECKING:
    from torch import Tensor

    from mangaassist_assets.models.reranker.pair_network import PairNetwork

_HEAD_LEARNING_RATE = 0.1
_GATE_LEARNING_RATE = 0.05
_FRESH_RATE_RATIO = 10.0
_WEIGHT_DECAY = 0.01
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


class PairObjective:
    """Ranks lists better: the joint layers, gates and head of a network learn, what lies below them does not.

    The table holds all lists of all epochs, one epoch after the other; `epochs` says how many each has. `judging` are
    queries with their table that show how good the network is by now, None where there are too few.
    """

    def __init__(
        self,
        network: PairNetwork,
        table: PairTable,
        *,
        epochs: Sequence[int],
        loss: RankingLoss,
        batch_queries: int,
        learning_rate: float,
        judging: tuple[Sequence[RankingExample], PairTable] | None,
    ) -> None:
        self._network = network
        self._table = table
        self._ends = np.cumsum(epochs).tolist()
        self._loss: RankingLoss = loss
        self._batch = batch_queries
        self._learning_rate = learning_rate
        self._judging = judging
        self._judged: list[Scores] = []

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return layers, fresh vectors, gates, and the head's weights, each at its own rate."""
        network = self._network
        network.requires_grad_(requires_grad=False)
        layers = {
            f"layer.{number}.{name}": parameter
            for number, block in enumerate(list(network.encoder.transformer.layer)[network.apart_layers :])
            for name, parameter in block.named_parameters()
        }
        fresh: Mapping[str, Tensor] = {"segments": network.segments, "query_view": network.query_view}
        groups = [
            ParameterGroup(parameters=layers, learning_rate=self._learning_rate, weight_decay=_WEIGHT_DECAY),
            ParameterGroup(parameters=fresh, learning_rate=_FRESH_RATE_RATIO * self._learning_rate, clipped=False),
            ParameterGroup(parameters={"gates": network.gates}, learning_rate=_GATE_LEARNING_RATE, clipped=False),
            ParameterGroup(
                parameters={"interactions": network.interactions}, learning_rate=_HEAD_LEARNING_RATE, clipped=False
            ),
        ]
        for group in groups:
            for parameter in group.parameters.values():
                parameter.requires_grad_()
        return groups

    def batches(self, epoch: int) -> list[list[int]]:
        """Return the lists of an epoch, in the order in which they were drawn."""
        start, end = ([0, *self._ends][epoch - 1], self._ends[epoch - 1])
        return [list(range(first, min(first + self._batch, end))) for first in range(start, end, self._batch)]

    def normaliser(self, batch: Sequence[int]) -> float:
        """Return the number of lists: each weighs the same, however long it is."""
        return float(len(batch))

    def loss(self, share: Sequence[int]) -> Tensor:
        """Return the sum of the lists' losses."""
        logits, wanted, present = self._table.list_logits(share)
        return ranking_loss(self._loss, logits, wanted, present).sum()

    def train_mode(self, *, training: bool) -> None:
        """Switch dropout on or off."""
        self._network.train(training)

    def validate(self) -> Validation | None:
        """Return nDCG, then the loss, on the judging queries; None without them."""
        if self._judging is None:
            return None
        examples, table = self._judging
        self._judged.append(table.scores())
        figures = ranking_figures(examples, self._judged[-1])
        return Validation(score=figures.score, figures=figures.named())

    def scores_of(self, epoch: int | None, *, epochs: int) -> Scores | None:
        """Return what an epoch's validation scored; None where another process saw it, or none did.

        Epochs count from 1; `epochs` have been validated by now, by this process or those that it went on from.
        """
        place = -1 if epoch is None else epoch - 1 - (epochs - len(self._judged))
        return self._judged[place] if place >= 0 else None


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
