"""The first stage of retrieval as the chatbot runs it, for datasets and evaluations: same searches, same depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mangaassist_assets.knowledge.types import Hit
    from resources.app_config import AppConfigResource
    from resources.embeddings import EmbeddingsResource
    from resources.search import SearchResource


def first_stage(
    *, search: SearchResource, embeddings: EmbeddingsResource, app_config: AppConfigResource
) -> Callable[[str], list[Hit]]:
    """Return a search on the live generation: the candidates a reranker would get for a query, best first.

    Raises:
        LookupError: no generation is live.
    """
    from mangaassist_assets.chatbot.retrieval import fused_search

    index = search.index()
    embedder = embeddings.embedder()
    routing = app_config.configuration().routing()
    generation = index.live_generation()
    if generation is None:
        msg = "no search index generation is live: materialize live_index first"
        raise LookupError(msg)

    def candidates(query: str) -> list[Hit]:
        fused = fused_search(query, embedder.embed([query])[0], generation, index=index, routing=routing)
        return [hit for hit, _ in fused[: routing.rerank_candidates]]

    return candidates
