"""The retrieval pipeline: embed the query, search by vector and by keywords, fuse, rerank, select.

The chatbot, the building of ranking datasets and the evaluations all run this one. They differ in the routing, in
whether there is a reranker, and in whether the stages are traced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np

from mangaassist_assets.retrieval.search_index import SearchIndex
from mangaassist_assets.retrieval.tenants import TenantScope
from mangaassist_assets.retrieval.types import Embedder, Hit, RetrievalRouting, TextUse, Vectors
from mangaassist_assets.tracing.contract.names import Attribute, SpanName
from mangaassist_assets.tracing.contract.records import AttributeValue


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedHit:
    """A candidate; ranks count from 1. `rerank_rank` and `relevance` are None where nothing reranked it."""

    hit: Hit
    retrieval_rank: int
    retrieval_score: float
    rerank_rank: int | None = None
    relevance: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResults:
    """What each search found, and the candidates: the fusion of both, best first."""

    by_vector: Sequence[Hit]
    by_keyword: Sequence[Hit]
    candidates: Sequence[RankedHit]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """All candidates in their final order, best first, and the first of them, which are used."""

    candidates: Sequence[RankedHit]
    selected: Sequence[RankedHit]


class Span(Protocol):
    """What a stage writes its figures to."""

    def set(self, attributes: Mapping[Attribute, AttributeValue | None]) -> None:
        """Set attributes; None leaves one out."""


class Tracer(Protocol):
    """What opens a span for each stage, and sees the errors of a stage."""

    def span(self, name: SpanName) -> AbstractContextManager[Span]:
        """Open a span."""


class _Untraced:
    def span(self, name: SpanName) -> AbstractContextManager[Span]:  # noqa: ARG002 - a tracer's
        return nullcontext(self)

    def set(self, attributes: Mapping[Attribute, AttributeValue | None]) -> None:
        pass


UNTRACED: Final = _Untraced()


Reranker = Callable[[str, Sequence[Hit], Span], list[float]]
"""Returns the relevance of each hit to a query, higher is better; may write to the span what served it."""


class PrecomputedEmbedder:
    """An `Embedder` that embedded some queries beforehand: all at once is many times cheaper than one by one."""

    def __init__(self, embedder: Embedder, texts: Sequence[str]) -> None:
        self._embedder = embedder
        self._vectors = dict(zip(texts, embedder.embed(texts, use="query"), strict=True)) if texts else {}

    @property
    def model_id(self) -> str:
        """The name of the model."""
        return self._embedder.model_id

    @property
    def dimension(self) -> int:
        """Length of one vector."""
        return self._embedder.dimension

    def embed(self, texts: Sequence[str], *, use: TextUse = "passage") -> Vectors:
        """Return float32 of shape (len(texts), dimension); what was not embedded beforehand is embedded now."""
        if use == "query" and texts and all(text in self._vectors for text in texts):
            return np.stack([self._vectors[text] for text in texts])
        return self._embedder.embed(texts, use=use)


class RetrievalPipeline:
    """The pipeline on one index generation, with the model that embedded it."""

    def __init__(
        self,
        *,
        index: SearchIndex,
        embedder: Embedder,
        generation: str,
        routing: RetrievalRouting,
        tracer: Tracer = UNTRACED,
    ) -> None:
        self._index = index
        self._embedder = embedder
        self._generation = generation
        self._routing = routing
        self._tracer = tracer

    def search(self, query: str, *, scope: TenantScope) -> SearchResults:
        """Return what the searches find for a query that a shopper of that scope may see."""
        routing = self._routing
        with self._tracer.span(SpanName.EMBED_QUERY) as span:
            span.set({Attribute.EMBEDDING_MODEL_ID: self._embedder.model_id})
            vector = self._embedder.embed([query], use="query")[0]
        with self._tracer.span(SpanName.VECTOR_SEARCH) as span:
            by_vector = self._index.vector_search(
                self._generation, vector, scope=scope, limit=routing.vector_candidates
            )
            span.set({Attribute.CANDIDATE_COUNT: len(by_vector)})
        by_keyword: list[Hit] = []
        if routing.keyword_candidates:
            with self._tracer.span(SpanName.KEYWORD_SEARCH) as span:
                by_keyword = self._index.keyword_search(
                    self._generation, query, scope=scope, limit=routing.keyword_candidates
                )
                span.set({Attribute.CANDIDATE_COUNT: len(by_keyword)})
        hits = {hit.chunk_id: hit for hit in (*by_vector, *by_keyword)}
        fused = reciprocal_rank_fusion(
            [[hit.chunk_id for hit in by_vector], [hit.chunk_id for hit in by_keyword]],
            weights=(routing.vector_weight, routing.keyword_weight),
        )
        candidates = [
            RankedHit(hit=hits[chunk_id], retrieval_rank=rank, retrieval_score=score)
            for rank, (chunk_id, score) in enumerate(fused[: routing.rerank_candidates], start=1)
        ]
        return SearchResults(by_vector=by_vector, by_keyword=by_keyword, candidates=candidates)

    def select(self, query: str, candidates: Sequence[RankedHit], reranker: Reranker | None = None) -> Retrieved:
        """Return the candidates by relevance, or as they are without a reranker, and the first of them to use."""
        if reranker is not None and candidates:
            candidates = self._rerank(query, candidates, reranker)
        return Retrieved(candidates=candidates, selected=candidates[: self._routing.selected_chunks])

    def _rerank(self, query: str, candidates: Sequence[RankedHit], reranker: Reranker) -> list[RankedHit]:
        with self._tracer.span(SpanName.RERANK_CHUNKS) as span:
            span.set({Attribute.CANDIDATE_COUNT: len(candidates)})
            relevances = reranker(query, [one.hit for one in candidates], span)
            # Equal relevances keep the order of retrieval.
            order = sorted(range(len(candidates)), key=lambda place: -relevances[place])
            ranks = {place: rank for rank, place in enumerate(order, start=1)}
            put_candidates(span, candidates)
            span.set(
                {
                    Attribute.RERANK_SCORES: relevances,
                    Attribute.RERANK_RANKS: [ranks[place] for place in range(len(candidates))],
                }
            )
            return [
                replace(candidates[place], rerank_rank=ranks[place], relevance=relevances[place]) for place in order
            ]


def live_pipeline(
    index: SearchIndex, embedder: Embedder, routing: RetrievalRouting, *, queries: Sequence[str] = ()
) -> RetrievalPipeline:
    """Return the pipeline on the live generation; `queries` are embedded at once beforehand.

    Raises:
        LookupError: No generation is live.
    """
    generation = index.live_generation()
    if generation is None:
        raise LookupError("no search index generation is live: materialize live_index first")
    embedder = PrecomputedEmbedder(embedder, queries)
    return RetrievalPipeline(index=index, embedder=embedder, generation=generation, routing=routing)


def put_candidates(span: Span, candidates: Sequence[RankedHit]) -> None:
    """Write candidates to a span, in the order of retrieval."""
    span.set(
        {
            Attribute.CANDIDATE_COUNT: len(candidates),
            Attribute.CANDIDATE_IDS: [one.hit.chunk_id for one in candidates],
            Attribute.DOCUMENT_IDS: [one.hit.document_id for one in candidates],
            Attribute.RETRIEVAL_RANKS: [one.retrieval_rank for one in candidates],
            Attribute.RETRIEVAL_SCORES: [round(one.retrieval_score, 6) for one in candidates],
        }
    )


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[str]], *, weights: Sequence[float] | None = None, rank_constant: int = 60
) -> list[tuple[str, float]]:
    """Fuse rankings of chunk ids into one, best first; their scores cannot be compared, so only ranks count.

    Source: Cormack, Clarke, Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
    Methods", SIGIR 2009. The names are those of OpenSearch's score ranker processor.

    Args:
        rankings: Each a list of chunk ids, best first. An id that comes twice in one ranking counts at its first
            place only.
        weights: One a ranking, each above 0; None weighs all alike, with 1.
        rank_constant: Dampens the weight of the first places; the paper's 60 is rarely worth changing.

    Returns:
        Pairs of chunk id and score, where the score is the sum of weight / (rank_constant + rank) over the rankings,
        ranks from 1. Equal scores are ordered by the better best rank, then by chunk id, so that the order never
        depends on hashing.

    Raises:
        ValueError: If `rank_constant` is negative, or the weights are not as said.
    """
    weights = [1.0] * len(rankings) if weights is None else weights
    if rank_constant < 0 or len(weights) != len(rankings) or any(weight <= 0 for weight in weights):
        raise ValueError(
            f"{len(rankings)} rankings need as many weights above 0 and a rank constant of at least 0, got "
            f"{list(weights)} and {rank_constant}"
        )
    scores: dict[str, float] = {}
    best_ranks: dict[str, int] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, chunk_id in enumerate(dict.fromkeys(ranking), start=1):
            scores[chunk_id] = scores.get(chunk_id, 0.0) + weight / (rank_constant + rank)
            best_ranks[chunk_id] = min(rank, best_ranks.get(chunk_id, rank))
    return sorted(scores.items(), key=lambda item: (-item[1], best_ranks[item[0]], item[0]))
