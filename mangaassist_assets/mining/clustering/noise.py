"""Which groups of messages are noise: a decision with a reason, made after grouping and beside it.

Density clustering calls a message noise because nothing is near it, and the message is gone. Here every message keeps
its group. A group is noise where too few distinct messages speak for it, too few shoppers, or its messages have too
little in common; whoever reads the decision may still look at it, and the next bundle may decide otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.mining.clustering.communities import Labels, distinct_rows, unit_rows

_DECIMALS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseConfig:
    """A group needs `minimum_size` distinct messages, `minimum_users` shoppers, and cohesion `minimum_cohesion`.

    Cohesion is the mean cosine of the group's distinct messages to its centroid. It is never 0: m messages that have
    nothing in common have 1/√m, so the smaller a group, the less its cohesion says. With all-MiniLM-L6-v2 ten random
    requests of hwu64 have 0.43, and nine of ten of its intents 0.55 or more.
    """

    minimum_size: int = 2
    minimum_users: int = 1
    minimum_cohesion: float = 0.5

    def __post_init__(self) -> None:
        """Refuse settings that call everything or nothing noise by accident."""
        if self.minimum_size < 1 or self.minimum_users < 1:
            raise ValueError(
                f"minimum_size {self.minimum_size} and minimum_users {self.minimum_users} must be 1 or more"
            )
        if not -1 <= self.minimum_cohesion <= 1:
            raise ValueError(f"minimum_cohesion is a cosine, so from -1 to 1, not {self.minimum_cohesion}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseDecision:
    """The groups that are noise, in words why, and how cohesive each group is (float32 of shape (groups,))."""

    noise: frozenset[int]
    reasons: Mapping[int, str]
    cohesion: NDArray[np.float32]


DEFAULT_NOISE = NoiseConfig()


def decide_noise(
    embeddings: NDArray[np.float32],
    groups: Labels,
    *,
    users: Sequence[str] | None = None,
    config: NoiseConfig = DEFAULT_NOISE,
) -> NoiseDecision:
    """Return which groups are noise; members keep their group number.

    Args:
        embeddings: of the messages, float32 of shape (n, d).
        groups: the group of each message, numbered from 0 without gaps, as `cluster_messages` returns them.
        users: who sent each message; without them every group counts as having enough.
        config: what a group needs.

    Raises:
        ValueError: lengths differ, an embedding is not finite, or a group number is missing or negative.
    """
    vectors = unit_rows(embeddings)
    labels = np.asarray(groups, dtype=np.int64)
    _check(len(vectors), labels, users)
    first, numbers = distinct_rows(vectors)
    # A message said often counts once in its group, and once more in any other group that holds it.
    pairs = np.unique(labels * max(1, len(first)) + numbers)
    owners, distinct = np.divmod(pairs, max(1, len(first)))
    sizes = np.bincount(owners)
    cohesion = _cohesion(vectors, first[distinct], owners, sizes)
    people = None if users is None else _people(labels, users)
    reasons: dict[int, str] = {}
    for group, size in enumerate(sizes.tolist()):
        failings = _failings(size, None if people is None else people[group], float(cohesion[group]), config)
        if failings:
            reasons[group] = "; ".join(failings)
    return NoiseDecision(noise=frozenset(reasons), reasons=reasons, cohesion=cohesion)


def _check(count: int, labels: Labels, users: Sequence[str] | None) -> None:
    if labels.shape != (count,) or (users is not None and len(users) != count):
        senders = "" if users is None else f" and {len(users)} users"
        raise ValueError(
            f"{count} embeddings but groups of shape {labels.shape}{senders}: give one of each for a message"
        )
    found = np.unique(labels)
    if not np.array_equal(found, np.arange(len(found))):
        missing = sorted(set(range(len(found))) - set(found.tolist()))
        raise ValueError(f"groups must be numbered from 0 without gaps: {missing[0]} is missing")


def _cohesion(
    vectors: NDArray[np.float32], rows: Labels, groups: Labels, sizes: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the mean cosine of each group's unit vectors to their centroid; 0 where they cancel out or are zero."""
    from scipy.sparse import csr_matrix

    belongs = csr_matrix((np.ones(len(rows)), (groups, rows)), shape=(len(sizes), len(vectors)))
    # The mean product with the unit centroid is the length of the mean.
    lengths = np.linalg.norm(belongs @ vectors, axis=1)
    cohesion: NDArray[np.float32] = np.round(lengths / sizes, _DECIMALS).astype(np.float32)
    return cohesion


def _people(groups: Labels, users: Sequence[str]) -> list[int]:
    found: list[set[str]] = [set() for _ in range(int(groups.max(initial=-1)) + 1)]
    for group, user in zip(groups.tolist(), users, strict=True):
        found[group].add(user)
    return [len(people) for people in found]


def _failings(size: int, users: int | None, cohesion: float, config: NoiseConfig) -> list[str]:
    failings: list[str] = []
    if size < config.minimum_size:
        messages = "distinct message" if size == 1 else "distinct messages"
        failings.append(f"{size} {messages}, {config.minimum_size} are needed")
    if users is not None and users < config.minimum_users:
        failings.append(f"{users} {'shopper' if users == 1 else 'shoppers'}, {config.minimum_users} are needed")
    if cohesion < config.minimum_cohesion:
        failings.append(
            f"its messages have little in common: mean cosine to the centre {cohesion:.2f}, "
            f"{config.minimum_cohesion:.2f} is needed"
        )
    return failings
