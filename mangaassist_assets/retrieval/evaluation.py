"""How well generations are searched: labelled queries against vector, keyword and fused rankings of documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mangaassist_assets.core.figures import Figures
from mangaassist_assets.core.ranking_metrics import ndcg, reciprocal_rank
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.retrieval.pipeline import PrecomputedEmbedder, RetrievalPipeline, live_pipeline
from mangaassist_assets.retrieval.search_index import SearchIndex
from mangaassist_assets.retrieval.tenants import TenantScope
from mangaassist_assets.retrieval.types import Chunk, Embedder, Hit, RetrievalRouting

EVALUATION_FILE = "evaluation.json"
CUTOFF = 10
_GONE_SHOWN = 50
_RECALL_CUTOFFS = (1, 3, 5, 10)
# Deeper than a chatbot searches, and with every candidate kept: what is measured is the ranking, not where it is cut.
_ROUTING = RetrievalRouting(vector_candidates=50, keyword_candidates=50, rerank_candidates=100, selected_chunks=CUTOFF)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledQuery:
    """A query with the ids of the documents that answer it, and the tenant of the shopper who would ask it."""

    text: str
    relevant_documents: tuple[str, ...]
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateEvaluation:
    """The means over the queries, by generation, kind of search and metric; none where there is no query.

    Left out are `queries_of_others`, whose documents are another tenant's, and `queries_gone`, whose documents
    (`gone_documents`, sorted) the knowledge no longer has.
    """

    candidate: str
    live: str | None
    queries: int
    queries_of_others: int
    queries_gone: int
    gone_documents: tuple[str, ...]
    means: Mapping[str, Mapping[str, Mapping[str, float]]]

    def files(self) -> dict[str, bytes]:
        """Return the evaluation as it is stored."""
        return {EVALUATION_FILE: canonical_json(self)}

    def __str__(self) -> str:
        fused = self.means.get(self.candidate, {}).get("fused")
        return f"{self.queries} labelled queries; fused search on {self.candidate}: {fused or 'nothing to measure'}"

    def figures(self) -> Figures:
        """Return the counts and one row a generation and kind of search."""
        return {
            "queries": self.queries,
            "queries_of_others": self.queries_of_others,
            "queries_gone": self.queries_gone,
            "gone_documents": [{"document": one} for one in self.gone_documents[:_GONE_SHOWN]],
            "candidate": self.candidate,
            "live": self.live or "none yet",
            "figures": [
                {"generation": generation, "search": kind, **values}
                for generation, by_kind in self.means.items()
                for kind, values in by_kind.items()
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerableQueries:
    """The queries that these chunks can answer, each with those of its documents that are there, and the others."""

    queries: tuple[LabelledQuery, ...]
    of_others: tuple[LabelledQuery, ...]
    gone: tuple[LabelledQuery, ...]


def answerable_queries(queries: Sequence[LabelledQuery], chunks: Sequence[Chunk]) -> AnswerableQueries:
    """Sort queries by whether a shopper can find what is relevant to them.

    A document that is given to a tenant must be found by its shoppers only, and one that was renamed or deleted by
    nobody: that a search misses it now is no worse search.
    """
    tenants = {chunk.document_id: chunk.tenant for chunk in chunks}
    answerable: list[LabelledQuery] = []
    of_others: list[LabelledQuery] = []
    gone: list[LabelledQuery] = []
    for query in queries:
        scope = TenantScope.of_trace(query.tenant)
        known = tuple(document for document in query.relevant_documents if document in tenants)
        if not known:
            gone.append(query)
        elif not any(scope.admits(tenants[document]) for document in known):
            of_others.append(query)
        else:
            answerable.append(replace(query, relevant_documents=known))
    return AnswerableQueries(queries=tuple(answerable), of_others=tuple(of_others), gone=tuple(gone))


def evaluate_candidate(
    candidate: str,
    queries: Sequence[LabelledQuery],
    chunks: Sequence[Chunk],
    *,
    index: SearchIndex,
    embedder: Embedder,
) -> CandidateEvaluation:
    """Evaluate the candidate generation, built of `chunks`, and the live one where that is another."""
    live = index.live_generation()
    compared = [candidate] if live is None or index.state(live) is None else [candidate, live]
    labelled = [query for query in queries if query.relevant_documents]
    found = answerable_queries(labelled, chunks)
    return CandidateEvaluation(
        candidate=candidate,
        live=live,
        queries=len(found.queries),
        queries_of_others=len(found.of_others),
        queries_gone=len(found.gone),
        gone_documents=tuple(sorted({document for query in found.gone for document in query.relevant_documents})),
        means={
            generation: evaluate_retrieval(found.queries, generation, index=index, embedder=embedder)
            for generation in (dict.fromkeys(compared) if found.queries else ())
        },
    )


def evaluate_retrieval(
    queries: Sequence[LabelledQuery],
    generation: str,
    *,
    index: SearchIndex,
    embedder: Embedder,
    routing: RetrievalRouting = _ROUTING,
) -> dict[str, dict[str, float]]:
    """Run the retrieval pipeline on a generation for every query; measure its vector, keyword and fused rankings.

    Rankings are of documents: a document stands where its best chunk stands. Each query finds what a shopper of its
    tenant would find. Queries that name no relevant document are left out.

    Returns:
        Kind of search -> metric -> mean over the queries, 0 to 1: recall@k, the share of a query's relevant documents
        among its first k; mrr@10, one over the rank of the first relevant document, 0 beyond rank 10; ndcg@10.

    Raises:
        ValueError: If no query names a relevant document, or the embedder's dimension is not the generation's.
        SearchIndexError: If there is no such generation.
    """
    labelled = [query for query in queries if query.relevant_documents]
    if not labelled:
        raise ValueError(f"none of {len(queries)} queries names a relevant document: there is nothing to measure")
    state = index.state(generation)
    if state is not None and state.dimension != embedder.dimension:
        raise ValueError(
            f"{embedder.model_id} makes vectors of dimension {embedder.dimension}, the generation {generation} has "
            f"{state.dimension}: evaluate it with the model it was built with"
        )
    pipeline = RetrievalPipeline(
        index=index,
        embedder=PrecomputedEmbedder(embedder, [query.text for query in labelled]),
        generation=generation,
        routing=routing,
    )
    found = [pipeline.search(query.text, scope=TenantScope.of_trace(query.tenant)) for query in labelled]
    return {
        "vector": _means(labelled, [one.by_vector for one in found]),
        "keyword": _means(labelled, [one.by_keyword for one in found]),
        "fused": _means(labelled, [[ranked.hit for ranked in one.candidates] for one in found]),
    }


def evaluate_policy(
    queries: Sequence[LabelledQuery], *, index: SearchIndex, embedder: Embedder, routing: RetrievalRouting
) -> dict[str, float]:
    """Search the live generation as a routing policy says, its depth, weights and cuts included.

    Returns:
        Metric -> mean over the queries, 0 to 1, of the fused candidates before reranking: as `evaluate_retrieval`, and
        `recall_of_candidates`, of all that the reranker would get; `candidates`, how many those are.

    Raises:
        LookupError: No generation is live.
    """
    pipeline = live_pipeline(index, embedder, routing, queries=[query.text for query in queries])
    found = [
        [ranked.hit for ranked in pipeline.search(query.text, scope=TenantScope.of_trace(query.tenant)).candidates]
        for query in queries
    ]
    recalled = [
        len({hit.document_id for hit in hits} & {*query.relevant_documents}) / len(query.relevant_documents)
        for query, hits in zip(queries, found, strict=True)
    ]
    return {
        **_means(queries, found),
        "recall_of_candidates": sum(recalled) / len(queries),
        "candidates": sum(map(len, found)) / len(queries),
    }


def _means(queries: Sequence[LabelledQuery], found: Sequence[Sequence[Hit]]) -> dict[str, float]:
    totals = dict.fromkeys([*(f"recall@{cutoff}" for cutoff in _RECALL_CUTOFFS), "mrr@10", "ndcg@10"], 0.0)
    for query, hits in zip(queries, found, strict=True):
        relevant = set(query.relevant_documents)
        relevances = [float(document in relevant) for document in dict.fromkeys(hit.document_id for hit in hits)]
        for cutoff in _RECALL_CUTOFFS:
            totals[f"recall@{cutoff}"] += sum(relevances[:cutoff]) / len(relevant)
        totals["mrr@10"] += reciprocal_rank(relevances, k=CUTOFF)
        totals["ndcg@10"] += ndcg(relevances, k=CUTOFF, ideal=[1.0] * len(relevant))
    return {name: total / len(queries) for name, total in totals.items()}
