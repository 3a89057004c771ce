"""How a reranker is trained: settings that are given, and those that follow the amount of data and a budget."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from mangaassist_assets.models.reranker.ranking_losses import RANKING_LOSSES, RankingLoss

Network = Literal["split-attention", "cross-encoder"]
NETWORKS: tuple[Network, ...] = ("split-attention", "cross-encoder")

NetworkChoice = Literal["auto", "split-attention", "cross-encoder"]
"""`auto`: what is sensible for the data and the starts at hand is trained, and validation chooses."""
NETWORK_CHOICES: tuple[NetworkChoice, ...] = get_args(NetworkChoice)

PAIRS_PER_MINUTE: Mapping[Network, int] = {"split-attention": 600, "cross-encoder": 200}
"""What a budget's minute is worth, in pairs of which two layers learn (split-attention), or a third (cross-encoder).

About what one core does with MiniLM. It is a fixed rate: by the clock, the same seed would not give the same weights.
"""

_MANY_QUERIES = 2000
_VISITS = 1200
_LEAST_PASSES, _MOST_PASSES = 2, 4


class RerankerTrainingError(ValueError):
    """The examples cannot train a reranker; the message says what is wrong with them and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerTrainingConfig:
    """How the reranker is trained. What is None follows the number of usable queries, see `for_queries`.

    Attributes:
        seed: Of query order, sampled negatives and dropout.
        joint_layers: Split-attention: upper layers in which query and passage see each other; these learn.
        query_tokens: Longer queries are cut.
        passage_tokens: Longer passages are cut. A chunk of the default size is seldom longer than the default.
        loss: `listwise`, `pairwise`, `binary`, or `distillation` from a teacher's scores.
        negatives: Irrelevant passages beside each relevant one in a training step.
        apart_epochs: Split-attention: passes over the queries before the others in which texts are encoded apart, one
            negative each, and every passage of a step is wrong for all its other queries.
        epochs: Passes over the queries; 0 keeps the start and only calibrates it.
        patience: Stop after so many epochs without a better validation, but not before one in which texts are read
            together.
        budget_minutes: About how long training may take on one core. Worth `PAIRS_PER_MINUTE` each.
        max_training_pairs: At most so many pairs are learned from, over all epochs; None for what the budget is worth.
        batch_queries: Queries a step.
        learning_rate: Peak learning rate of the layers.
        minimum_validation: With fewer usable validation queries nothing is selected on them.
        max_validation_queries: The first so many usable validation queries are used: it bounds the time.
    """

    seed: int = 0
    joint_layers: int | None = None
    query_tokens: int = 48
    passage_tokens: int = 192
    loss: RankingLoss = "listwise"
    negatives: int = 3
    apart_epochs: int | None = None
    epochs: int | None = None
    patience: int = 2
    budget_minutes: float = 30.0
    max_training_pairs: int | None = None
    batch_queries: int = 8
    learning_rate: float | None = None
    minimum_validation: int = 20
    max_validation_queries: int | None = None

    def __post_init__(self) -> None:
        """Refuse sizes that cannot work, with the field's name."""
        for name in (
            "joint_layers",
            "negatives",
            "patience",
            "max_training_pairs",
            "batch_queries",
            "minimum_validation",
            "max_validation_queries",
        ):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"RerankerTrainingConfig.{name} must be at least 1, got {value}")
        for name in ("epochs", "apart_epochs"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise ValueError(f"RerankerTrainingConfig.{name} cannot be negative, got {value}")
        for name in ("learning_rate", "budget_minutes"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"RerankerTrainingConfig.{name} must be positive, got {value}")
        if self.loss not in RANKING_LOSSES:
            raise ValueError(f"RerankerTrainingConfig.loss must be one of {RANKING_LOSSES}, got {self.loss!r}")
        if not 8 <= self.query_tokens <= 256 or not 16 <= self.passage_tokens <= 448:
            raise ValueError("RerankerTrainingConfig: query_tokens must lie in 8..256, passage_tokens in 16..448")

    def for_queries(self, queries: int, network: Network) -> TrainingEffort:
        """Return the settings for a number of usable training queries.

        Few queries are gone through more often, up to four times: apart in a split-attention network, which reads them
        together once more. With few of them only the last layer learns. The budget bounds all of it: epochs that it is
        not worth are shortened or left out, the last ones first.
        """
        passes = min(_MOST_PASSES, max(_LEAST_PASSES, round(_VISITS / max(1, queries))))
        split = network == "split-attention"
        # A teacher has no scores for other queries' passages, and a cross-encoder no way to read a text alone.
        can_be_apart = split and self.loss != "distillation"
        epochs = self.epochs
        if epochs is None:
            epochs = 1 if can_be_apart else passes
        apart = passes if self.apart_epochs is None else self.apart_epochs
        joint = self.joint_layers or (2 if queries >= _MANY_QUERIES else 1)
        pairs = self.max_training_pairs
        if pairs is None:
            pairs = max(1, int(self.budget_minutes * PAIRS_PER_MINUTE[network]))
            pairs = pairs * 2 // joint if split else pairs
        return TrainingEffort(
            joint_layers=joint,
            apart_epochs=apart if can_be_apart and epochs else 0,
            epochs=epochs,
            pairs=pairs,
            learning_rate=self.learning_rate or (1e-4 if split else 5e-5),
            validation_queries=self.max_validation_queries or min(200, max(60, queries // 4)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingEffort:
    """What a training of a given size does; the names are those of `RerankerTrainingConfig`."""

    joint_layers: int
    apart_epochs: int
    epochs: int
    pairs: int
    learning_rate: float
    validation_queries: int
