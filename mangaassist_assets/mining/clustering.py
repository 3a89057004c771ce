"""Groups of messages that mean alike: flow communities of a shared-neighbour graph.

Each distinct message is joined to its nearest neighbours by cosine similarity; an edge weighs as much as the two
neighbourhoods have in common (Jaccard) times the similarity, squared. Communities are found by Markov clustering
(van Dongen, 2000): a random walk is spread and sharpened until it stays where it is. Like Infomap it follows the flow
of the graph, so it has no resolution limit (modularity merges small groups as the graph grows) and no seed: the
same vectors give the same groups. Nothing is thrown away as noise; a lonely message is a group of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Labels = NDArray[np.int64]

_CLOSE = 0.5  # cosine above which two messages alone in the world are one group
_NEGLIGIBLE_FLOW = 1e-4
_CONVERGED = 1e-5
_MAX_ROUNDS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteringConfig:
    """How finely messages are grouped.

    `neighbours` is k of the graph (fewer for small data). A neighbour below cosine `minimum_similarity` gets no edge.
    `inflation` above 1 sharpens the walk: higher makes more and smaller groups. Groups whose centroids have cosine
    `merge_similarity` or more are one: a neighbour graph knows only who is nearer, so it cuts up even a dense group of
    messages that all say the same. `block_rows` bounds the memory of the
    exact neighbour search to block_rows × n similarities.
    """

    neighbours: int = 10
    inflation: float = 1.6
    merge_similarity: float = 0.85
    minimum_similarity: float = 0.2
    block_rows: int = 1024

    def __post_init__(self) -> None:
        """Refuse settings under which the walk cannot settle."""
        if self.neighbours < 1 or self.inflation <= 1 or self.block_rows < 1:
            msg = (
                f"neighbours {self.neighbours} and block_rows {self.block_rows} must be positive, "
                f"inflation {self.inflation} above 1"
            )
            raise ValueError(msg)


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
    vectors = _normalised(embeddings)
    if len(vectors) == 0:
        return np.zeros(0, dtype=np.int64)
    distinct, inverse = _distinct_rows(vectors)
    groups = _communities(distinct, config)
    return _numbered_by_appearance(groups[inverse])


def nearest_neighbours(
    vectors: NDArray[np.float32], *, neighbours: int, block_rows: int = 1024
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the exact nearest other rows by inner product, nearest first, ties by lower row number.

    Returns:
        indices and similarities, both of shape (n, min(neighbours, n - 1)).
    """
    count = len(vectors)
    kept = max(min(neighbours, count - 1), 0)
    indices = np.zeros((count, kept), dtype=np.int64)
    similarities = np.zeros((count, kept), dtype=np.float32)
    if kept == 0:
        return indices, similarities
    for start in range(0, count, block_rows):
        block = vectors[start : start + block_rows] @ vectors.T
        rows = np.arange(len(block))
        block[rows, start + rows] = -np.inf
        # Rounded, so that the order of two practically equal neighbours does not hang on the shape of the product.
        order = np.argsort(-np.round(block, 5), axis=1, kind="stable")[:, :kept]
        indices[start : start + block_rows] = order
        similarities[start : start + block_rows] = block[rows[:, None], order]
    return indices, similarities


def _normalised(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    vectors = np.asarray(embeddings, dtype=np.float32)
    if vectors.ndim != 2:
        msg = f"embeddings must have shape (messages, dimension), not {vectors.shape}"
        raise ValueError(msg)
    if not np.isfinite(vectors).all():
        rows = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        msg = f"{len(rows)} embeddings hold NaN or infinity, the first in row {rows[0]}"
        raise ValueError(msg)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit


def _distinct_rows(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], Labels]:
    """Collapse exact duplicates: fifty copies of one message must not become each other's only neighbours."""
    keys: dict[bytes, int] = {}
    inverse = np.array([keys.setdefault(row.tobytes(), len(keys)) for row in np.round(vectors, 5) + 0.0])
    first = np.zeros(len(keys), dtype=np.int64)
    first[inverse[::-1]] = np.arange(len(vectors))[::-1]
    return vectors[first], inverse


