"""What the training loop needs to know of a reranker: what learns, the losses of lists, and how good it is by now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from mangaassist_assets.models.examples import RankingExample
from mangaassist_assets.models.reranker.lists import EpochLists
from mangaassist_assets.models.reranker.networks.pair_table import PairTable, PairTexts
from mangaassist_assets.models.reranker.ranking_figures import Scores, ranking_figures
from mangaassist_assets.models.reranker.ranking_losses import RankingLoss, listwise_softmax, ranking_loss
from mangaassist_assets.training.objective import ParameterGroup, Validation

if TYPE_CHECKING:
    from torch import Tensor, nn

# Every passage of a step is compared with every query of it, so a larger step says more.
_APART_STEP = 4


class LearningNetwork(Protocol):
    """A network that ranks pairs and says what of it learns."""

    def parameter_groups(self, learning_rate: float) -> list[ParameterGroup]:
        """Return what learns, at which rates."""

    def train(self, mode: bool = True) -> nn.Module:  # noqa: FBT001, FBT002 - nn.Module's own signature
        """Switch dropout."""


class PairObjective:
    """Ranks lists better, epoch by epoch; `texts` hold all texts of all epochs.

    `judging` are queries with their table that show how good the network is by now, None where there are too few.
    """

    def __init__(
        self,
        network: LearningNetwork,
        epochs: Sequence[EpochLists],
        texts: PairTexts,
        *,
        loss: RankingLoss,
        batch_queries: int,
        learning_rate: float,
        judging: tuple[Sequence[RankingExample], PairTable] | None,
    ) -> None:
        self._network = network
        self._table = PairTable([one for epoch in epochs for one in epoch.lists], texts)
        self._loss: RankingLoss = loss
        self._learning_rate = learning_rate
        self._judging = judging
        self._judged: list[Scores] = []
        self._epochs: list[list[list[int]]] = []
        self._company: dict[int, list[int]] = {}
        first = 0
        for epoch in epochs:
            places = range(first, first + len(epoch.lists))
            first = places.stop
            size = batch_queries * (_APART_STEP if epoch.apart else 1)
            batches = [list(places[start : start + size]) for start in range(0, len(places), size)]
            self._epochs.append(batches)
            if epoch.apart:
                self._company |= {place: batch for batch in batches for place in batch}

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return what the network says."""
        return self._network.parameter_groups(self._learning_rate)

    def batches(self, epoch: int) -> list[list[int]]:
        """Return the lists of an epoch, in the order in which they were drawn."""
        return self._epochs[epoch - 1]

    def normaliser(self, batch: Sequence[int]) -> float:
        """Return the number of lists: each weighs the same, however long it is."""
        return float(len(batch))

    def loss(self, share: Sequence[int]) -> Tensor:
        """Return the sum of the lists' losses.

        Where texts are encoded apart, each worker encodes the passages of the whole batch: the loss of a query must not
        depend on who computes it.
        """
        company = self._company.get(share[0])
        if company is not None:
            return listwise_softmax(*self._table.crossed_logits(share, company)).sum()
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
