"""Figures of one ranking: reciprocal rank and nDCG.

Not scikit-learn's `ndcg_score`: its gain is the relevance itself, it needs two documents, and it knows no relevant
document that the ranking lacks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def reciprocal_rank(relevances_by_rank: Sequence[float], *, k: int = 10) -> float:
    """Return 1 / rank of the first relevant passage among the first `k`, or 0.

    `relevances_by_rank[0]` is the relevance of the passage ranked first.
    """
    for place, relevance in enumerate(relevances_by_rank[:k], start=1):
        if relevance > 0:
            return 1.0 / place
    return 0.0


def ndcg(relevances_by_rank: Sequence[float], *, k: int = 10, ideal: Sequence[float] | None = None) -> float:
    """Return the normalised discounted cumulative gain at `k`, gain 2^relevance - 1; 0 if nothing is relevant.

    `ideal` are the relevances of all there is to find, where that is more than what was ranked.
    """
    best = _discounted_gain(sorted(relevances_by_rank if ideal is None else ideal, reverse=True)[:k])
    return _discounted_gain(relevances_by_rank[:k]) / best if best > 0 else 0.0


def _discounted_gain(relevances: Sequence[float]) -> float:
    gains = np.exp2(np.asarray(relevances, dtype=np.float64)) - 1.0
    return float((gains * (1.0 / np.log2(np.arange(2, len(gains) + 2)))).sum())
