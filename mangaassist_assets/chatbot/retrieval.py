"""Retrieval: embed, search twice, fuse the rankings, rerank the best candidates through the endpoint, select.

A store without a reranker selects in the order of the fused rankings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from mangaassist_assets.chatbot.configuration.documents import RoutingDocument
from mangaassist_assets.chatbot.parts import (
    Endpoint,
    StageError,
    label_score,
    predictions,
    served_model,
)
from mangaassist_assets.chatbot.shadow import TurnShadows
from mangaassist_assets.chatbot.tracer import ActiveSpan, TurnTracer
from mangaassist_assets.retrieval.chunking import embedding_text
from mangaassist_assets.retrieval.fusion import reciprocal_rank_fusion
from mangaassist_assets.retrieval.tenants import TenantScope
from mangaassist_assets.retrieval.types import Embedder, Hit, PassageSearch
from mangaassist_assets.tracing.contract.names import Attribute, SpanName, Tag

_RERANKER_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedHit:
    """A candidate in its final order; ranks count from 1. What a reranker says is None where there is none."""

    hit: Hit
    retrieval_rank: int
    retrieval_score: float
    rerank_rank: int | None
    relevance: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """All candidates, best first, and the ones that are used."""

    candidates: tuple[RankedHit, ...]
    selected: tuple[RankedHit, ...]


class Retriever:
    """Finds passages in the live index generation; `reranker` is None where none could be trained."""

    def __init__(self, *, index: PassageSearch, embedder: Embedder, reranker: Endpoint | None) -> None:
        self._index = index
        self._embedder = embedder
        self._reranker = reranker

    def retrieve(
        self,
        message: str,
        routing: RoutingDocument,
        tracer: TurnTracer,
        *,
        scope: TenantScope,
        filters: Mapping[str, str] | None = None,
        reranker: Endpoint | None = None,
        shadows: TurnShadows | None = None,
    ) -> Retrieved:
        """Return the passages for a message that a shopper of that scope may see.

        `reranker` stands in for the champion, `shadows` run beside it.

        Raises:
            StageError: No index generation is live, or the reranker's answer breaks the inference contract.
        """
        with tracer.span(SpanName.RETRIEVE_CHUNKS, inputs={"message": message}) as span:
            with _as_stage("the search index"):
                generation = self._index.live_generation()
            if generation is None:
                raise StageError("no search index generation is live: bootstrap the knowledge index first")
            tracer.tag(Tag.INDEX_GENERATION, generation)
            tracer.tag(Tag.EMBEDDING_MODEL_ID, self._embedder.model_id)
            span.set(
                {
                    Attribute.INDEX_GENERATION: generation,
                    Attribute.FILTERS: [
                        *_described(scope, tracer),
                        *(f"{key}={value}" for key, value in sorted((filters or {}).items())),
                    ],
                }
            )
            fused = self._search(message, generation, routing, tracer, scope, filters)[: routing.rerank_candidates]
            # What the searches gave is on the trace even if the reranker fails.
            _put_candidates(span, fused)
            candidates = self._rerank(message, fused, tracer, reranker or self._reranker, shadows)
            selected = candidates[: routing.selected_chunks]
            span.set({Attribute.SELECTED_IDS: [item.hit.chunk_id for item in selected]})
            span.outputs = {"selected": [item.hit.document_id for item in selected]}
            return Retrieved(candidates=tuple(candidates), selected=tuple(selected))

    def _search(
        self,
        message: str,
        generation: str,
        routing: RoutingDocument,
        tracer: TurnTracer,
        scope: TenantScope,
        filters: Mapping[str, str] | None,
    ) -> list[tuple[Hit, float]]:
        with tracer.span(SpanName.EMBED_QUERY) as span, _as_stage("the embedder"):
            span.set({Attribute.EMBEDDING_MODEL_ID: self._embedder.model_id})
            vector = self._embedder.embed([message])[0]
        with tracer.span(SpanName.VECTOR_SEARCH) as span, _as_stage("vector search"):
            by_vector = self._index.vector_search(
                generation, vector, scope=scope, limit=routing.vector_candidates, filters=filters
            )
            span.set({Attribute.CANDIDATE_COUNT: len(by_vector)})
        rankings = [by_vector]
        if routing.keyword_candidates:
            with tracer.span(SpanName.KEYWORD_SEARCH) as span, _as_stage("keyword search"):
                by_keyword = self._index.keyword_search(
                    generation, message, scope=scope, limit=routing.keyword_candidates, filters=filters
                )
                span.set({Attribute.CANDIDATE_COUNT: len(by_keyword)})
            rankings.append(by_keyword)
        return fuse_hits(rankings)

    def _rerank(
        self,
        message: str,
        fused: Sequence[tuple[Hit, float]],
        tracer: TurnTracer,
        reranker: Endpoint | None,
        shadows: TurnShadows | None,
    ) -> list[RankedHit]:
        if not fused:
            return []
        if reranker is None:
            return [
                RankedHit(hit=hit, retrieval_rank=rank, retrieval_score=score, rerank_rank=None, relevance=None)
                for rank, (hit, score) in enumerate(fused, start=1)
            ]
        with tracer.span(SpanName.RERANK_CHUNKS) as span:
            span.set(
                {
                    Attribute.ENDPOINT_NAME: reranker.name,
                    Attribute.MODEL_FAMILY: "cross-encoder",
                    Attribute.CANDIDATE_COUNT: len(fused),
                }
            )
            payload = {
                "inputs": [
                    {
                        "text": message[:_RERANKER_CHARACTERS],
                        "text_pair": embedding_text(hit.title, hit.text)[:_RERANKER_CHARACTERS],
                    }
                    for hit, _ in fused
                ]
            }
            if shadows is not None:
                shadows.reranker(payload)
            answer = reranker.invoke(payload)
            model = served_model(answer, reranker.name)
            tracer.tag(Tag.RERANKER_VERSION, model.version)
            found = predictions(answer, reranker.name, count=len(fused))
            relevances = [label_score(entry, reranker.name)[1] for entry in found]
            # Equal relevances keep the retriever's order.
            order = sorted(range(len(fused)), key=lambda index: -relevances[index])
            ranks = {index: rank for rank, index in enumerate(order, start=1)}
            _put_candidates(span, fused)
            span.set(
                {
                    Attribute.MODEL_VERSION: model.version,
                    Attribute.MODEL_SHA256: model.sha256,
                    Attribute.RERANK_SCORES: relevances,
                    Attribute.RERANK_RANKS: [ranks[index] for index in range(len(fused))],
                }
            )
            return [
                RankedHit(
                    hit=fused[index][0],
                    retrieval_rank=index + 1,
                    retrieval_score=fused[index][1],
                    rerank_rank=ranks[index],
                    relevance=relevances[index],
                )
                for index in order
            ]


def _described(scope: TenantScope, tracer: TurnTracer) -> list[str]:
    """Return the scope as a filter for the trace, with the tenant's name as it is tagged."""
    if scope.kind == "all":
        return []
    return [f"{Tag.TENANT}={tracer.tagged(Tag.TENANT)}|(none)" if scope.kind == "tenant" else f"{Tag.TENANT}=(none)"]


