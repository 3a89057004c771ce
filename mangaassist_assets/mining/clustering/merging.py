"""Which small groups of messages are one: as close to each other as a group is to itself, on the messages' own scale.

The scale has two ends, and both come from the messages. Its zero is what all of them have in common: their mean is
taken away, so that in a narrow domain, where every message is like every other, only differences count. Its one is what
a group's own messages have in common: the mean similarity of two groups is divided by those within them, without the
similarity of a message to itself, which would make small groups look closed. Two groups become one if they are far
enough up that scale, the further the smaller they are, for what a few messages have in common says little of what they
mean. And whatever the scale says, groups whose messages are as alike across as within are one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from mangaassist_assets.core.arrays import Flags, Floats
from mangaassist_assets.mining.clustering.neighbours import find_neighbours

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]

_DECIMALS = 5
_CANDIDATES = 8
_NEVER = -9.0
_LEAST_ALIKE = 0.05  # groups of messages that have less in common are close to nothing
_PRIOR_PAIRS = 4  # what all groups have in common counts as so many pairs of a group's own
_PRIOR_MESSAGES = 20  # a mean of so many messages is half of the domain and half their own meaning


@checked_dataclass(frozen=True, slots=True, kw_only=True)
class MergingConfig:
    """When two groups are one.

    The closeness of two groups lies between 0, no more alike than any messages here, and 1, as alike as those within
    them. They become one at `closeness` plus `caution` / √m, where m is the size of the larger: m messages that have
    nothing in common are 1/√m close by chance. They also become one if without the mean taken away they are `same`
    alike. Only the largest `by_pairs` groups are compared pair by pair, which takes 24 × by_pairs² bytes; more groups
    are first brought down to that by merging neighbours.
    """

    closeness: float = 0.45
    caution: float = Field(default=0.7, ge=0)
    same: float = Field(default=0.9, gt=0)
    by_pairs: int = Field(default=2048, ge=2)


DEFAULT_MERGING = MergingConfig()


def merge_groups(vectors: Vectors, groups: Labels, *, config: MergingConfig = DEFAULT_MERGING) -> Labels:
    """Return the groups after merging, the closest pair first, until no two are close enough.

    Args:
        vectors: of distinct messages, float32 of shape (n, d), rows of length one or zero.
        groups: the group of each, numbered from 0 without gaps.
        config: when two groups are one.

    Returns:
        Group numbers from 0 without gaps, in no particular order.
    """
    state = _Groups.of(vectors, groups)
    merged = np.arange(len(state.sizes))
    while len(state.sizes) > config.by_pairs:
        joined = _join_neighbours(state, config)
        if joined is None:
            break
        merged = joined[merged]
        state = state.joined(joined)
    largest = np.argsort(-state.sizes, kind="stable")[: config.by_pairs]
    joined = np.arange(len(state.sizes))
    joined[largest] = largest[_merged_by_pairs(state.part(largest), config)]
    return np.unique(joined[merged], return_inverse=True)[1][groups]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Groups:
    """Sums of the groups' vectors with the mean of all taken away and as they are, shape (k, d), and sizes (k,).

    `alike` and `plainly_alike` are how similar two messages of one group were on average before anything was merged.
    """

    centred: Floats
    plain: Floats
    sizes: NDArray[np.int64]
    alike: float
    plainly_alike: float

    @classmethod
    def of(cls, vectors: Vectors, groups: Labels) -> _Groups:
        sizes = np.bincount(groups)
        plain = _sums(vectors, groups, len(sizes))
        centred = _sums(_centred(vectors), groups, len(sizes))
        return cls(
            centred=centred,
            plain=plain,
            sizes=sizes,
            alike=_mean_within(centred, sizes),
            plainly_alike=_mean_within(plain, sizes),
        )

    def joined(self, numbers: Labels) -> _Groups:
        count = int(numbers.max()) + 1
        return replace(
            self,
            centred=_sums(self.centred, numbers, count),
            plain=_sums(self.plain, numbers, count),
            sizes=np.bincount(numbers, weights=self.sizes).astype(np.int64),
        )

    def part(self, rows: Labels) -> _Groups:
        return replace(self, centred=self.centred[rows], plain=self.plain[rows], sizes=self.sizes[rows])


def _sums(rows: Vectors | Floats, groups: Labels, count: int) -> Floats:
    from scipy.sparse import csr_matrix

    belongs = csr_matrix((np.ones(len(groups)), (groups, np.arange(len(groups)))), shape=(count, len(groups)))
    return np.asarray(belongs @ rows, dtype=np.float64)


def _centred(vectors: Vectors) -> Vectors:
    """Take away what all messages have in common; the fewer there are, the less of their mean is that."""
    share = len(vectors) / (len(vectors) + _PRIOR_MESSAGES)
    centred: Vectors = vectors - np.float32(share) * vectors.mean(axis=0)
    centred[~vectors.any(axis=1)] = 0  # a vector of nothing has no meaning to compare
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), np.float32(1e-6))
    return centred


def _mean_within(sums: Floats, sizes: NDArray[np.int64]) -> float:
    pairs = int((sizes * (sizes - 1)).sum())
    total = float(np.einsum("kd,kd->", sums, sums)) - int(sizes.sum())
    return total / pairs if pairs else 1.0


def _lengths(squares: Floats, sizes: NDArray[np.int64], alike: float) -> Floats:
    """Return what a sum of vectors would be long, were a message as similar to itself as to the others of its group."""
    within = (squares - sizes + _PRIOR_PAIRS * alike) / (sizes * (sizes - 1) + _PRIOR_PAIRS)
    lengths: Floats = np.sqrt(np.maximum(within, _LEAST_ALIKE)) * sizes
    return lengths


def _excess(closeness: Floats, likeness: Floats, larger: NDArray[np.int64], config: MergingConfig) -> Floats:
    """Return by how much groups are closer than they need to be, negative where they are not; rounded."""
    needed = config.closeness + config.caution / np.sqrt(larger)
    # Rounded before it decides an order: the last bits differ between machines.
    excess: Floats = np.maximum(closeness - needed, likeness - config.same).astype(np.float64)
    return np.round(excess, _DECIMALS)


def _join_neighbours(state: _Groups, config: MergingConfig) -> Labels | None:
    """Return new numbers with each pair joined that is mutually closest and close enough, or None if there is none."""
    count = len(state.sizes)
    units = state.centred / np.maximum(np.linalg.norm(state.centred, axis=1, keepdims=True), 1e-9)
    near, _ = find_neighbours(units.astype(np.float32), neighbours=_CANDIDATES)
    rows, columns = np.repeat(np.arange(count), near.shape[1]), near.ravel()
    excess = np.empty(near.shape)
    centred = _lengths(np.einsum("kd,kd->k", state.centred, state.centred), state.sizes, state.alike)
    plain = _lengths(np.einsum("kd,kd->k", state.plain, state.plain), state.sizes, state.plainly_alike)
    for place, other in enumerate(near.T):
        excess[:, place] = _excess(
            np.einsum("kd,kd->k", state.centred, state.centred[other]) / (centred * centred[other]),
            np.einsum("kd,kd->k", state.plain, state.plain[other]) / (plain * plain[other]),
            np.maximum(state.sizes, state.sizes[other]),
            config,
        )
    enough = (excess.ravel() >= 0) & (rows != columns)
    if not enough.any():
        return None
    left = np.concatenate([rows[enough], columns[enough]])
    right = np.concatenate([columns[enough], rows[enough]])
    best = np.lexsort((right, -np.tile(excess.ravel()[enough], 2), left))
    first = best[np.unique(left[best], return_index=True)[1]]
    partner = np.arange(count)
    partner[left[first]] = right[first]
    mutual = partner[partner] == np.arange(count)
    joined = np.where(mutual, np.minimum(partner, np.arange(count)), np.arange(count))
    return np.unique(joined, return_inverse=True)[1]


def _merged_by_pairs(state: _Groups, config: MergingConfig) -> Labels:
    """Return for each group the one it ends up in, after merging the closest pair again and again."""
    count = len(state.sizes)
    # The product of sums adds up, so that sums need not be computed again.
    centred, plain = state.centred @ state.centred.T, state.plain @ state.plain.T
    sizes, parents = state.sizes.copy(), np.arange(count)
    alive: Flags = np.ones(count, dtype=bool)
    centred_lengths = _lengths(np.diag(centred), sizes, state.alike)
    plain_lengths = _lengths(np.diag(plain), sizes, state.plainly_alike)
    excess = np.empty((count, count))

    def look_around(row: int) -> Floats:
        found = _excess(
            centred[row] / (centred_lengths[row] * centred_lengths),
            plain[row] / (plain_lengths[row] * plain_lengths),
            np.maximum(sizes[row], sizes),
            config,
        )
        found[~alive] = _NEVER
        found[row] = _NEVER
        return found

    for row in range(count):
        excess[row] = look_around(row)
    nearest = excess.argmax(axis=1)
    nearness = excess[np.arange(count), nearest]
    while (nearness >= 0).any():
        kept = int(nearness.argmax())
        gone = int(nearest[kept])
        parents[parents == gone] = kept
        for products in (centred, plain):
            products[kept] += products[gone]
            products[:, kept] += products[:, gone]
        sizes[kept] += sizes[gone]
        alive[gone], nearness[gone] = False, _NEVER
        here = slice(kept, kept + 1)
        centred_lengths[here] = _lengths(centred[kept, here], sizes[here], state.alike)
        plain_lengths[here] = _lengths(plain[kept, here], sizes[here], state.plainly_alike)
        found = look_around(kept)
        excess[kept], excess[:, kept] = found, found
        excess[gone], excess[:, gone] = _NEVER, _NEVER
        # Whoever had one of the two as nearest looks around again; for the others only the merged group is new.
        bereft = np.flatnonzero(alive & ((nearest == gone) | (nearest == kept)))
        nearest[bereft] = excess[bereft].argmax(axis=1)
        nearness[bereft] = excess[bereft, nearest[bereft]]
        closer = found > nearness
        nearest[closer], nearness[closer] = kept, found[closer]
        nearest[kept] = int(found.argmax())
        nearness[kept] = found[nearest[kept]]
    return parents
