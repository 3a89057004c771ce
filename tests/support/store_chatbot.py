"""A tiny manga store for tests: an index of four passages, rule-based models behind endpoints, sinks that remember."""

# ruff: noqa: ARG002  # the parameters are those of the protocols that these parts stand in for

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from mangaassist_assets.chatbot.configuration.documents import (
    ExperimentsDocument,
    GuardrailsDocument,
    PromptsDocument,
    RoutingDocument,
)
from mangaassist_assets.chatbot.generation import ExtractiveGenerator
from mangaassist_assets.chatbot.orchestrator import Chatbot
from mangaassist_assets.chatbot.parts import Generator, StageError
from mangaassist_assets.chatbot.retrieval import Retriever
from mangaassist_assets.retrieval.tenants import TenantScope
from mangaassist_assets.retrieval.types import Chunk, Embedder, Hit, TextUse, Vectors
from mangaassist_assets.tracing.contract.records import TraceRecord

PASSAGES = {
    "policies/returns.md": "Returns are free for 30 days. Send the book back in its wrapping. Refunds take a week.",
    "policies/shipping.md": "Shipping costs 4 euros. Orders over 50 euros ship free. Parcels take two days.",
    "policies/gift-cards.md": "Gift cards never expire. A gift card pays any order.",
    "titles.csv#1": "Lantern Road, volume 1 to 9, a mystery of two sisters. In stock.",
}
KEY = b"0" * 32


class HashEmbedder:
    """Bag of hashed words: texts that share words are near."""

    model_id = "test-hash-embedder"
    dimension = 64

    def embed(self, texts: Sequence[str], *, use: TextUse = "passage") -> Vectors:
        del use
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                vectors[row, int(hashlib.sha256(word.encode()).hexdigest(), 16) % self.dimension] += 1.0
            norm = float(np.linalg.norm(vectors[row]))
            vectors[row, 0] += 1.0 if norm == 0 else 0.0
            vectors[row] /= norm or 1.0
        return vectors


class MemoryIndex:
    """One live generation in memory; only what the chatbot asks of an index. `tenants` says whose a document is."""

    def __init__(self, *, live: str | None = "kb-test-1", tenants: Mapping[str, str] | None = None) -> None:
        self._live = live
        self._embedder = HashEmbedder()
        self._chunks = [
            Chunk(
                chunk_id=f"{name}::0",
                document_id=name,
                position=0,
                title=name,
                text=text,
                content_hash=name,
                tenant=(tenants or {}).get(name),
            )
            for name, text in PASSAGES.items()
        ]
        self._vectors = self._embedder.embed([chunk.text for chunk in self._chunks])

    def live_generation(self) -> str | None:
        return self._live

    def vector_search(
        self,
        generation: str,
        vector: Any,
        *,
        scope: TenantScope,
        limit: int,
    ) -> list[Hit]:
        return self._hits(self._vectors @ vector, scope, limit)

    def keyword_search(
        self,
        generation: str,
        query: str,
        *,
        scope: TenantScope,
        limit: int,
    ) -> list[Hit]:
        words = set(query.lower().split())
        scores = [len(words & set(chunk.text.lower().split())) for chunk in self._chunks]
        return self._hits(np.array(scores, dtype=np.float32), scope, limit)

    def _hits(self, scores: Any, scope: TenantScope, limit: int) -> list[Hit]:
        rows = [row for row, chunk in enumerate(self._chunks) if scope.admits(chunk.tenant)]
        order = sorted(rows, key=lambda row: -float(scores[row]))[:limit]
        return [
            Hit(
                chunk_id=self._chunks[row].chunk_id,
                document_id=self._chunks[row].document_id,
                title=self._chunks[row].title,
                text=self._chunks[row].text,
                score=float(scores[row]),
            )
            for row in order
        ]


