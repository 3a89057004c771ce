"""Vectors of messages: each distinct text is embedded once for each model, and the cache knows it by its hash only.

The cache is the one of the knowledge base: vectors by SHA-256, in segments that any number of processes share. It holds
no text, so it may outlive the messages; a message's hash alone gives nothing back but whether one already has the text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from mangaassist_assets.retrieval.embedding_cache import EmbeddingCache, EmbeddingReport, Progress, embed_contents
from mangaassist_assets.retrieval.types import CrowdedEmbedder, Embedder, Vectors

# So many messages count as much as the common texts.
_COMMON_WEIGHT = 50


def embed_messages(
    texts: Sequence[str], *, embedder: Embedder, cache: EmbeddingCache | None = None, progress: Progress | None = None
) -> tuple[Vectors, EmbeddingReport]:
    """Return the vectors of messages, embedding only texts that the cache does not hold yet.

    Args:
        texts: Redacted messages in any order, with repetitions; a blank one gets the embedder's vector of nothing.
        embedder: The model.
        cache: Where vectors are kept; new ones are added every 256 texts, so a killed run goes on from there. Without
            one everything is embedded.
        progress: Called with the number of distinct texts done and their total.

    Returns:
        float32 of shape (len(texts), dimension), row i for texts[i], each of length one, around the messages' own
        centre where the model's vectors are all alike; and how many distinct texts were embedded now and how many were
        there already.

    Raises:
        EmbeddingError: If the embedder answers with something else than such vectors.
        EmbeddingError: If the cache cannot be read or written.
    """
    hashes = [text_hash(text) for text in texts]
    known, report = embed_contents(dict(zip(hashes, texts, strict=True)), embedder, cache, progress, use="query")
    vectors = np.empty((len(texts), embedder.dimension), dtype=np.float32)
    for row, content_hash in enumerate(hashes):
        vectors[row] = known[content_hash]
    if isinstance(embedder, CrowdedEmbedder) and embedder.centre is not None:
        vectors = _spread(vectors, embedder.centre)
    return vectors, report


def _spread(vectors: Vectors, centre: Vectors) -> Vectors:
    """Take away what all messages have in common, and bring the rest to length one.

    What is common is the mean of these messages (Mu and Viswanath, ICLR 2018), and the fewer there are the more the
    mean of common texts: of one message alone nothing would be left.
    """
    share = len(vectors) / (len(vectors) + _COMMON_WEIGHT)
    mean = vectors.mean(axis=0) if len(vectors) else centre
    rest = vectors - (share * mean + (1.0 - share) * centre)
    spread: Vectors = (rest / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-6)).astype(np.float32)
    return spread


def text_hash(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8; a lone surrogate counts as itself."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
