"""Groups of messages that mean alike, in two steps: every message climbs to a denser one, and groups are merged.

First each message joins its nearest neighbour where that lies in denser surroundings (Koontz, Narendra and Fukunaga,
1976), which makes small, pure groups. It is a decision of its own neighbourhood, so a few messages more or less change
the groups near them and no others; communities of a graph change everywhere. Then groups are merged, the closest pair
first, as `merging` says: how close is close follows from the messages themselves, for in a narrow domain everything is
alike. There is no seed: the same vectors give the same groups. Nothing is thrown away as noise; a lonely message is a
group of one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.mining.clustering.merging import DEFAULT_MERGING, MergingConfig, merge_groups
from mangaassist_assets.mining.clustering.neighbours import find_neighbours

Labels = NDArray[np.int64]

_CLOSE = 0.5  # cosine above which two messages alone in the world are one group
_DECIMALS = 5
_ROWS_AT_ONCE = 4096
_SEED = 20
_ORDINARY = (1e-6, 1e6)  # lengths of which every square fits into a float32


@checked_dataclass(frozen=True, slots=True, kw_only=True)
class ClusteringConfig:
    """How finely messages are grouped. No setting depends on labels or on the number of messages.

    A message lies as densely as its mean cosine to its nearest `neighbours`. It joins its nearest one if that lies
    more densely and their cosine is `minimum_similarity` or more. `merging` says which groups become one. Up to
    `exact_up_to` messages neighbours are exact, above each message looks into `probes` lists of √n messages.
    `block_rows` bounds the memory of the exact search to block_rows × n similarities.
    """

    neighbours: int = Field(default=5, ge=1)
    minimum_similarity: float = 0.2
    merging: MergingConfig = DEFAULT_MERGING
    exact_up_to: int = 4096
    probes: int = Field(default=4, ge=1)
    block_rows: int = Field(default=1024, ge=1)


DEFAULT_CLUSTERING = ClusteringConfig()


def cluster_messages(embeddings: NDArray[np.float32], *, config: ClusteringConfig = DEFAULT_CLUSTERING) -> Labels:
    """Return a group number for each row, numbered from 0 by first appearance.

    Args:
        embeddings: float32 of shape (n, d), any n from 0; rows need not be normalised. A zero row is a group of its
            own together with the other zero rows.
        config: how finely to group.

    Raises:
        ValueError: `embeddings` has no two dimensions or holds NaN or infinity.
    """
    vectors = unit_rows(embeddings)
    if len(vectors) == 0:
        return np.zeros(0, dtype=np.int64)
    first, inverse = distinct_rows(vectors)
    return _numbered_by_appearance(_groups(vectors[first], config)[inverse])


def unit_rows(embeddings: NDArray[np.float32] | Floats) -> NDArray[np.float32]:
    """Return the rows scaled to length one; a zero row stays zero.

    Raises:
        ValueError: `embeddings` has no two dimensions or holds NaN or infinity.
    """
    vectors = np.asarray(embeddings, dtype=np.float32)
    if vectors.ndim != 2:
        raise ValueError(f"embeddings must have shape (messages, dimension), not {vectors.shape}")
    if not vectors.size:
        return vectors.copy()
    with np.errstate(over="ignore"):
        plain = np.linalg.norm(vectors, axis=1, keepdims=True)
    if plain.min() > _ORDINARY[0] and plain.max() < _ORDINARY[1]:
        return np.asarray(vectors / plain)
    # Scaled by the largest number first, so that no square is too large or too small for a float32.
    peaks = np.maximum(vectors.max(axis=1), -vectors.min(axis=1))[:, None]
    wrong = np.flatnonzero(~np.isfinite(peaks))
    if wrong.size:
        raise ValueError(f"{wrong.size} embeddings hold NaN or infinity, the first in row {wrong[0]}")
    unit: NDArray[np.float32] = np.divide(vectors, peaks, out=np.zeros_like(vectors), where=peaks > 0)
    lengths = np.linalg.norm(unit, axis=1, keepdims=True)
    np.divide(unit, lengths, out=unit, where=lengths > 0)
    return unit


def distinct_rows(vectors: NDArray[np.float32]) -> tuple[Labels, Labels]:
    """Return the first row of each distinct vector, and for each row which of them it equals.

    Fifty copies of one message must not become each other's only neighbours.
    """
    # A random sum of the rounded numbers stands for a row: two distinct rows share one in less than once in millions.
    keys = np.empty(len(vectors), dtype=np.int64)
    factors = np.random.default_rng(_SEED).integers(1, 2**62, size=vectors.shape[1], dtype=np.int64)
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        keys[rows] = np.rint(vectors[rows] * np.float32(10**_DECIMALS)).astype(np.int64) @ factors
    _, found, groups = np.unique(keys, return_index=True, return_inverse=True)
    return np.sort(found), np.argsort(np.argsort(found))[groups]


def _groups(vectors: NDArray[np.float32], config: ClusteringConfig) -> Labels:
    if len(vectors) < 3:
        # With one or two messages there is nothing to compare with: they belong together if they are close.
        close = len(vectors) == 2 and float(vectors[0] @ vectors[1]) >= _CLOSE
        return np.zeros(len(vectors), dtype=np.int64) if close else np.arange(len(vectors))
    indices, similarities = find_neighbours(
        vectors,
        neighbours=config.neighbours,
        exact_up_to=config.exact_up_to,
        probes=config.probes,
        block_rows=config.block_rows,
    )
    return merge_groups(vectors, _climb(indices, similarities, config.minimum_similarity), config=config.merging)


def _climb(indices: Labels, similarities: NDArray[np.float32], minimum: float) -> Labels:
    """Return the group of each message: those that climb to the same top."""
    rows = np.arange(len(indices))
    # Where too few neighbours were found the row itself stands in, infinitely far away.
    density = np.round(np.where(np.isfinite(similarities), similarities, 0).mean(axis=1, dtype=np.float64), _DECIMALS)
    nearest = indices[:, 0]
    # Of two that lie as densely the earlier one is the top, so that nobody climbs in a circle.
    denser = (density[nearest] > density) | ((density[nearest] == density) & (nearest < rows))
    above = np.where(denser & (similarities[:, 0] >= minimum), nearest, rows)
    while True:
        higher = above[above]
        if np.array_equal(higher, above):
            return np.unique(above, return_inverse=True)[1]
        above = higher


def _numbered_by_appearance(groups: Labels) -> Labels:
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    numbers = np.empty(len(first), dtype=np.int64)
    numbers[np.argsort(first)] = np.arange(len(first))
    return numbers[inverse]