class RuleEndpoint:
    """Answers by the inference contract: intents by a word, relevance by shared words. `broken` makes it fail."""

    def __init__(self, name: str, *, intents: Mapping[str, str] | None = None, broken: str | None = None) -> None:
        self.name = name
        self.intents = intents
        self.broken = broken
        self.requests: list[Mapping[str, Any]] = []

    def invoke(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        self.requests.append(payload)
        if self.broken is not None:
            raise StageError(self.broken)
        model = {"name": self.name, "version": "3", "sha256": "ab" * 32}
        if self.intents is not None:
            message = payload["text"].lower()
            intent = next((intent for word, intent in self.intents.items() if word in message), "other")
            ranked = [{"label": intent, "score": 0.9}, {"label": "other", "score": 0.1}]
            return {"intent": intent, "confidence": 0.9, "predictions": [ranked], "model": model}
        model["family"] = "split-attention"
        return {"predictions": [self._predict(item) for item in payload["inputs"]], "model": model}

    def _predict(self, item: Any) -> Any:
        words = set(item["text"].lower().split()) & set(item["text_pair"].lower().split())
        return {"label": "relevant", "score": min(1.0, 0.1 + 0.2 * len(words))}


class FixedConfiguration:
    """Documents that do not change."""

    def __init__(
        self,
        prompts: PromptsDocument | None = None,
        routing: RoutingDocument | None = None,
        guardrails: GuardrailsDocument | None = None,
        experiments: ExperimentsDocument | None = None,
    ) -> None:
        self._prompts = prompts or PromptsDocument(version="p1")
        self._routing = routing or RoutingDocument(version="r1", selected_chunks=2, rerank_candidates=4)
        self._guardrails = guardrails or GuardrailsDocument(version="g1")
        self._experiments = experiments or ExperimentsDocument(version="e1")

    def prompts(self) -> PromptsDocument:
        return self._prompts

    def routing(self) -> RoutingDocument:
        return self._routing

    def guardrails(self) -> GuardrailsDocument:
        return self._guardrails

    def experiments(self) -> ExperimentsDocument:
        return self._experiments


class MemorySink:
    """Keeps traces; `lose` forgets one in every so many, as a tracking server in trouble would."""

    def __init__(self, *, lose: int = 0) -> None:
        self.traces: list[TraceRecord] = []
        self._lose = lose
        self._taken = 0

    def write(self, trace: TraceRecord) -> None:
        self._taken += 1
        if not self._lose or self._taken % self._lose:
            self.traces.append(trace)

    def flush(self) -> int:
        return len(self.traces)


class MemoryReviewer:
    """Remembers feedback and reviews by trace."""

    def __init__(self, sink: MemorySink) -> None:
        self._sink = sink
        self.feedback: dict[str, str] = {}
        self.reviews: dict[str, tuple[str | None, tuple[str, ...]]] = {}

    def record_feedback(self, trace_id: str, feedback: str, *, user_key: str | None, timestamp_ms: int) -> None:
        self.feedback[trace_id] = feedback

    def record_review(
        self, trace_id: str, *, expected_intent: str | None, relevant_documents: Sequence[str], reviewer: str
    ) -> None:
        self.reviews[trace_id] = (expected_intent, tuple(relevant_documents))

    def missing_traces(self, trace_ids: Collection[str], release_bundle: str) -> list[str]:
        return sorted(set(trace_ids) - {trace.trace_id for trace in self._sink.traces})


class MemoryStream:
    """Keeps published events."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def publish(self, events: Sequence[Any]) -> int:
        self.events += events
        return len(events)


def store_chatbot(
    sink: Any,
    *,
    intent: RuleEndpoint | None = None,
    reranker: RuleEndpoint | None = None,
    index: Any = None,
    embedder: Embedder | None = None,
    configuration: Any = None,
    generator: Generator | None = None,
    endpoints: Callable[[str], Any] | None = None,
    reranks: bool = True,
) -> Chatbot:
    """Return a chatbot over the tiny store; `reranks` is whether it has a reranker at all."""
    return Chatbot(
        intent=intent
        or RuleEndpoint(
            "mangaassist-intent", intents={"return": "return_item", "ship": "shipping_cost", "gift": "gift_card"}
        ),
        retriever=Retriever(
            index=index or MemoryIndex(),
            embedder=embedder or HashEmbedder(),
            reranker=(reranker or RuleEndpoint("mangaassist-reranker")) if reranks else None,
        ),
        configuration=configuration or FixedConfiguration(),
        generator=generator or ExtractiveGenerator(),
        endpoints=endpoints,
        sink=sink,
        pseudonym_key=KEY,
    )
