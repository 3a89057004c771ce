"""What is remembered of a cluster so that a later bundle can recognise it: where it lies, and some of its messages."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Floats

EXEMPLARS = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClusterProfile:
    """A cluster of one bundle as identity sees it.

    `stage` is the one the cluster is blamed on. `size` counts its failed turns. `centroid` has shape (d,), `exemplars`
    shape (e, d) with e of at least one: rows of length one, an unbiased sample of the members, so that a share of the
    exemplars estimates a share of the cluster.
    """

    cluster_id: str
    stage: str
    size: int
    centroid: NDArray[np.float32]
    exemplars: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Refuse what no distance can be measured on."""
        if self.exemplars.ndim != 2 or len(self.exemplars) == 0:
            raise ValueError(
                f"cluster {self.cluster_id!r} needs exemplars of shape (1 or more, d), not {self.exemplars.shape}"
            )
        if self.centroid.shape != self.exemplars.shape[1:]:
            raise ValueError(
                f"cluster {self.cluster_id!r} has a centroid of shape {self.centroid.shape} but exemplars of "
                f"{self.exemplars.shape[1]} dimensions"
            )
        if not (np.isfinite(self.exemplars).all() and np.isfinite(self.centroid).all()):
            raise ValueError(f"cluster {self.cluster_id!r} holds NaN or infinity: embed its messages again")
        if self.size < len(self.exemplars):
            raise ValueError(
                f"cluster {self.cluster_id!r} has {len(self.exemplars)} exemplars but only {self.size} members"
            )


def profile_of(
    cluster_id: str,
    vectors: NDArray[np.float32],
    trace_ids: Sequence[str],
    *,
    stage: str,
    limit: int = EXEMPLARS,
) -> ClusterProfile:
    """Return the profile of a group whose members have `vectors`, shape (m, d) with m of at least one."""
    rows = choose_exemplars(vectors, trace_ids, limit=limit)
    return ClusterProfile(
        cluster_id=cluster_id,
        stage=stage,
        size=len(trace_ids),
        centroid=_unit(vectors.astype(np.float64).mean(axis=0, keepdims=True))[0],
        exemplars=_unit(vectors[rows].astype(np.float64)),
    )


def choose_exemplars(
    vectors: NDArray[np.float32], trace_ids: Sequence[str], *, limit: int = EXEMPLARS
) -> NDArray[np.int64]:
    """Return the rows of up to `limit` members: those whose trace ids have the smallest hashes (a bottom-k sample).

    The sample is unbiased whatever the shape of the group, does not depend on the order of the members, and a late
    trace changes at most one exemplar. (A cover of the group by its farthest points was tried too: it takes outliers
    first, and shares of it are no shares of the group.)

    Raises:
        ValueError: there are no members, or ids and vectors differ in number.
    """
    if len(trace_ids) != len(vectors) or len(trace_ids) == 0 or limit < 1:
        raise ValueError(
            f"{len(trace_ids)} trace ids, {len(vectors)} vectors, limit {limit}: none may be 0, the first two equal"
        )
    keys = [(hashlib.sha256(trace_id.encode()).digest(), trace_id) for trace_id in trace_ids]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__)[:limit], dtype=np.int64)


def _unit(rows: Floats) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return np.asarray(unit, dtype=np.float32)
