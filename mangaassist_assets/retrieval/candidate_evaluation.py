"""The candidate index generation beside the live one, on the same labelled queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mangaassist_assets.core.figures import Figures
from mangaassist_assets.retrieval.evaluation import (
    LabelledQuery,
    answerable_queries,
    evaluate_retrieval,
    retrieval_figures,
)
from mangaassist_assets.retrieval.search_index import SearchIndex
from mangaassist_assets.retrieval.types import Chunk, Embedder


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateEvaluation:
    """The means over the queries, by generation, kind of search and metric; none where there is no query.

    The live generation is missing where it stores no tenants: it cannot be searched as shoppers search.
    `queries_of_others` were left out, since their documents are another tenant's.
    """

    candidate: str
    live: str | None
    queries: int
    queries_of_others: int
    means: Mapping[str, Mapping[str, Mapping[str, float]]]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "candidate": self.candidate,
            "live": self.live,
            "queries": self.queries,
            "queries_of_others": self.queries_of_others,
            "figures": self.means,
        }

    def __str__(self) -> str:
        fused = self.means.get(self.candidate, {}).get("fused")
        return f"{self.queries} labelled queries; fused search on {self.candidate}: {fused or 'nothing to measure'}"

    def figures(self) -> Figures:
        """Return the counts and one row a generation and kind of search."""
        return {
            "queries": self.queries,
            "queries_of_others": self.queries_of_others,
            "candidate": self.candidate,
            "live": self.live or "none yet",
            "figures": [
                {"generation": generation, "search": kind, **values}
                for generation, by_kind in self.means.items()
                for kind, values in by_kind.items()
            ],
        }


def evaluate_candidate(
    candidate: str,
    queries: Sequence[LabelledQuery],
    chunks: Sequence[Chunk],
    *,
    index: SearchIndex,
    embedder: Embedder,
) -> CandidateEvaluation:
    """Evaluate the candidate generation, and the live one where it is another and can be compared.

    Args:
        candidate: The generation that was built last.
        queries: Every query whose relevant documents are known.
        chunks: What the candidate was built from.
        index: Where both are.
        embedder: The model of their vectors.
    """
    live = index.live_generation()
    state = None if live is None else index.state(live)
    compared = [state.generation] if state is not None and state.knows_tenants else []
    answerable = answerable_queries(queries, chunks)
    return CandidateEvaluation(
        candidate=candidate,
        live=live,
        queries=len(answerable),
        queries_of_others=len(queries) - len(answerable),
        means={
            generation: retrieval_figures(evaluate_retrieval(answerable, generation, index=index, embedder=embedder))
            for generation in (dict.fromkeys([candidate, *compared]) if answerable else ())
        },
    )
