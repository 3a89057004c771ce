"""What a kept classifier says on validation: enough for charts and tables, without asking it again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Flags, Floats
from mangaassist_assets.models.intent.heads import Features, softmax
from mangaassist_assets.models.intent.out_of_scope import Scores, scope_scores


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationOutcome:
    """A kept model on validation messages of its intents, and on those of none.

    Attributes:
        intents: Its labels.
        targets: Class numbers of the messages of its intents, shape (n,).
        logits: Before any temperature, shape (n, intents).
        temperature: What the logits are divided by.
        out_of_scope_logits: Of the messages of no intent, shape (m, intents).
    """

    intents: tuple[str, ...]
    targets: NDArray[np.int64]
    logits: Features
    temperature: float
    out_of_scope_logits: Features

    @property
    def truth(self) -> list[str]:
        """Right intents."""
        return [self.intents[number] for number in self.targets]

    @property
    def predictions(self) -> list[str]:
        """The model's best intents."""
        return [self.intents[number] for number in self.logits.argmax(axis=1)]

    @property
    def right(self) -> Flags:
        """Whether they are the same, shape (n,)."""
        return np.asarray(self.logits.argmax(axis=1) == self.targets, dtype=np.bool_)

    def confidences(self, *, calibrated: bool = True) -> Floats:
        """Return the probability of each best intent, with the temperature or without, shape (n,)."""
        probabilities = softmax(self.logits, temperature=self.temperature if calibrated else 1.0)
        return np.asarray(probabilities.max(axis=1), dtype=np.float64)

    @property
    def scope_scores(self) -> Scores:
        """Scope scores of the messages of its intents, shape (n,)."""
        return scope_scores(self.logits)

    @property
    def out_of_scope_scores(self) -> Scores:
        """Scope scores of the messages of none, shape (m,)."""
        return scope_scores(self.out_of_scope_logits)
