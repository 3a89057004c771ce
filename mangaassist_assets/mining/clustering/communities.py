"""Groups of messages that mean alike: communities of a shared-neighbour graph, and the close ones among them merged.

Each distinct message is joined to its nearest neighbours by cosine similarity; an edge weighs as much as the two
neighbourhoods have in common (Jaccard) times the similarity, squared. Communities of that graph are found by Louvain's
method (Blondel and others, 2008) with a resolution that is too fine on purpose, because modularity cannot see groups
smaller than some share of the graph. A neighbour graph knows only who is nearer, so it also cuts up a dense group of
messages that all say the same. Both are mended by merging groups whose centroids are close. There is no seed: the
same vectors give the same groups. Nothing is thrown away as noise; a lonely message is a group of one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.mining.clustering.neighbours import find_neighbours

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Labels = NDArray[np.int64]

_CLOSE = 0.5  # cosine above which two messages alone in the world are one group
_DECIMALS = 5
_EDGES_AT_ONCE = 1 << 17
_ROWS_AT_ONCE = 4096
_SEED = 20
_ORDINARY = (1e-6, 1e6)  # lengths of which every square fits into a float32
_MERGED_BY_PAIRS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteringConfig:
    """How finely messages are grouped. No setting depends on labels; None lets the number n of messages decide.

    `neighbours` is k of the graph, by default log2(n) + 2: as many as keep a neighbour graph in one piece, and few
    enough that a group of a dozen is not tied to its surroundings. A neighbour below cosine `minimum_similarity` gets
    no edge. `resolution` of the communities is by default √n / 5, at least 1, so that a new group of half a dozen is
    seen among thousands; higher makes smaller communities before merging. Groups whose centroids have cosine
    `merge_similarity` or more become one. Up to `exact_up_to` messages neighbours are exact, above each message looks
    into `probes` lists of √n messages. `block_rows` bounds the memory of the exact search to block_rows × n
    similarities.
    """

    neighbours: int | None = None
    resolution: float | None = None
    merge_similarity: float = 0.7
    minimum_similarity: float = 0.2
    exact_up_to: int = 4096
    probes: int = 6
    block_rows: int = 1024

    def __post_init__(self) -> None:
        """Refuse settings under which there is no graph or no merging."""
        whole = {"neighbours": self.neighbours, "probes": self.probes, "block_rows": self.block_rows}
        for name, value in whole.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} of the clustering is {value}: it must be 1 or more")
        if self.resolution is not None and not self.resolution > 0:
            raise ValueError(f"resolution of the clustering is {self.resolution}: it must be above 0")
        if not self.merge_similarity > 0:
            raise ValueError(
                f"merge_similarity of the clustering is {self.merge_similarity}: it must be above 0 (above 1: never)"
            )

    def neighbours_of(self, count: int) -> int:
        """Return k for `count` distinct messages, never more than a quarter of them."""
        wanted = self.neighbours or math.ceil(math.log2(count)) + 2
        return min(wanted, max(2, count // 4))

    def resolution_of(self, count: int) -> float:
        """Return the resolution for `count` distinct messages."""
        return self.resolution or max(1.0, math.sqrt(count) / 5)


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
    groups = _communities(vectors[first], config)
    return _numbered_by_appearance(groups[inverse])


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
    keys = np.empty(len(vectors), dtype=np.int64)
    factors = np.random.default_rng(_SEED).integers(1, 2**62, size=vectors.shape[1], dtype=np.int64)
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        keys[rows] = _rounded(vectors[rows]).astype(np.int64) @ factors
    _, found, groups = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(found)
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    first, inverse = found[order], ranks[groups]
    again = np.flatnonzero(first[inverse] != np.arange(len(vectors)))
    for start in range(0, len(again), _ROWS_AT_ONCE):
        copies = again[start : start + _ROWS_AT_ONCE]
        if not np.array_equal(_rounded(vectors[copies]), _rounded(vectors[first[inverse[copies]]])):
            return _distinct_by_content(vectors)  # two vectors share a key: once in billions
    return first, inverse


def _rounded(vectors: NDArray[np.float32]) -> NDArray[np.int32]:
    whole: NDArray[np.int32] = np.rint(vectors * np.float32(10**_DECIMALS)).astype(np.int32)
    return whole


def _distinct_by_content(vectors: NDArray[np.float32]) -> tuple[Labels, Labels]:
    numbers: dict[bytes, int] = {}
    inverse = np.array([numbers.setdefault(_rounded(row).tobytes(), len(numbers)) for row in vectors], dtype=np.int64)
    return np.unique(inverse, return_index=True)[1], inverse


def _communities(vectors: NDArray[np.float32], config: ClusteringConfig) -> Labels:
    if len(vectors) < 3:
        # With one or two messages there is no neighbourhood to share: they belong together if they are close.
        close = len(vectors) == 2 and float(vectors[0] @ vectors[1]) >= _CLOSE
        return np.zeros(len(vectors), dtype=np.int64) if close else np.arange(len(vectors))
    graph = _shared_neighbour_graph(vectors, config)
    groups = np.arange(len(vectors)) if graph.nnz == 0 else _louvain(graph, config.resolution_of(len(vectors)))
    return _merge_close(vectors, groups, config.merge_similarity)


def _shared_neighbour_graph(vectors: NDArray[np.float32], config: ClusteringConfig) -> csr_matrix:
    """Return the symmetric graph of neighbours, float32 of shape (n, n)."""
    from scipy.sparse import csr_matrix, triu

    count = len(vectors)
    indices, similarities = find_neighbours(
        vectors,
        neighbours=config.neighbours_of(count),
        exact_up_to=config.exact_up_to,
        probes=config.probes,
        block_rows=config.block_rows,
    )
    near = similarities >= config.minimum_similarity
    rows = np.repeat(np.arange(count), near.sum(axis=1))
    knows = csr_matrix((similarities[near], (rows, indices[near])), shape=(count, count))
    joined = triu(knows.maximum(knows.T), k=1, format="coo")
    shared = _shared_neighbours(rows, indices[near], joined.row, joined.col, count)
    sizes = near.sum(axis=1) + 1
    union = sizes[joined.row] + sizes[joined.col] - shared
    weights = ((shared / union * joined.data) ** 2).astype(np.float32)
    half = csr_matrix((weights, (joined.row, joined.col)), shape=(count, count))
    return csr_matrix(half + half.T)


def _shared_neighbours(rows: Labels, neighbours: Labels, left: Labels, right: Labels, count: int) -> NDArray[np.int64]:
    """Return how many messages are in both circles of each edge, a circle being a message and its neighbours."""
    from scipy.sparse import csr_matrix

    own = np.arange(count)
    members = (np.concatenate([rows, own]), np.concatenate([neighbours, own]))
    circles = csr_matrix((np.ones(len(members[0]), dtype=np.int8), members), shape=(count, count))
    circles.sort_indices()
    shared = np.empty(len(left), dtype=np.int64)
    for start in range(0, len(left), _EDGES_AT_ONCE):
        edges = slice(start, start + _EDGES_AT_ONCE)
        shared[edges] = np.asarray(circles[left[edges]].multiply(circles[right[edges]]).sum(axis=1)).ravel()
    return shared


def _louvain(graph: csr_matrix, resolution: float) -> Labels:
    from sknetwork.clustering import Louvain

    louvain = Louvain(resolution=resolution, shuffle_nodes=False, return_probs=False, return_aggregate=False)
    groups = louvain.fit_predict(graph)
    return np.asarray(groups, dtype=np.int64)


def _merge_close(vectors: NDArray[np.float32], groups: Labels, similarity: float) -> Labels:
    """Merge the closest pair of groups until no two centroids have cosine `similarity` or more.

    Only the largest 4,096 groups are merged pair by pair; a smaller one joins the closest of these or stays alone.
    """
    from scipy.sparse import csr_matrix

    count = int(groups.max()) + 1
    belongs = csr_matrix((np.ones(len(groups)), (groups, np.arange(len(groups)))), shape=(count, len(groups)))
    sums = np.asarray(belongs @ vectors, dtype=np.float64)
    largest = np.argsort(-np.bincount(groups), kind="stable")[:_MERGED_BY_PAIRS]
    merged = np.arange(count)
    merged[largest] = largest[_merged_by_pairs(sums[largest] @ sums[largest].T, similarity)]
    if count > len(largest):
        kept, inverse = np.unique(merged[largest], return_inverse=True)
        joins = csr_matrix((np.ones(len(largest)), (inverse, np.arange(len(largest)))), shape=(len(kept), len(largest)))
        centroids = unit_rows(np.asarray(joins @ sums[largest], dtype=np.float64))
        small = np.setdiff1d(np.arange(count), largest)
        for rows in np.array_split(small, math.ceil(len(small) / _MERGED_BY_PAIRS)):
            closeness = np.round(unit_rows(sums[rows]) @ centroids.T, _DECIMALS)
            closest = closeness.argmax(axis=1)
            near = closeness[np.arange(len(rows)), closest] >= similarity
            merged[rows[near]] = kept[closest[near]]
    return merged[groups]


def _merged_by_pairs(products: Floats, similarity: float) -> Labels:
    """Return for each group the one it ends up in; `products` are those of the groups' sums of vectors, and change."""
    count = len(products)
    lengths = np.sqrt(np.maximum(np.diag(products), 0.0))
    parents = np.arange(count)
    alive = lengths > 0
    nearest = np.zeros(count, dtype=np.int64)
    nearness = np.full(count, -1.0)

    def look_around(row: int) -> Floats:
        closeness = np.full(count, -1.0)
        if alive[row]:
            closeness[alive] = np.round(products[row, alive] / (lengths[row] * lengths[alive]), _DECIMALS)
            closeness[row] = -1.0
        nearest[row] = np.argmax(closeness)
        nearness[row] = closeness[nearest[row]]
        return closeness

    for row in range(count):
        look_around(row)
    while True:
        kept = int(np.argmax(nearness))
        if nearness[kept] < similarity:
            return parents
        gone = int(nearest[kept])
        parents[parents == gone] = kept
        # The product of sums adds up, so centroids need not be computed again.
        products[kept] += products[gone]
        products[:, kept] += products[:, gone]
        lengths[kept] = math.sqrt(max(products[kept, kept], 0.0))
        alive[kept] = lengths[kept] > 0
        alive[gone], nearness[gone] = False, -1.0
        closeness = look_around(kept)
        # Whoever had one of the two as nearest looks around again only where the merged group is farther away.
        bereft = alive & ((nearest == gone) | (nearest == kept))
        closer = alive & ((closeness > nearness) | (bereft & (closeness == nearness)))
        nearest[closer], nearness[closer] = kept, closeness[closer]
        bereft[kept] = False
        for other in np.flatnonzero(bereft & ~closer).tolist():
            look_around(other)


def _numbered_by_appearance(groups: Labels) -> Labels:
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    numbers = np.empty(len(first), dtype=np.int64)
    numbers[np.argsort(first)] = np.arange(len(first))
    return numbers[inverse]
