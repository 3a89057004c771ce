"""The words of retrieval as plain values and protocols: chunks, hits, embedders, search indexes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A passage of one knowledge document, the unit of retrieval.

    `chunk_id` is `<document_id>::<position>`; `content_hash` is the SHA-256 of what is embedded (title, text and
    context), so equal content is embedded once. `tenant` is whose passage it is, None where it is everybody's.
    `context` is metadata that is embedded with the text and is no part of it, one `key: value` a line.
    """

    chunk_id: str
    document_id: str
    position: int
    title: str
    text: str
    content_hash: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    tenant: str | None = None
    context: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One search result; `score` is the engine's own, higher is better, comparable only within one result list."""

    chunk_id: str
    document_id: str
    title: str
    text: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationState:
    """What an index knows about one of its generations.

    `sealed` is False while it is being built, and for ever where its builder was killed. `created_at` is in
    milliseconds since the epoch (UTC).
    """

    generation: str
    dimension: int
    sealed: bool
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalRouting:
    """How deep a query is searched: the input of the retrieval pipeline.

    `keyword_candidates` of 0 leaves keyword search out. `rerank_candidates` is how many fused chunks become candidates,
    which the reranker scores where there is one, and `selected_chunks` how many of those are used. The weights are
    those of the searches in their fusion.
    """

    vector_candidates: int
    keyword_candidates: int
    rerank_candidates: int
    selected_chunks: int
    vector_weight: float = 1.0
    keyword_weight: float = 1.0


@runtime_checkable
class CrowdedEmbedder(Protocol):
    """An embedder that may know where all its vectors lie: unlike texts of e5 have cosines of 0.8."""

    @property
    def centre(self) -> Vectors | None:
        """The mean of vectors of common texts, shape (dimension,); None where unlike texts have unlike vectors."""


TextUse = Literal["query", "passage"]


class Embedder(Protocol):
    """Turns texts into L2-normalised vectors."""

    @property
    def model_id(self) -> str:
        """The name that goes into traces and index generations."""

    @property
    def dimension(self) -> int:
        """Length of one vector."""

    def embed(self, texts: Sequence[str], *, use: TextUse = "passage") -> Vectors:
        """Return float32 of shape (len(texts), dimension), each row of length one.

        Some models want to know whether a text asks or answers: a question is compared with passages.
        """