@contextmanager
def _as_stage(what: str) -> Iterator[None]:
    """Turn what a client of a system raises into the failure of a stage; programming errors stay what they are."""
    try:
        yield
    except StageError:
        raise
    except (OSError, RuntimeError) as error:
        raise StageError(f"{what} failed: {error}") from error


def fuse_hits(rankings: Sequence[Sequence[Hit]]) -> list[tuple[Hit, float]]:
    """Return the hits of several searches by reciprocal rank fusion with their fused scores, best first."""
    hits = {hit.chunk_id: hit for ranking in rankings for hit in ranking}
    fused = reciprocal_rank_fusion([[hit.chunk_id for hit in ranking] for ranking in rankings])
    return [(hits[chunk_id], score) for chunk_id, score in fused]


def _put_candidates(span: ActiveSpan, fused: Sequence[tuple[Hit, float]]) -> None:
    span.set(
        {
            Attribute.CANDIDATE_COUNT: len(fused),
            Attribute.CANDIDATE_IDS: [hit.chunk_id for hit, _ in fused],
            Attribute.DOCUMENT_IDS: [hit.document_id for hit, _ in fused],
            Attribute.RETRIEVAL_RANKS: list(range(1, len(fused) + 1)),
            Attribute.RETRIEVAL_SCORES: [round(score, 6) for _, score in fused],
        }
    )
