"""What a dataset must have to be trained on: the limits of both model pipelines, here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetLimits:
    """What a dataset must have to be trained on.

    Attributes:
        train: examples to learn from.
        validation: examples to choose the epoch by.
        test: examples to evaluate with; with fewer, an accuracy is of no use to the gate.
        intents: different intents in train; 0 for a dataset without intents.
        largest_share: the largest intent's share of train; of few intents one may have twice its even share.
        smallest: examples in train below which an intent cannot be learned.
        unlearnable_share: the share of intents that may be that small.
        repeated_share: the share of a side's examples that nearly repeat another one of it.
        noise: the share of labels that may be wrong, by the lower bound of its estimate.
    """

    train: int
    validation: int
    test: int
    intents: int = 0
    largest_share: float = 0.5
    smallest: int = 2
    unlearnable_share: float = 0.25
    repeated_share: float = 0.4
    noise: float = 0.15

    def of_side(self, side: str) -> int:
        """Return how many examples a side needs."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[side]


INTENT_LIMITS = DatasetLimits(train=30, validation=3, test=15, intents=2)
RANKING_LIMITS = DatasetLimits(train=10, validation=1, test=3)
"""A query brings many passages, and the gate passes nothing on little evidence: below this it could not even say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How much of a side may say the same or come from one place: no shopper and no template decides the model alone.

    `per_user` and `per_session` are examples of one shopper and of one session; `per_near_duplicate` is how many
    near-duplicates an example may find on its side and still get in, base examples included.
    """

    per_user: int = 10
    per_session: int = 10
    per_near_duplicate: int = 3
