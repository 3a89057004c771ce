"""Which messages show a cluster to a person: those nearest to its centre, and those at its edge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Floats


def representatives(
    vectors: NDArray[np.float32],
    trace_ids: Sequence[str],
    texts: Sequence[str],
    *,
    nearest: int = 5,
    farthest: int = 2,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the rows nearest to the centroid, nearest first, and those farthest from it, farthest first.

    The farthest ones show where a cluster ends: what does not belong is seen there first. No two rows have the same
    text but for case and spacing, none is blank, and the nearest are served first where there are too few. Closeness
    is the cosine to the mean of the unit vectors; ties go to the smaller trace id.

    `vectors`, shape (n, d), `trace_ids` and `texts` are those of the cluster's n messages.

    Raises:
        ValueError: the three differ in length, a vector is not finite, or a number is negative.
    """
    if not len(vectors) == len(trace_ids) == len(texts):
        raise ValueError(
            f"{len(vectors)} vectors, {len(trace_ids)} trace ids and {len(texts)} texts: give one of each per message"
        )
    if nearest < 0 or farthest < 0:
        raise ValueError(f"nearest={nearest} and farthest={farthest} must not be negative")
    if len(texts) == 0:
        return (), ()
    closeness = _closeness(np.asarray(vectors, dtype=np.float64), trace_ids)
    keys = [" ".join(text.casefold().split()) for text in texts]
    rows = [row for row in range(len(texts)) if keys[row]]
    near = _first_of_each(sorted(rows, key=lambda row: (-closeness[row], trace_ids[row])), keys, nearest)
    shown = {keys[row] for row in near}
    rest = [row for row in rows if keys[row] not in shown]
    return near, _first_of_each(sorted(rest, key=lambda row: (closeness[row], trace_ids[row])), keys, farthest)


def nearest_first(vectors: NDArray[np.float32], trace_ids: Sequence[str]) -> tuple[int, ...]:
    """Return the rows of a cluster's messages, those nearest to its centroid first, see `representatives`.

    Raises:
        ValueError: a vector is not finite.
    """
    closeness = _closeness(np.asarray(vectors, dtype=np.float64), trace_ids)
    return tuple(sorted(range(len(trace_ids)), key=lambda row: (-closeness[row], trace_ids[row])))


def _closeness(vectors: Floats, trace_ids: Sequence[str]) -> list[float]:
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"the vector of trace {trace_ids[int(np.argmin(finite))]} is not finite: embed its message again"
        )
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths > 0, lengths, 1.0)
    centroid = unit.mean(axis=0)
    length = float(np.linalg.norm(centroid))
    cosines = unit @ (centroid / length if length > 0 else centroid)
    # Rounded before it decides an order: the last bits differ between machines.
    return [float(value) for value in np.round(cosines, 6)]


def _first_of_each(rows: Iterable[int], keys: Sequence[str], limit: int) -> tuple[int, ...]:
    first: dict[str, int] = {}
    for row in rows:
        first.setdefault(keys[row], row)
    return tuple(list(first.values())[:limit])
