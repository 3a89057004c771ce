"""How deep a query is searched, and what becomes of what is found: the input of the retrieval pipeline."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalRouting:
    """The depth of each step of the pipeline, and the weight of each search in the fusion.

    `keyword_candidates` of 0 leaves keyword search out. `rerank_candidates` is how many fused chunks become candidates,
    which the reranker scores where there is one, and `selected_chunks` how many of those are used.
    """

    vector_candidates: int
    keyword_candidates: int
    rerank_candidates: int
    selected_chunks: int
    vector_weight: float = 1.0
    keyword_weight: float = 1.0
