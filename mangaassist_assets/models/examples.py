"""Training and evaluation examples as plain values."""

from __future__ import annotations

from dataclasses import dataclass

OUT_OF_SCOPE = "out_of_scope"


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentExample:
    """One message with its intent. `example_id` is stable across dataset versions; `weight` scales its loss.

    `tenant` is whose shopper wrote it, empty where one store is all there is. The intent `OUT_OF_SCOPE` says that the
    message has none: it is no class to learn, it shows where the classifier should refuse.
    """

    example_id: str
    text: str
    intent: str
    weight: float = 1.0
    tenant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingExample:
    """One query with labelled passages, the unit of reranker training and evaluation.

    `passages[i]` is the text of a chunk, `relevances[i]` its relevance (0.0 or 1.0). `first_stage_ranks[i]` is the
    retriever's rank of it counted from 1, so that the retriever alone can be scored on the same example. `missed` are
    the relevances of relevant passages that the retriever did not find: nothing can order them, but an ideal ranking
    has them. `tenant` is whose shopper asked, empty where one store is all there is.
    """

    example_id: str
    query: str
    passages: tuple[str, ...]
    relevances: tuple[float, ...]
    first_stage_ranks: tuple[int, ...]
    missed: tuple[float, ...] = ()
    tenant: str = ""

    @property
    def ideal(self) -> tuple[float, ...]:
        """Relevances of all there is to find, what the retriever missed included."""
        return (*self.relevances, *self.missed)
