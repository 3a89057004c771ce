"""What the reviewed messages of a bundle say of another one: the rule of propagation, also with a shopper left out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.labelling.intent_labels import IntentLabel
from mangaassist_assets.labelling.people.policy import person_key
from mangaassist_assets.privacy import shopper_of

_DECIMALS = 5
_HANDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PropagationConfig:
    """When reviews speak for other failures.

    An intent needs `minimum_reviewers` distinct shoppers whose messages were reviewed alike. A message gets the intent
    whose reviewed messages it is nearest to, if that is nearer than any other by a margin. In a cluster whose estimated
    error is over `maximum_error` nothing is labelled; trials of the bundle's other clusters count for `pooled_trials`
    trials there at most. Of `margins` the one is taken that then labels most. A label names its `named_sources` nearest
    reviews.
    """

    minimum_reviewers: int = 2
    maximum_error: float = 0.125
    margins: tuple[float, ...] = (0.02, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3)
    pooled_trials: float = 10.0
    named_sources: int = 20


DEFAULT_PROPAGATION = PropagationConfig()


@dataclass(frozen=True, slots=True)
class PropagationRule:
    """By how much an intent must be nearer than the next, and whether it may be what the classifier answered.

    A turn that failed was often given the wrong intent, but one may fail for other reasons as well: what is better is
    tried.
    """

    margin: float
    doubts_answer: bool


@dataclass(frozen=True, slots=True)
class Guess:
    """The nearest intent of a message, by how much it is nearer than the next, and why it may not be said."""

    intent: str
    margin: float
    refused: str | None = None


class ReviewedMessages:
    """The reviewed messages of a bundle: each intent is the mean of its messages, one shopper one vote."""

    def __init__(
        self,
        labels: Sequence[IntentLabel],
        vectors: NDArray[np.float32],
        config: PropagationConfig,
        *,
        people: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        """Take people's labels and the vectors of their messages, shape (len(labels), d), rows of length one.

        With `people`, who stands behind each label by trace id, an intent needs two of them: one hand decides nothing.
        """
        self._people = people
        self._labels = labels
        self._vectors = vectors
        self._config = config
        self._intents = sorted({label.intent for label in labels})
        self._numbers = {intent: number for number, intent in enumerate(self._intents)}
        self._rows_of: defaultdict[str, list[int]] = defaultdict(list)
        for row, label in enumerate(labels):
            self._rows_of[shopper_of(label.user_key, label.session_id)].append(row)
        self._sums: Floats = np.zeros((len(self._intents), vectors.shape[1]), dtype=np.float64)
        for row, label in enumerate(labels):
            self._sums[self._numbers[label.intent]] += vectors[row]
        self._directions = _of_length_one(self._sums)
        self._voters = Counter(
            self._numbers[intent] for rows in self._rows_of.values() for intent in {labels[row].intent for row in rows}
        )

    def guess(
        self, vector: NDArray[np.float32], answered: str | None, *, doubts_answer: bool, without: str | None = None
    ) -> Guess | None:
        """Return what a message of shape (d,) asks for by what was reviewed; None where nothing speaks for it.

        Args:
            vector: Of the message, of length one.
            answered: What the classifier answered.
            doubts_answer: Whether that is left out.
            without: A shopper whose reviewed messages do not count.
        """
        directions, voters = self._without(without)
        nearness = np.round(directions @ vector.astype(np.float64), _DECIMALS)
        nearness[[number for number in range(len(directions)) if not voters[number]]] = -np.inf
        if doubts_answer and answered in self._numbers:
            nearness[self._numbers[answered]] = -np.inf
        if not np.isfinite(nearness).any():
            return None
        best = int(np.argmax(nearness))
        next_best = max(0.0, float(np.max(np.delete(nearness, best), initial=-np.inf)))
        refused = None
        if voters[best] < self._config.minimum_reviewers:
            refused = "too few shoppers with a reviewed message like it"
        elif self._people is not None and len(self._hands(self._intents[best], self._people, without)) < _HANDS:
            refused = "only one of several people reviewed messages like it"
        return Guess(
            intent=self._intents[best],
            margin=float(nearness[best]) - next_best,
            refused=refused,
        )

    def nearest(self, intent: str, vector: NDArray[np.float32]) -> list[IntentLabel]:
        """Return the reviews of an intent that are nearest to a message, up to `named_sources`."""
        similarities = np.round(self._vectors @ vector, _DECIMALS)
        rows = [row for row, label in enumerate(self._labels) if label.intent == intent]
        rows.sort(key=lambda row: (-float(similarities[row]), self._labels[row].trace_id))
        return [self._labels[row] for row in rows[: self._config.named_sources]]

    def _hands(self, intent: str, people: Mapping[str, Collection[str]], without: str | None) -> set[str]:
        """Return who stands behind an intent, but for the messages of one shopper."""
        gone = set() if without is None else set(self._rows_of.get(without, []))
        behind = (label for row, label in enumerate(self._labels) if label.intent == intent and row not in gone)
        return {person_key(one) for label in behind for one in people.get(label.trace_id, (label.labeller,))}

    def _without(self, shopper: str | None) -> tuple[Floats, Counter[int]]:
        """Return the direction of each intent's messages and how many shoppers wrote them, but for one shopper."""
        rows = [] if shopper is None else self._rows_of.get(shopper, [])
        if not rows:
            return self._directions, self._voters
        sums = self._sums.copy()
        for row in rows:
            sums[self._numbers[self._labels[row].intent]] -= self._vectors[row]
        gone = Counter({self._numbers[self._labels[row].intent] for row in rows})
        return _of_length_one(sums), self._voters - gone


def _of_length_one(sums: Floats) -> Floats:
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    directions: Floats = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
    return directions
