"""How stable clusters are: does a group come out again when some of the messages are missing?

Hennig's cluster-wise stability (2007, subsetting): cluster a random part of the messages again and again; for each
group take the Jaccard index with the new group most like it; average. Below about 0.5 a group is an accident of the
sample, above 0.75 it may be relied upon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.mining.clustering.communities import cluster_messages

Clusterer = Callable[[NDArray[np.float32]], NDArray[np.int64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StabilityConfig:
    """How often and on how much is clustered again.

    Each round keeps `share` of the messages, `most_messages` at the most: that bounds the time, and on larger data asks
    whether groups are already there in a sample of that size.
    """

    rounds: int = 10
    share: float = 0.8
    most_messages: int = 5_000
    seed: int = 7

    def __post_init__(self) -> None:
        """Refuse settings that resample nothing."""
        if self.rounds < 1 or not 0 < self.share < 1 or self.most_messages < 2:
            raise ValueError(
                f"rounds {self.rounds} must be positive, share {self.share} in (0, 1), most_messages above 1"
            )


DEFAULT_STABILITY = StabilityConfig()


def cluster_stability(
    embeddings: NDArray[np.float32],
    groups: NDArray[np.int64],
    *,
    cluster: Clusterer = cluster_messages,
    config: StabilityConfig = DEFAULT_STABILITY,
) -> Floats:
    """Return the mean Jaccard index of each group, shape (largest group number + 1,), from 0 to 1.

    NaN where no round kept a member, so nothing is known of the group.

    Args:
        embeddings: float32 of shape (n, d).
        groups: group number of each row, shape (n,); negative for a message of no group (noise), which still takes part
            in the clustering.
        cluster: what made the groups.
        config: how often.

    Raises:
        ValueError: rows and group numbers differ in number, here or in what `cluster` returns.
    """
    _check(len(embeddings), groups, "groups")
    count = int(groups.max()) + 1 if len(groups) else 0
    if count <= 0:
        return np.zeros(0)
    kept = min(max(1, round(config.share * len(groups))), config.most_messages)
    random = np.random.default_rng(config.seed)
    totals, rounds = np.zeros(count), np.zeros(count)
    for _ in range(config.rounds):
        rows = np.sort(random.choice(len(groups), size=kept, replace=False))
        again = np.asarray(cluster(embeddings[rows]))
        _check(kept, again, "groups of the resampled messages")
        best = _best_jaccard(groups[rows], again, count)
        seen = ~np.isnan(best)
        totals[seen] += best[seen]
        rounds[seen] += 1
    return np.asarray(np.divide(totals, rounds, out=np.full(count, np.nan), where=rounds > 0))


def _best_jaccard(groups: NDArray[np.int64], again: NDArray[np.int64], count: int) -> Floats:
    """Return for each group its Jaccard index with the new group most like it, NaN for a group that is not there."""
    from scipy.sparse import coo_matrix

    sizes = np.bincount(groups[groups >= 0], minlength=count)
    new_sizes = np.bincount(again[again >= 0], minlength=1)
    both = (groups >= 0) & (again >= 0)
    shape = (count, len(new_sizes))
    shared = coo_matrix((np.ones(both.sum()), (groups[both], again[both])), shape=shape).tocsr().tocoo()
    jaccard = shared.data / (sizes[shared.row] + new_sizes[shared.col] - shared.data)
    best = np.where(sizes > 0, 0.0, np.nan)
    np.maximum.at(best, shared.row, jaccard)
    return best


def _check(rows: int, groups: NDArray[np.int64], which: str) -> None:
    if groups.shape != (rows,):
        raise ValueError(f"{rows} embeddings but {which} of shape {groups.shape}")
