"""The knowledge as it is stored: chunks, the store's own words, the vectors of the chunks, the index built of them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.privacy import Vocabulary

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.retrieval.types import Chunk, Vectors

CHUNKS_FILE = "chunks.parquet"
VOCABULARY_FILE = "vocabulary.json"
VECTORS_FILE = "vectors.npy"
EMBEDDINGS_CARD_FILE = "card.json"
GENERATION_FILE = "generation.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingsCard:
    """What made the stored vectors."""

    model_id: str
    dimension: int
    chunks_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The index generation that was built last, its vectors' model, and the digest of the snapshot that names it."""

    generation: str
    model_id: str
    digest: str


def read_chunks(store: SnapshotStore) -> list[Chunk]:
    """Return the chunks of the knowledge, in the order of their documents."""
    from mangaassist_assets.retrieval.chunking import parquet_to_chunks

    return parquet_to_chunks(store.read(store.latest("knowledge_chunks"), CHUNKS_FILE))


def read_vocabulary(store: SnapshotStore) -> Vocabulary:
    """Return the store's own words, which redaction leaves alone; none before the knowledge was read."""
    snapshot = store.find("knowledge_chunks")
    if snapshot is None or VOCABULARY_FILE not in snapshot.files:
        return Vocabulary(())
    return Vocabulary(store.read_json(snapshot, VOCABULARY_FILE))


def vectors_to_bytes(vectors: Vectors) -> bytes:
    """Return vectors in NumPy's own file format, which holds no objects."""
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    return buffer.getvalue()


def read_embeddings(store: SnapshotStore) -> tuple[Vectors, EmbeddingsCard]:
    """Return the vectors of the chunks, shape (chunks, dimension), and what made them.

    Raises:
        LookupError: they belong to other chunks than the latest ones.
    """
    import numpy as np

    snapshot = store.latest("chunk_embeddings")
    card = from_json(EmbeddingsCard, store.read(snapshot, EMBEDDINGS_CARD_FILE))
    chunks = store.latest("knowledge_chunks")
    if card.chunks_digest != chunks.digest:
        msg = "chunk_embeddings were made of other chunks than the latest: materialize chunk_embeddings again"
        raise LookupError(msg)
    vectors: Vectors = np.load(io.BytesIO(store.read(snapshot, VECTORS_FILE)), allow_pickle=False)
    return vectors, card


def embeddings_files(vectors: Vectors, card: EmbeddingsCard) -> dict[str, bytes]:
    """Return the vectors of the chunks, and what made them, as they are stored."""
    return {VECTORS_FILE: vectors_to_bytes(vectors), EMBEDDINGS_CARD_FILE: canonical_json(card)}


def generation_files(generation: str, *, model_id: str) -> dict[str, bytes]:
    """Return what is stored of an index generation: its name, and the model of its vectors."""
    return {GENERATION_FILE: canonical_json({"generation": generation, "model_id": model_id})}


def read_candidate(store: SnapshotStore) -> Candidate:
    """Return the index generation that was built last."""
    snapshot = store.latest("search_index")
    return Candidate(**store.read_json(snapshot, GENERATION_FILE), digest=snapshot.digest)
