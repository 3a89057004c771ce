"""Reciprocal rank fusion: one ranking out of several whose scores cannot be compared.

Source: Cormack, Clarke, Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods",
SIGIR 2009. The names are those of OpenSearch's score ranker processor.
"""

from __future__ import annotations

from collections.abc import Sequence


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[str]], *, weights: Sequence[float] | None = None, rank_constant: int = 60
) -> list[tuple[str, float]]:
    """Fuse rankings of chunk ids into one, best first.

    Args:
        rankings: Each a list of chunk ids, best first. An id that comes twice in one ranking counts at its first
            place only.
        weights: One a ranking, each above 0; None weighs all alike, with 1.
        rank_constant: Dampens the weight of the first places; the paper's 60 is rarely worth changing.

    Returns:
        Pairs of chunk id and score, where the score is the sum of weight / (rank_constant + rank) over the rankings,
        ranks from 1. Equal scores are ordered by the better best rank, then by chunk id, so that the order never
        depends on hashing.

    Raises:
        ValueError: If `rank_constant` is negative, or the weights are not as said.
    """
    weights = [1.0] * len(rankings) if weights is None else weights
    if rank_constant < 0 or len(weights) != len(rankings) or any(weight <= 0 for weight in weights):
        raise ValueError(
            f"{len(rankings)} rankings need as many weights above 0 and a rank constant of at least 0, got "
            f"{list(weights)} and {rank_constant}"
        )
    scores: dict[str, float] = {}
    best_ranks: dict[str, int] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, chunk_id in enumerate(dict.fromkeys(ranking), start=1):
            scores[chunk_id] = scores.get(chunk_id, 0.0) + weight / (rank_constant + rank)
            best_ranks[chunk_id] = min(rank, best_ranks.get(chunk_id, rank))
    return sorted(scores.items(), key=lambda item: (-item[1], best_ranks[item[0]], item[0]))
