"""Where messages lie on a two-dimensional map: what means alike lies together, as far as two dimensions allow.

Up to 1,500 messages are laid out by t-SNE (van der Maaten and Hinton, 2008) on their principal components.
Above, t-SNE lays out the groups' centroids only, and the members lie around them by the two main directions in which
the group itself spreads. There is no random start: the same vectors give the same map.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.mining.clustering.communities import Labels, unit_rows

Points = NDArray[np.float32]
Numbers = NDArray[np.float32] | Floats

_COMPONENTS = 50
_PERPLEXITY = 30.0
_EACH_ON_ITS_OWN = 1500
_EXTENT = 100.0
_MAX_CENTRES = 400
_SEED = 0


def map_points(embeddings: NDArray[np.float32], *, groups: Labels | None = None) -> Points:
    """Return a place for each message, float32 of shape (n, 2), within ±100 in both directions.

    Args:
        embeddings: of the messages, float32 of shape (n, d), any n from 0.
        groups: the group of each message; above 1,500 messages they decide what is laid out together. Without them
            the map of so many messages shows the two main directions only.

    Raises:
        ValueError: `embeddings` has no two dimensions or holds NaN or infinity, or there is not one group a message.
    """
    vectors = unit_rows(embeddings)
    if groups is not None and np.shape(groups) != (len(vectors),):
        raise ValueError(f"{len(vectors)} embeddings but groups of shape {np.shape(groups)}: give one group a message")
    if len(vectors) <= _EACH_ON_ITS_OWN:
        return _fitted(_tsne(vectors))
    if groups is None:
        return _fitted(_principal(vectors, 2))
    return _fitted(_around_centroids(_principal(vectors, _COMPONENTS), np.unique(groups, return_inverse=True)[1]))


def _tsne(vectors: Numbers) -> Floats:
    reduced = _principal(vectors, min(_COMPONENTS, len(vectors)))
    if len(vectors) < 4 or not np.ptp(reduced, axis=0).any():
        return _two_columns(reduced)
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    start = _two_columns(reduced)
    # As small a start as t-SNE's own authors use; its directions are the principal ones.
    start = start / max(float(start[:, 0].std()), 1e-12) * 1e-4
    layout = TSNE(
        n_components=2,
        perplexity=min(_PERPLEXITY, (len(vectors) - 1) / 3),
        init=start.astype(np.float32),
        learning_rate="auto",
        max_iter=500,
        random_state=_SEED,
        method="barnes_hut" if len(vectors) > 50 else "exact",
        n_jobs=1,
    )
    # One thread: these are small problems, and threads that wait for each other cost more than they bring.
    with threadpool_limits(limits=1):
        return np.asarray(layout.fit_transform(reduced.astype(np.float32)), dtype=np.float64)


def _around_centroids(vectors: Floats, groups: Labels) -> Floats:
    """Lay out the centroids, and each group's members within the free room around its own."""
    count = int(groups.max()) + 1
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    centroids = np.stack([vectors[rows].mean(axis=0) for rows in members])
    largest = np.argsort([-len(rows) for rows in members], kind="stable")[:_MAX_CENTRES]
    places = np.zeros((count, 2))
    places[largest] = _fitted(_tsne(centroids[largest]))
    if count > len(largest):
        # What is too small to be laid out lies at the centre of the nearest group that is.
        others = np.setdiff1d(np.arange(count), largest)
        ways = unit_rows(centroids.astype(np.float32))
        places[others] = places[largest[np.argmax(np.round(ways[others] @ ways[largest].T, 5), axis=1)]]
    # Areas are as the groups' sizes, and together they fill about a third of the map.
    sizes = np.array([len(rows) for rows in members])
    radii = 2 * _EXTENT * np.sqrt(sizes / len(vectors) / 3 / np.pi)
    points = np.empty((len(vectors), 2))
    for group, rows in enumerate(members):
        spread = _two_columns(_principal(vectors[rows], 2))
        lengths = np.linalg.norm(spread, axis=1, keepdims=True)
        # By rank of distance, so that a group is a disc of even density whatever its outliers are.
        rank = np.argsort(np.argsort(np.round(lengths[:, 0], 6), kind="stable"), kind="stable") + 0.5
        distance = radii[group] * np.sqrt(rank / len(rows))[:, None]
        points[rows] = (
            places[group] + np.divide(spread, lengths, out=np.zeros_like(spread), where=lengths > 0) * distance
        )
    return points


def _principal(vectors: Numbers, components: int) -> Floats:
    """Return the vectors in their main directions, each turned so that its largest number is positive."""
    if len(vectors) == 0:
        return np.zeros((0, components))
    centred = (vectors - vectors.mean(axis=0, dtype=np.float64)).astype(vectors.dtype)
    _, directions = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    main = directions[:, ::-1][:, :components]
    main = main * np.where(main[np.argmax(np.abs(main), axis=0), np.arange(main.shape[1])] < 0, -1.0, 1.0)
    return np.asarray(centred @ main.astype(vectors.dtype), dtype=np.float64)


def _two_columns(points: Floats) -> Floats:
    return np.pad(points[:, :2], ((0, 0), (0, max(0, 2 - points.shape[1]))))


def _fitted(points: Floats) -> Points:
    """Centre the points and scale both directions alike, so that they just fit into ±100."""
    if len(points) == 0:
        return np.zeros((0, 2), dtype=np.float32)
    centred = points - (points.max(axis=0) + points.min(axis=0)) / 2
    largest = float(np.abs(centred).max())
    scaled: Floats = centred * (_EXTENT / largest) if largest > 1e-9 else np.zeros_like(centred)
    points_within: Points = np.round(scaled, 3).astype(np.float32)
    return points_within
