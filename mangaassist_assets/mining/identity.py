"""Cluster identity: the same failure keeps its id from one bundle to the next.

A group continues a group of the previous bundle if their centroids are close enough and the pair belongs to the best
one-to-one matching of all pairs (Hungarian method); otherwise it is born, with an id made of its content, so that
computing it again gives the same id. Merges and splits are not named here: the larger share continues, the rest is born
or dies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BARRED = -2.0  # below any cosine


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityMatch:
    """For one new group: the id it continues and the cosine of the two centroids, or None for a birth."""

    previous_id: str | None
    similarity: float | None


def match_identities(
    centroids: NDArray[np.float32],
    previous_ids: Sequence[str],
    previous_centroids: NDArray[np.float32],
    *,
    minimum_similarity: float = 0.75,
) -> list[IdentityMatch]:
    """Match new centroids, shape (n, d), to previous ones, shape (m, d), all rows of length one.

    Raises:
        ValueError: ids and centroids of the previous bundle differ in number, or the two bundles were embedded with
            models of different dimension.
    """
    if len(previous_ids) != len(previous_centroids):
        msg = f"{len(previous_ids)} previous cluster ids but {len(previous_centroids)} centroids"
        raise ValueError(msg)
    births = [IdentityMatch(previous_id=None, similarity=None) for _ in range(len(centroids))]
    if len(centroids) == 0 or len(previous_ids) == 0:
        return births
    if centroids.shape[1] != previous_centroids.shape[1]:
        msg = (
            f"new centroids have {centroids.shape[1]} dimensions, previous ones {previous_centroids.shape[1]}: the "
            "embedding model changed, mine the previous bundle again with the new one"
        )
        raise ValueError(msg)
    from scipy.optimize import linear_sum_assignment

    similarity = np.round(np.asarray(centroids @ previous_centroids.T, dtype=np.float64), 6)
    allowed = np.where(similarity >= minimum_similarity, similarity, _BARRED)
    matches = births
    for row, column in zip(*linear_sum_assignment(allowed, maximize=True), strict=True):
        if allowed[row, column] > _BARRED:
            matches[row] = IdentityMatch(previous_id=previous_ids[column], similarity=float(similarity[row, column]))
    return matches


def birth_id(release_bundle: str, trace_ids: Iterable[str], *, taken: frozenset[str] = frozenset()) -> str:
    """Return an id for a new group: a hash of the bundle it was born in and its member traces; never one in `taken`."""
    content = "\n".join([release_bundle, *sorted(trace_ids)])
    attempt = 0
    while True:
        digest = hashlib.sha256(f"{attempt}\n{content}".encode()).hexdigest()
        identity = f"fc-{digest[:10]}"
        if identity not in taken:
            return identity
        attempt += 1
