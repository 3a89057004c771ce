"""The first stage of retrieval on the live index, as the datasets ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mangaassist_assets.datasets.building.recorded_searches import SearchFor
    from resources.aws.app_config import AppConfigResource
    from resources.search.embeddings import EmbeddingsResource
    from resources.search.indexes import SearchResource


def live_search(*, search: SearchResource, embeddings: EmbeddingsResource, app_config: AppConfigResource) -> SearchFor:
    """Return what prepares the first stage on the live index for queries, which are embedded at once."""
    from mangaassist_assets.assets.retrieving import first_stage

    return lambda queries: first_stage(search=search, embeddings=embeddings, app_config=app_config, queries=queries)


def first_stage_settings(
    *, search: SearchResource, embeddings: EmbeddingsResource, app_config: AppConfigResource
) -> dict[str, Any]:
    """Return what decides the searches of the first stage, for the data card."""
    routing = app_config.configuration().routing()
    return {
        "index_generation": search.index().live_generation(),
        "embedding_model_id": embeddings.embedder().model_id,
        "vector_candidates": routing.vector_candidates,
        "keyword_candidates": routing.keyword_candidates,
        "rerank_candidates": routing.rerank_candidates,
    }
