"""Retrieval in a chat turn: the retrieval pipeline on the live generation, traced, with an endpoint as its reranker.

A store without a reranker selects in the order of the fused rankings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from mangaassist_assets.chatbot.configuration.documents import RoutingDocument
from mangaassist_assets.chatbot.parts import Endpoint, StageError, label_score, predictions, served_model
from mangaassist_assets.chatbot.shadow import TurnShadows
from mangaassist_assets.chatbot.tracer import ActiveSpan, TurnTracer
from mangaassist_assets.retrieval.chunking import embedding_text
from mangaassist_assets.retrieval.pipeline import Reranker, RetrievalPipeline, Retrieved, Span, put_candidates
from mangaassist_assets.retrieval.search_index import SearchIndex
from mangaassist_assets.retrieval.tenants import TenantScope
from mangaassist_assets.retrieval.types import Embedder, Hit
from mangaassist_assets.tracing.contract.names import Attribute, SpanName, Tag

_RERANKER_CHARACTERS = 2_000
_SYSTEMS: Final[Mapping[SpanName, str]] = {
    SpanName.EMBED_QUERY: "the embedder",
    SpanName.VECTOR_SEARCH: "vector search",
    SpanName.KEYWORD_SEARCH: "keyword search",
}


class Retriever:
    """Finds passages in the live index generation; `reranker` is None where none could be trained."""

    def __init__(self, *, index: SearchIndex, embedder: Embedder, reranker: Endpoint | None) -> None:
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
            span.set({Attribute.INDEX_GENERATION: generation, Attribute.FILTERS: _described(scope, tracer)})
            pipeline = RetrievalPipeline(
                index=self._index,
                embedder=self._embedder,
                generation=generation,
                routing=routing.retrieval,
                tracer=_StageTracer(tracer),
            )
            candidates = pipeline.search(message, scope=scope).candidates
            # What the searches gave is on the trace even if the reranker fails.
            put_candidates(span, candidates)
            endpoint = reranker or self._reranker
            scores = None if endpoint is None else _endpoint_reranker(endpoint, tracer, shadows)
            retrieved = pipeline.select(message, candidates, scores)
            span.set({Attribute.SELECTED_IDS: [one.hit.chunk_id for one in retrieved.selected]})
            span.outputs = {"selected": [one.hit.document_id for one in retrieved.selected]}
            return retrieved


class _StageTracer:
    """Traces the stages of the pipeline in a turn; what a system raises in one becomes the failure of that stage."""

    def __init__(self, tracer: TurnTracer) -> None:
        self._tracer = tracer

    @contextmanager
    def span(self, name: SpanName) -> Iterator[ActiveSpan]:
        with self._tracer.span(name) as span, _as_stage(_SYSTEMS.get(name)):
            yield span


def _endpoint_reranker(endpoint: Endpoint, tracer: TurnTracer, shadows: TurnShadows | None) -> Reranker:
    def scores(query: str, hits: Sequence[Hit], span: Span) -> list[float]:
        span.set({Attribute.ENDPOINT_NAME: endpoint.name})
        payload = {
            "inputs": [
                {
                    "text": query[:_RERANKER_CHARACTERS],
                    "text_pair": embedding_text(hit.title, hit.text)[:_RERANKER_CHARACTERS],
                }
                for hit in hits
            ]
        }
        if shadows is not None:
            shadows.reranker(payload)
        answer = endpoint.invoke(payload)
        model = served_model(answer, endpoint.name)
        tracer.tag(Tag.RERANKER_VERSION, model.version)
        found = predictions(answer, endpoint.name, count=len(hits))
        relevances = [label_score(entry, endpoint.name)[1] for entry in found]
        span.set(
            {
                Attribute.MODEL_VERSION: model.version,
                Attribute.MODEL_SHA256: model.sha256,
                Attribute.MODEL_FAMILY: model.family,
            }
        )
        return relevances

    return scores


def _described(scope: TenantScope, tracer: TurnTracer) -> list[str]:
    """Return the scope as a filter for the trace, with the tenant's name as it is tagged."""
    if scope.kind == "all":
        return []
    return [f"{Tag.TENANT}={tracer.tagged(Tag.TENANT)}|(none)" if scope.kind == "tenant" else f"{Tag.TENANT}=(none)"]


@contextmanager
def _as_stage(system: str | None) -> Iterator[None]:
    """Turn what a client of a system raises into the failure of a stage; programming errors stay what they are.

    Without a system everything stays what it is: a client of endpoints raises StageError itself.
    """
    try:
        yield
    except StageError:
        raise
    except (OSError, RuntimeError) as error:
        if system is None:
            raise
        raise StageError(f"{system} failed: {error}") from error
