"""How well a generation is searched: labelled queries against vector, keyword and fused rankings of documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from mangaassist_assets.core.ranking_metrics import ndcg, reciprocal_rank
from mangaassist_assets.retrieval.pipeline import PrecomputedEmbedder, RetrievalPipeline
from mangaassist_assets.retrieval.routing import RetrievalRouting
from mangaassist_assets.retrieval.search_index import SearchIndex
from mangaassist_assets.retrieval.tenants import TenantScope
from mangaassist_assets.retrieval.types import Chunk, Embedder, Hit

Ranking = Literal["vector", "keyword", "fused"]
RANKINGS: tuple[Ranking, ...] = get_args(Ranking)
CUTOFF = 10
EVALUATION_FILE = "evaluation.json"
# Deeper than a chatbot searches, and with every candidate kept: what is measured is the ranking, not where it is cut.
_ROUTING = RetrievalRouting(vector_candidates=50, keyword_candidates=50, rerank_candidates=100, selected_chunks=CUTOFF)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledQuery:
    """A query with the ids of the documents that answer it, and the tenant of the shopper who would ask it."""

    text: str
    relevant_documents: tuple[str, ...]
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalMetrics:
    """Means over the queries, all between 0 and 1.

    `recall` is by cutoff: the share of a query's relevant documents among its first k. `mrr` is one over the rank of
    the first relevant document, 0 beyond rank 10; `ndcg` the normalised discounted cumulative gain of the first 10.
    """

    recall: Mapping[int, float]
    mrr: float
    ndcg: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalReport:
    """The evaluation of one generation. `skipped` queries had no relevant document named."""

    queries: int
    skipped: int
    metrics: Mapping[Ranking, RetrievalMetrics]


def answerable_queries(queries: Sequence[LabelledQuery], chunks: Sequence[Chunk]) -> list[LabelledQuery]:
    """Return the queries without those all of whose documents are there, but are another tenant's.

    A document that is given to a tenant must be found by its shoppers only: that others miss it now is no worse search.
    """
    tenants = {chunk.document_id: chunk.tenant for chunk in chunks}

    def is_answerable(query: LabelledQuery) -> bool:
        scope = TenantScope.of_trace(query.tenant)
        known = [document for document in query.relevant_documents if document in tenants]
        return not known or any(scope.admits(tenants[document]) for document in known)

    return [query for query in queries if is_answerable(query)]


def evaluate_retrieval(
    queries: Sequence[LabelledQuery],
    generation: str,
    *,
    index: SearchIndex,
    embedder: Embedder,
    routing: RetrievalRouting = _ROUTING,
    cutoffs: Sequence[int] = (1, 3, 5, 10),
) -> RetrievalReport:
    """Run the retrieval pipeline on a generation for every query; measure its vector, keyword and fused rankings.

    Rankings are of documents: a document stands where its best chunk stands. Each query finds what a shopper of its
    tenant would find.

    Args:
        queries: Labelled queries; those without a relevant document are left out and counted.
        generation: The generation to search.
        index: Where it is.
        embedder: The model of the generation's vectors.
        routing: Depth of the searches and weights of their fusion.
        cutoffs: Where recall is measured.

    Raises:
        ValueError: If no query names a relevant document, or the embedder's dimension is not the generation's.
        UnknownGenerationError: If there is no such generation.
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
    rankings: dict[Ranking, list[Sequence[Hit]]] = {name: [] for name in RANKINGS}
    for query in labelled:
        found = pipeline.search(query.text, scope=TenantScope.of_trace(query.tenant))
        rankings["vector"].append(found.by_vector)
        rankings["keyword"].append(found.by_keyword)
        rankings["fused"].append([one.hit for one in found.candidates])
    return RetrievalReport(
        queries=len(labelled),
        skipped=len(queries) - len(labelled),
        metrics={name: _metrics(labelled, hits, cutoffs) for name, hits in rankings.items()},
    )


def _metrics(
    queries: Sequence[LabelledQuery], found: Sequence[Sequence[Hit]], cutoffs: Sequence[int]
) -> RetrievalMetrics:
    recalls = dict.fromkeys(cutoffs, 0.0)
    mrr = gain = 0.0
    for query, hits in zip(queries, found, strict=True):
        relevant = set(query.relevant_documents)
        # A document stands where its best chunk stands.
        relevances = [float(document in relevant) for document in dict.fromkeys(hit.document_id for hit in hits)]
        for cutoff in cutoffs:
            recalls[cutoff] += sum(relevances[:cutoff]) / len(relevant)
        mrr += reciprocal_rank(relevances, k=CUTOFF)
        gain += ndcg(relevances, k=CUTOFF, ideal=[1.0] * len(relevant))
    count = len(queries)
    return RetrievalMetrics(
        recall={cutoff: total / count for cutoff, total in recalls.items()}, mrr=mrr / count, ndcg=gain / count
    )


def retrieval_figures(report: RetrievalReport) -> dict[str, dict[str, float]]:
    """Return the means of a retrieval evaluation by kind of search, under the names people know them by."""
    return {
        kind: {
            **{f"recall@{cutoff}": value for cutoff, value in metrics.recall.items()},
            "mrr@10": metrics.mrr,
            "ndcg@10": metrics.ndcg,
        }
        for kind, metrics in report.metrics.items()
    }
