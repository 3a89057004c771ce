"""What the reviewed members of one cluster say of a message: the rule of propagation, also with a shopper left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.labelling.intent_labels import IntentLabel
from mangaassist_assets.labelling.people.policy import person_key
from mangaassist_assets.privacy import shopper_of

if TYPE_CHECKING:
    from mangaassist_assets.mining.tracking.clusters import FailureCluster

_DECIMALS = 5
_HANDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PropagationConfig:
    """When a cluster's reviews speak for its other members.

    At least `minimum_reviewers` distinct shoppers' messages were reviewed alike, they are `minimum_agreement` of all
    reviewed shoppers in the cluster, the nearest reviewed message has that intent, with cosine `minimum_similarity`
    or more, and the estimated error is `maximum_error` at most. Trials of the bundle's other clusters count for
    `pooled_trials` trials at most. A label names its `named_sources` nearest reviews.
    """

    minimum_reviewers: int = 2
    minimum_agreement: float = 0.75
    minimum_similarity: float = 0.5
    maximum_error: float = 0.2
    pooled_trials: float = 10.0
    named_sources: int = 20


DEFAULT_PROPAGATION = PropagationConfig()


@dataclass(frozen=True, slots=True)
class NoVerdict:
    """Why a cluster's reviews say nothing."""

    reason: str


class ClusterReviews:
    """The reviewed members of a cluster. One shopper has one vote for an intent, however many messages they wrote."""

    def __init__(
        self,
        cluster: FailureCluster,
        labels: Sequence[IntentLabel],
        vectors: NDArray[np.float32],
        *,
        people: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        """Take the labels of reviewed members and their vectors, shape (len(labels), d), rows of length one.

        With `people`, who stands behind each label by trace id, an intent needs two of them: one hand decides nothing.
        """
        self.cluster_id = cluster.cluster_id
        self.labels = labels
        self.vectors = vectors
        self._noise = cluster.noise
        self._people = people
        self._owners = np.array([shopper_of(one.user_key, one.session_id) for one in labels], dtype=np.object_)
        self._intents_of: dict[str, set[str]] = {}
        for owner, label in zip(self._owners.tolist(), labels, strict=True):
            self._intents_of.setdefault(owner, set()).add(label.intent)
        self._votes = Counter(intent for intents in self._intents_of.values() for intent in intents)

    @property
    def shoppers(self) -> list[str]:
        """The shoppers with a reviewed message, sorted."""
        return sorted(self._intents_of)

    def rows_of(self, shopper: str) -> list[int]:
        """Return which labels are of a shopper's messages."""
        return np.flatnonzero(self._owners == shopper).tolist()

    def verdict(self, config: PropagationConfig, *, without: str | None = None) -> str | NoVerdict:
        """Return the intent that the cluster's reviews agree on, as if the shopper `without` had not been reviewed."""
        if self._noise:
            return NoVerdict("the group is noise")
        absent = self._intents_of[without] if without is not None else set()
        votes = {intent: count - (intent in absent) for intent, count in self._votes.items()}
        votes = {intent: count for intent, count in votes.items() if count}
        if not votes:
            return NoVerdict("no reviewed message in the cluster")
        intent = min(votes, key=lambda name: (-votes[name], name))
        if votes[intent] < config.minimum_reviewers:
            return NoVerdict("too few shoppers with a reviewed message in the cluster")
        if votes[intent] / sum(votes.values()) < config.minimum_agreement:
            return NoVerdict("reviews in the cluster disagree")
        if self._people is not None and len(self._hands(intent, self._people, without=without)) < _HANDS:
            return NoVerdict("only one of several people reviewed the cluster")
        return intent

    def _hands(self, intent: str, people: Mapping[str, Collection[str]], *, without: str | None) -> set[str]:
        """Return who stands behind an intent, as if the shopper `without` had not been reviewed."""
        behind = (
            label
            for owner, label in zip(self._owners.tolist(), self.labels, strict=True)
            if label.intent == intent and owner != without
        )
        return {person_key(one) for label in behind for one in people.get(label.trace_id, (label.labeller,))}

    def refusal(
        self, intent: str, vector: NDArray[np.float32], config: PropagationConfig, *, without: str | None = None
    ) -> str | None:
        """Return why a message, its vector of shape (d,), does not get the intent, or None if it does."""
        similarities = np.round(self.vectors @ vector, _DECIMALS)
        if without is not None:
            similarities[self._owners == without] = -2.0
        nearest = int(np.argmax(similarities))
        if self.labels[nearest].intent != intent:
            return "the nearest reviewed message has another intent"
        if similarities[nearest] < config.minimum_similarity:
            return "not similar enough to a reviewed message"
        return None

    def nearest(self, intent: str, vector: NDArray[np.float32], *, limit: int) -> list[IntentLabel]:
        """Return the reviews of an intent that are nearest to a message, up to `limit`."""
        similarities = np.round(self.vectors @ vector, _DECIMALS)
        rows = [row for row, label in enumerate(self.labels) if label.intent == intent]
        rows.sort(key=lambda row: (-float(similarities[row]), self.labels[row].trace_id))
        return [self.labels[row] for row in rows[:limit]]


def reviews_of_cluster(
    cluster: FailureCluster,
    human: Mapping[str, IntentLabel],
    rows: Mapping[str, int],
    embeddings: NDArray[np.float32],
    *,
    people: Mapping[str, Collection[str]] | None = None,
) -> ClusterReviews:
    """Return a cluster's reviews, ordered by trace id.

    Args:
        cluster: the cluster.
        human: people's labels by trace id.
        rows: the row of each trace in `embeddings`.
        embeddings: float32 of shape (n, d), rows of length one.
        people: see `ClusterReviews`.
    """
    labels = [human[trace_id] for trace_id in sorted(cluster.trace_ids) if trace_id in human]
    return ClusterReviews(cluster, labels, embeddings[[rows[label.trace_id] for label in labels]], people=people)
