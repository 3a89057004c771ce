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
from mangaassist_assets.models.intent.heads import fit_temperature, negative_log_likelihood
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

Scores = Sequence[NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingFigures:
    """How well scores order the passages of some queries. `loss` is the listwise one, and says most about few."""

    loss: float
    mrr: float
    ndcg: float

    def named(self, suffix: str = "") -> dict[str, float]:
        """Return the figures under the names that MLflow gets."""
        return {
            f"validation_loss{suffix}": self.loss,
            f"validation_mrr{suffix}": self.mrr,
            f"validation_ndcg{suffix}": self.ndcg,
        }


def ranking_figures(examples: Sequence[RankingExample], scores: Scores) -> RankingFigures:
    """Return mean listwise loss, MRR@10 and nDCG@10; scores are parallel to the passages of each example."""
    ranked = []
    for example, row in zip(examples, scores, strict=True):
        order = order_by_scores(np.round(row, 6).tolist(), example.first_stage_ranks)
        ranked.append([example.relevances[place] for place in order])
    return RankingFigures(
        loss=_list_loss(examples, scores),
        mrr=float(np.mean([reciprocal_rank(relevances) for relevances in ranked])),
        ndcg=float(np.mean([ndcg(relevances) for relevances in ranked])),
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
        """Return loss, then MRR, on the judging queries; None without them."""
        if self._judging is None:
            return None
        examples, table = self._judging
        self._judged.append(table.scores())
        figures = ranking_figures(examples, self._judged[-1])
        return Validation(score=(-round(figures.loss, 6), round(figures.mrr, 6)), figures=figures.named())

    def scores_of(self, epoch: int | None, *, epochs: int) -> Scores | None:
        """Return what an epoch's validation scored; None where another process saw it, or none did.

        Epochs count from 1; `epochs` have been validated by now, by this process or those that it went on from.
        """
        place = -1 if epoch is None else epoch - 1 - (epochs - len(self._judged))
        return self._judged[place] if place >= 0 else None


def _list_loss(examples: Sequence[RankingExample], scores: Scores) -> float:
    """Return the mean listwise loss of the best answer at the scale that suits the scores best."""
    width = max(len(example.passages) for example in examples)
    table = np.full((len(examples), width), -np.inf, dtype=np.float32)
    for row, values in enumerate(scores):
        table[row, : len(values)] = values
    targets = np.array([int(np.argmax(example.relevances)) for example in examples], dtype=np.int64)
    return negative_log_likelihood(table, targets, temperature=fit_temperature(table, targets))
