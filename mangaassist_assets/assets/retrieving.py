"""The first stage of retrieval as the chatbot runs it, for datasets and evaluations: same searches, same depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mangaassist_assets.retrieval.tenants import TenantScope
    from mangaassist_assets.retrieval.types import Hit
    from resources.aws.app_config import AppConfigResource
    from resources.search.embeddings import EmbeddingsResource
    from resources.search.indexes import SearchResource


def first_stage(
    *,
    search: SearchResource,
    embeddings: EmbeddingsResource,
    app_config: AppConfigResource,
    queries: Sequence[str] = (),
) -> Callable[[str, TenantScope], list[Hit]]:
    """Return a search on the live generation: the candidates a reranker would get for a query, best first.

    Each search is in the scope of the shopper who asks.

    `queries` are embedded at once beforehand, which is many times cheaper than one by one; others may be asked too.

    Raises:
        LookupError: no generation is live.
    """
    from mangaassist_assets.chatbot.retrieval import fuse_hits

    index = search.index()
    embedder = embeddings.embedder()
    routing = app_config.configuration().routing()
    generation = index.live_generation()
    if generation is None:
        msg = "no search index generation is live: materialize live_index first"
        raise LookupError(msg)

    known = dict(zip(queries, embedder.embed(queries), strict=True)) if queries else {}

    def candidates(query: str, scope: TenantScope) -> list[Hit]:
        vector = known[query] if query in known else embedder.embed([query])[0]
        rankings = [index.vector_search(generation, vector, scope=scope, limit=routing.vector_candidates)]
        if routing.keyword_candidates:
            rankings.append(index.keyword_search(generation, query, scope=scope, limit=routing.keyword_candidates))
        return [hit for hit, _ in fuse_hits(rankings)[: routing.rerank_candidates]]

    return candidates