def _communities(vectors: NDArray[np.float32], config: ClusteringConfig) -> Labels:
    if len(vectors) < 3:
        # With one or two messages there is no neighbourhood to share: they belong together if they are close.
        close = len(vectors) == 2 and float(vectors[0] @ vectors[1]) >= _CLOSE
        return np.zeros(len(vectors), dtype=np.int64) if close else np.arange(len(vectors))
    groups = _markov_clusters(_shared_neighbour_graph(vectors, config), config.inflation)
    return _merge_close(vectors, groups, config.merge_similarity)


def _shared_neighbour_graph(vectors: NDArray[np.float32], config: ClusteringConfig) -> csr_matrix:
    from scipy.sparse import csr_matrix, eye

    count = len(vectors)
    wanted = min(config.neighbours, max(2, count // 4))
    indices, similarities = nearest_neighbours(vectors, neighbours=wanted, block_rows=config.block_rows)
    near = similarities >= config.minimum_similarity
    rows = np.repeat(np.arange(count), indices.shape[1])[near.ravel()]
    columns = indices[near]
    knows = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(count, count))
    cosine = csr_matrix((similarities[near].astype(np.float64), (rows, columns)), shape=(count, count))
    joined = knows.maximum(knows.T)
    circle = knows + eye(count, format="csr")
    sizes = np.asarray(circle.sum(axis=1)).ravel()
    shared = joined.multiply(circle @ circle.T).tocoo()
    union = sizes[shared.row] + sizes[shared.col] - shared.data
    similarity = np.asarray(cosine.maximum(cosine.T)[shared.row, shared.col]).ravel()
    weights = (shared.data / union * similarity) ** 2
    return csr_matrix((weights.astype(np.float64), (shared.row, shared.col)), shape=(count, count))


def _markov_clusters(graph: csr_matrix, inflation: float) -> Labels:
    from scipy.sparse import csc_matrix, diags
    from scipy.sparse.csgraph import connected_components

    def stochastic(matrix: Any) -> csc_matrix:  # noqa: ANN401 - scipy's sparse classes have no common typed base
        totals = np.asarray(matrix.sum(axis=0)).ravel()
        return csc_matrix(matrix @ diags(1.0 / totals))

    strongest = graph.max(axis=1).toarray().ravel()
    flow = stochastic(graph + diags(np.where(strongest > 0, strongest, 1.0)))
    for _ in range(_MAX_ROUNDS):
        spread = csc_matrix(flow @ flow)
        spread.data **= inflation
        spread = stochastic(spread)
        # What flows hardly at all is cut, but never a whole column: its largest entry is at least 1 / n.
        largest = spread.max(axis=0).toarray().ravel()
        columns = np.repeat(np.arange(spread.shape[1]), np.diff(spread.indptr))
        spread.data[spread.data < np.minimum(_NEGLIGIBLE_FLOW, largest[columns])] = 0.0
        spread.eliminate_zeros()
        spread = stochastic(spread)
        change = abs(spread - flow)
        settled = change.nnz == 0 or change.max() < _CONVERGED
        flow = spread
        if settled:
            break
    _, groups = connected_components(flow + flow.T, directed=False)
    return np.asarray(groups, dtype=np.int64)


def _merge_close(vectors: NDArray[np.float32], groups: Labels, similarity: float) -> Labels:
    """Merge the closest pair of groups until no two centroids have cosine `similarity` or more."""
    count = int(groups.max()) + 1
    sums = np.zeros((count, vectors.shape[1]))
    np.add.at(sums, groups, vectors)
    parents = np.arange(count)

    def unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
        scaled: NDArray[np.float64] = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
        return scaled

    centroids = unit(sums)
    closeness = np.round(centroids @ centroids.T, 5)
    np.fill_diagonal(closeness, -1.0)
    while count > 1:
        first, second = np.unravel_index(int(np.argmax(closeness)), closeness.shape)
        if closeness[first, second] < similarity:
            break
        parents[parents == second] = first
        sums[first] += sums[second]
        closeness[second, :] = closeness[:, second] = -1.0
        gone = closeness[first] == -1.0
        row = np.round(centroids @ unit(sums[first]), 5)
        centroids[first] = unit(sums[first])
        closeness[first, :] = closeness[:, first] = np.where(gone, -1.0, row)
    return parents[groups]


def _numbered_by_appearance(groups: Labels) -> Labels:
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(int(group), len(numbers)) for group in groups], dtype=np.int64)
