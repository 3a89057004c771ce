"""Vectors of messages for the assets: by the embedder in use, out of the cache that all of them share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mangaassist_assets.retrieval.embedding_cache import EmbeddingReport, Progress
    from mangaassist_assets.retrieval.types import Vectors
    from resources.search.embeddings import EmbeddingsResource
    from resources.store import StoreResource


def message_vectors(
    texts: Sequence[str],
    embeddings: EmbeddingsResource,
    store: StoreResource,
    *,
    progress: Progress | None = None,
) -> tuple[Vectors, EmbeddingReport]:
    """Return a vector for each redacted message, and which model made them; see `mining.message_vectors`."""
    from mangaassist_assets.mining.clustering.message_vectors import embed_messages
    from mangaassist_assets.retrieval.embedding_cache import EmbeddingCache

    cache = EmbeddingCache(store.cache("embeddings"))
    return embed_messages(texts, embedder=embeddings.embedder(), cache=cache, progress=progress)
