"""Reciprocal rank fusion: one ranking out of several whose scores cannot be compared.

Source: Cormack, Clarke, Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods",
SIGIR 2009.
"""

from __future__ import annotations

from collections.abc import Sequence


def reciprocal_rank_fusion(rankings: Sequence[Sequence[str]], k: int = 60) -> list[tuple[str, float]]:
    """Fuse rankings of chunk ids into one, best first.

    Args:
        rankings: Each a list of chunk ids, best first. An id that comes twice in one ranking counts at its first
            place only.
        k: Dampens the weight of the first places; the paper's 60 is rarely worth changing.

    Returns:
        Pairs of chunk id and score, where the score is the sum of 1 / (k + rank) over the rankings, ranks from 1.
        Equal scores are ordered by the better best rank, then by chunk id, so that the order never depends on hashing.

    Raises:
        ValueError: If `k` is negative.
    """
    if k < 0:
        raise ValueError(f"k must not be negative, got {k}")
    scores: dict[str, float] = {}
    best_ranks: dict[str, int] = {}
    for ranking in rankings:
        for rank, chunk_id in enumerate(dict.fromkeys(ranking), start=1):
            scores[chunk_id] = scores.get(chunk_id, 0.0) + 1.0 / (k + rank)
            best_ranks[chunk_id] = min(rank, best_ranks.get(chunk_id, rank))
    return sorted(scores.items(), key=lambda item: (-item[1], best_ranks[item[0]], item[0]))
