"""Chunks, vectors and an embedder that cost nothing, for tests of what is around them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from mangaassist_assets.retrieval.chunking import chunk_documents, embedding_text
from mangaassist_assets.retrieval.documents.documents import KnowledgeDocument
from mangaassist_assets.retrieval.types import Chunk, TextUse, Vectors

DIMENSION = 16


class HashEmbedder:
    """Random vectors of length one, seeded by the text: equal texts are equal, all others nearly orthogonal."""

    def __init__(self, model_id: str = "hash-embedder", dimension: int = DIMENSION) -> None:
        self.model_id = model_id
        self.dimension = dimension
        self.embedded: list[str] = []

    def embed(self, texts: Sequence[str], *, use: TextUse = "passage") -> Vectors:
        del use
        self.embedded.extend(texts)
        rows = [
            np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])).normal(
                size=self.dimension
            )
            for text in texts
        ]
        vectors = np.asarray(rows, dtype=np.float32).reshape(len(texts), self.dimension)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


STORE_TEXTS = {
    "policies/returns.md": ("Returns", "Unread volumes can be returned within thirty days with the receipt."),
    "policies/shipping.md": ("Shipping", "Parcels leave our warehouse in Osaka on working days and are insured."),
    "policies/preorders.md": ("Pre-orders", "A preordered volume is charged on the day it is released."),
    "guides/japanese.md": ("予約について", "発売前の単行本は予約できます。東京の店舗で受け取れます。"),
    "guides/cafe.md": ("Café corner", "Our café serves tea while you read the quoted 'first chapters' AND more."),
}


def store_chunks() -> list[Chunk]:
    """Return five chunks of five short documents, one of them Japanese, with a `language` to filter by."""
    return chunk_documents(
        [
            KnowledgeDocument(
                document_id=document_id,
                title=title,
                text=text,
                metadata={"language": "ja" if "japanese" in document_id else "en", "owner": 'o\'brien "shop"'},
            )
            for document_id, (title, text) in STORE_TEXTS.items()
        ]
    )


def vectors_of(chunks: Sequence[Chunk]) -> Vectors:
    """Return the vectors of chunks by `HashEmbedder`."""
    return HashEmbedder().embed([embedding_text(chunk.title, chunk.text, chunk.context) for chunk in chunks])
