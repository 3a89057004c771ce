"""Which clusters of two bundles hold the same failure: how far each is made of the clusters of the other.

A cluster's exemplars are read as a mixture of the other bundle's clusters, each a kernel density over its own
exemplars, and of one more part, "new", that is as dense as the cluster itself would be a little farther away. The
weights of greatest likelihood (expectation maximisation with the densities fixed, which has one maximum) are the shares
of the cluster that come from each. Taken in both directions they say more than the distance of two centroids: of a
split each part comes from the old cluster while the old one goes to several parts, and a new failure that merely
resembles an old one gets nothing of it, because the old one's messages have their own heir to go to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Flags, Floats
from mangaassist_assets.mining.tracking.profiles import ClusterProfile

_NEGLIGIBLE_DENSITY = 1e-4  # of the densest part at each of a cluster's exemplars
_BLOCK_ROWS = 512  # of exemplars compared at once: bounds the memory
_ROUNDS = 30  # of expectation maximisation; shares move by less than a hundredth after about ten


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterMatchingConfig:
    """When two clusters are of one kin; set on simulated streams, see benchmarks/bench_identity.py.

    `concentration` is the kernel's: exp(concentration × cosine). The part "new" has the density that an exemplar has in
    its own cluster, taken at `nearness` of that closeness, at the least `lowest`, at the most `highest`. Two
    clusters are kin if one of them gives at least `main_share` to the other and both give at least `minor_share`; a
    cluster of which all its kin together explain less than `known_share` has none, for it is mostly new, or gone.
    `lone_closeness` stands for an exemplar's closeness to its own cluster where no cluster has two messages.
    """

    concentration: float = 20.0
    nearness: float = 0.7
    lowest: float = 0.2
    highest: float = 0.75
    main_share: float = 0.5
    minor_share: float = 0.05
    known_share: float = 0.4
    lone_closeness: float = 0.8

    def __post_init__(self) -> None:
        """Refuse shares and cosines that mean nothing."""
        shares = (self.nearness, self.lowest, self.highest, self.main_share, self.minor_share, self.known_share)
        if (
            not all(0 < share <= 1 for share in (*shares, self.lone_closeness))
            or self.lowest > self.highest
            or self.concentration <= 0
        ):
            raise ValueError(
                f"shares and cosines must lie in (0, 1], lowest ≤ highest, concentration be positive: {self}"
            )


DEFAULT_CLUSTER_MATCHING = ClusterMatchingConfig()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coverage:
    """Shares: `forward` (n, m) of each current cluster that come from each previous one, `backward` (m, n) the reverse.

    What is missing from one in a row is new. `similarity`, shape (n, m), is the cosine of the centroids.
    """

    forward: Floats
    backward: Floats
    similarity: Floats

    def kin(self, config: ClusterMatchingConfig) -> Flags:
        """Return which pairs, shape (n, m), hold the same failure in whole or in part."""
        forward, backward = self.forward, self.backward.T
        main = np.maximum(forward, backward) >= config.main_share
        both = np.minimum(forward, backward) >= config.minor_share
        kin = main & both
        # What is mostly new, or mostly gone, is carried on by nobody: a pair that shares a little is no continuation.
        known = (forward * kin).sum(axis=1) >= config.known_share
        kept = (backward * kin).sum(axis=0) >= config.known_share
        return np.asarray(kin & known[:, None] & kept[None, :])

    def mutual(self) -> Floats:
        """Return the product of the two shares, shape (n, m), rounded so that it may decide an order."""
        return np.asarray(np.round(self.forward * self.backward.T, 4))


def cover(
    current: Sequence[ClusterProfile],
    previous: Sequence[ClusterProfile],
    *,
    config: ClusterMatchingConfig = DEFAULT_CLUSTER_MATCHING,
) -> Coverage:
    """Return how far the clusters of two bundles are made of one another.

    Raises:
        ValueError: the two bundles were embedded with models of different dimension.
    """
    if not current or not previous:
        shape = (len(current), len(previous))
        return Coverage(forward=np.zeros(shape), backward=np.zeros(shape[::-1]), similarity=np.zeros(shape))
    check_dimensions(current, previous)
    own = [_own_closeness(cluster.exemplars, config.concentration) for cluster in (*current, *previous)]
    known = np.concatenate(own)
    lone = float(np.nanmedian(known)) if np.isfinite(known).any() else config.lone_closeness
    news = [
        np.clip(config.nearness * np.where(np.isnan(values), lone, values), config.lowest, config.highest)
        for values in own
    ]
    centroids = [np.stack([cluster.centroid for cluster in clusters]) for clusters in (current, previous)]
    return Coverage(
        forward=_shares(current, previous, news[: len(current)], config.concentration),
        backward=_shares(previous, current, news[len(current) :], config.concentration),
        similarity=np.asarray(np.round(centroids[0].astype(np.float64) @ centroids[1].T, 6)),
    )


def check_dimensions(current: Sequence[ClusterProfile], previous: Sequence[ClusterProfile]) -> None:
    """Refuse clusters that were embedded by models of different dimension."""
    dimensions = sorted({len(cluster.centroid) for cluster in (*current, *previous)})
    if len(dimensions) > 1:
        raise ValueError(
            f"clusters have {' and '.join(map(str, dimensions))} dimensions: the embedding model changed, mine the "
            "other bundle again with the new one"
        )


def _shares(
    clusters: Sequence[ClusterProfile],
    others: Sequence[ClusterProfile],
    news: Sequence[Floats],
    concentration: float,
) -> Floats:
    exemplars = np.concatenate([cluster.exemplars for cluster in clusters])
    pool = np.concatenate([other.exemplars for other in others])
    sizes = [len(other.exemplars) for other in others]
    blocks = [exemplars[start : start + _BLOCK_ROWS] for start in range(0, len(exemplars), _BLOCK_ROWS)]
    closeness = np.concatenate(
        [_closeness((block @ pool.T).astype(np.float64), sizes, concentration) for block in blocks]
    )
    closeness = np.column_stack([closeness, np.concatenate(news)])
    weights = _mixture_weights(closeness, [len(cluster.exemplars) for cluster in clusters], concentration)
    return np.asarray(np.round(weights[:, :-1], 5))


def _mixture_weights(closeness: Floats, sizes: Sequence[int], concentration: float) -> Floats:
    """Return the weights of greatest likelihood of the columns' densities for each run of rows, given log densities."""
    densities = np.exp(concentration * (closeness - closeness.max(axis=1, keepdims=True)))
    weights = np.zeros((len(sizes), densities.shape[1]))
    for row, run in enumerate(np.split(densities, np.cumsum(sizes)[:-1])):
        telling = np.flatnonzero(run.max(axis=0) >= _NEGLIGIBLE_DENSITY)
        part, share = run[:, telling], np.full(len(telling), 1.0 / len(telling))
        for _ in range(_ROUNDS):
            parts = part * share
            share = (parts / parts.sum(axis=1, keepdims=True)).mean(axis=0)
        weights[row, telling] = share
    return weights


def _closeness(cosines: Floats, sizes: Sequence[int], concentration: float) -> Floats:
    """Return how close each row's message is to each cluster, a run of columns, as a log density.

    The sum of kernels is divided by the root of their number: divided by the number, a cluster of several topics would
    seem far from each of them; undivided, a large cluster would draw what is not its own.
    """
    starts = np.cumsum([0, *sizes[:-1]])
    nearest = np.maximum.reduceat(cosines, starts, axis=1)
    kernels = np.exp(concentration * (cosines - np.repeat(nearest, sizes, axis=1)))
    totals = np.add.reduceat(kernels, starts, axis=1) / np.sqrt(sizes)
    return np.asarray(nearest + np.log(totals) / concentration)


def _own_closeness(exemplars: NDArray[np.float32], concentration: float) -> Floats:
    """Return how close each exemplar is to the others of its cluster, NaN where there is no other."""
    if len(exemplars) == 1:
        return np.array([np.nan])
    cosines = np.asarray(exemplars @ exemplars.T, dtype=np.float64)
    others = cosines[~np.eye(len(cosines), dtype=bool)].reshape(len(cosines), -1)
    return _closeness(others, [others.shape[1]], concentration)[:, 0]
