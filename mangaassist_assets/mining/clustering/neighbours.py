"""Nearest neighbours of message vectors: exact for thousands, by inverted lists for hundreds of thousands.

The search by lists (IVF; Jégou, Douze and Schmid, 2011) cuts the vectors into about √n lists around centres drawn from
the vectors themselves, and compares each vector with the members of the few lists that are nearest to it. It is numpy
alone: nothing is compiled at the first call, and the same vectors give the same neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]

_SEED = 0
_SAMPLE_PER_LIST = 32
_ROUNDS = 2
# Similarities are rounded before they decide an order, so that it does not hang on the shape of a product.
_DECIMALS = 5
_MISSING = np.float32(-np.inf)
_SIMILARITIES_AT_ONCE = 1 << 22


def find_neighbours(
    vectors: Vectors, *, neighbours: int, exact_up_to: int = 4096, probes: int = 8, block_rows: int = 1024
) -> tuple[Rows, Vectors]:
    """Return the nearest other rows, exact for up to `exact_up_to` vectors and by lists above.

    See `nearest_neighbours` and `approximate_neighbours` for what comes back.
    """
    if len(vectors) <= exact_up_to:
        return nearest_neighbours(vectors, neighbours=neighbours, block_rows=block_rows)
    from threadpoolctl import threadpool_limits

    # The products are small: threads that wait for each other cost more than they bring, most of all on a busy machine.
    with threadpool_limits(limits=1, user_api="blas"):
        return approximate_neighbours(vectors, neighbours=neighbours, probes=probes)


def nearest_neighbours(vectors: Vectors, *, neighbours: int, block_rows: int = 1024) -> tuple[Rows, Vectors]:
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
        block[rows, start + rows] = _MISSING
        columns, nearest = _nearest_columns(block, kept)
        indices[start : start + block_rows] = columns
        similarities[start : start + block_rows] = nearest
    return indices, similarities


def approximate_neighbours(
    vectors: Vectors, *, neighbours: int, lists: int | None = None, probes: int = 8
) -> tuple[Rows, Vectors]:
    """Return near other rows by inner product, nearest first: those among the members of the `probes` nearest lists.

    Args:
        vectors: float32 of shape (n, d), rows of length one.
        neighbours: how many.
        lists: how many lists; by default √n.
        probes: how many lists each vector looks into; more find more of the truly nearest, for more time.

    Returns:
        indices and similarities, both of shape (n, min(neighbours, n - 1)). Where the lists hold too few others, the
        row itself stands in with similarity -inf.
    """
    count = len(vectors)
    kept = max(min(neighbours, count - 1), 0)
    if kept == 0:
        return np.zeros((count, 0), dtype=np.int64), np.zeros((count, 0), dtype=np.float32)
    centres = _centres(vectors, min(lists or round(math.sqrt(count)), count))
    probed = min(probes, len(centres))
    nearest_lists = np.empty((count, probed), dtype=np.int32)
    for rows in _blocks(count, len(centres)):
        nearest_lists[rows] = _nearest_columns(vectors[rows] @ centres.T, probed)[0]

    # Rows in the order of their lists, so that a list is a slice.
    order = np.argsort(nearest_lists[:, 0], kind="stable")
    members = vectors[order]
    starts = np.searchsorted(nearest_lists[order, 0], np.arange(len(centres) + 1))
    visits = nearest_lists[order].ravel()
    visits_by_list = np.argsort(visits, kind="stable")
    visit_starts = np.searchsorted(visits[visits_by_list], np.arange(len(centres) + 1))
    found = np.full((count * probed, kept), -1, dtype=np.int32)
    similarities = np.full((count * probed, kept), _MISSING, dtype=np.float32)
    for number in range(len(centres)):
        start, stop = int(starts[number]), int(starts[number + 1])
        if start == stop:
            continue
        visiting = visits_by_list[visit_starts[number] : visit_starts[number + 1]]
        for part in _blocks(len(visiting), stop - start):
            slots = visiting[part]
            seekers = slots // probed
            block = members[seekers] @ members[start:stop].T
            own = np.flatnonzero((seekers >= start) & (seekers < stop))
            block[own, seekers[own] - start] = _MISSING
            # Only candidates yet: their order is settled below, once for all lists.
            width = stop - start
            columns = np.argpartition(block, max(0, width - kept), axis=1)[:, max(0, width - kept) :]
            found[slots, : columns.shape[1]] = columns + start
            similarities[slots, : columns.shape[1]] = np.take_along_axis(block, columns, axis=1)
    indices = np.empty((count, kept), dtype=np.int64)
    best = np.empty((count, kept), dtype=np.float32)
    found, similarities = found.reshape(count, -1), similarities.reshape(count, -1)
    for rows in _blocks(count, found.shape[1]):
        columns, nearest = _nearest_columns(similarities[rows], kept)
        place = np.take_along_axis(found[rows], columns, axis=1)
        indices[order[rows]] = np.where(np.isneginf(nearest), order[rows][:, None], order[place])
        best[order[rows]] = nearest
    return indices, best


def _nearest_columns(block: Vectors, kept: int) -> tuple[Rows, Vectors]:
    """Return the columns of the `kept` largest values of each row, largest first, ties by lower column; rounds."""
    np.round(block, _DECIMALS, out=block)
    width = block.shape[1]
    if kept < width:
        chosen = np.argpartition(block, width - kept, axis=1)[:, width - kept :]
        chosen.sort(axis=1)
        values = np.take_along_axis(block, chosen, axis=1)
        # Where more values equal the last one kept than there are places, the partition picked any of them.
        crowded = np.flatnonzero(np.count_nonzero(block >= values.min(axis=1, keepdims=True), axis=1) > kept)
        if crowded.size:
            chosen[crowded] = np.sort(np.argsort(-block[crowded], axis=1, kind="stable")[:, :kept], axis=1)
            values[crowded] = np.take_along_axis(block[crowded], chosen[crowded], axis=1)
    else:
        chosen = np.broadcast_to(np.arange(width), block.shape)
        values = block
    by_value = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(chosen, by_value, axis=1), np.take_along_axis(values, by_value, axis=1)


def _centres(vectors: Vectors, lists: int) -> Vectors:
    """Return about `lists` centres of length one: a few rounds of spherical k-means on a sample."""
    from scipy.sparse import csr_matrix

    draw = np.random.default_rng(_SEED)
    rows = np.sort(draw.choice(len(vectors), size=min(len(vectors), lists * _SAMPLE_PER_LIST), replace=False))
    sample = vectors[rows]
    centres = sample[np.sort(draw.choice(len(sample), size=lists, replace=False))]
    for _ in range(_ROUNDS):
        nearest = np.concatenate(
            [np.argmax(np.round(sample[part] @ centres.T, _DECIMALS), axis=1) for part in _blocks(len(sample), lists)]
        )
        belongs = csr_matrix(
            (np.ones(len(sample), dtype=np.float32), (nearest, np.arange(len(sample)))), shape=(lists, len(sample))
        )
        sums = belongs @ sample
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.divide(sums, lengths, out=centres.copy(), where=lengths > 0)
    return centres


def _blocks(count: int, width: int) -> Iterator[slice]:
    """Yield slices of `count` rows of `width` numbers each, so that no block holds many more than 4 million."""
    rows = max(1, _SIMILARITIES_AT_ONCE // max(1, width))
    for start in range(0, count, rows):
        yield slice(start, min(start + rows, count))
