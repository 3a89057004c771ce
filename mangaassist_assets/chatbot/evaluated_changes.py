"""Which comparison each changed document gets, and with what material."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING

from mangaassist_assets.chatbot.changed_documents import (
    AnsweringParts,
    DocumentChange,
    changed_fields,
    compare_experiments,
    compare_guardrails,
    compare_prompts,
)
from mangaassist_assets.chatbot.configuration.documents import (
    Document,
    ExperimentsDocument,
    GuardrailsDocument,
    PromptsDocument,
    RoutingDocument,
)
from mangaassist_assets.chatbot.generation import ExtractiveGenerator
from mangaassist_assets.retrieval.evaluation import LabelledQuery, answerable_queries, evaluate_policy
from mangaassist_assets.retrieval.pipeline import live_pipeline
from mangaassist_assets.retrieval.tenants import UNTENANTED

if TYPE_CHECKING:
    from mangaassist_assets.chatbot.parts import Generator
    from mangaassist_assets.retrieval.search_index import SearchIndex
    from mangaassist_assets.retrieval.types import Chunk, Embedder, Hit
    from mangaassist_assets.tracing.contract.turns import ChatTurn

Figures = Mapping[str, tuple[float | None, float | None]]
Found = Callable[..., DocumentChange]
Versions = Sequence[tuple[str, Document]]
"""Version numbers with their documents, the one in force first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What documents are compared on.

    Attributes:
        bundle: The newest one; None before the first one.
        turns: Its turns.
        golden: Messages of the golden set.
        failed: Messages of its failed turns, the worst first.
        queries: Those whose relevant documents are known.
        chunks: Of the knowledge.
        index: Where the live generation is.
        embedder: Of its queries.
        generator: Writes the answers.
    """

    bundle: str | None
    turns: Iterable[ChatTurn]
    golden: Sequence[str]
    failed: Sequence[str]
    queries: Sequence[LabelledQuery]
    chunks: Sequence[Chunk]
    index: SearchIndex
    embedder: Embedder
    generator: Generator


def evaluate_changes(
    in_force: Mapping[str, Versions], material: Material, *, questions: int, logger: logging.Logger
) -> list[DocumentChange]:
    """Compare each profile's document in force with the valid one before it.

    Args:
        in_force: By profile, one or two versions.
        material: What they are compared on.
        questions: How many questions are answered under both versions of the prompts.
        logger: Gets a line a profile.

    Raises:
        StageError: The model answered no question.
    """
    changes: list[DocumentChange] = []
    for profile, versions in sorted(in_force.items()):
        if not versions:
            logger.warning("%s: no version is valid, nothing is compared", profile)
            continue
        (number, after), *earlier = versions
        before = earlier[0] if earlier else None
        change = _change(profile, before, (number, after), in_force, material, questions)
        logger.info("%s %s → %s, on %s", profile, change.before or "none", change.after, change.measured_on)
        changes.append(change)
    return changes


def _change(
    profile: str,
    before: tuple[str, Document] | None,
    after: tuple[str, Document],
    in_force: Mapping[str, Versions],
    material: Material,
    questions: int,
) -> DocumentChange:
    old, new = None if before is None else before[1], after[1]
    fields = changed_fields(old, new)
    noted = (f"fields that differ: {', '.join(fields) or 'none'}",) if before else ()

    def found(measured_on: str, figures: Figures, *notes: str) -> DocumentChange:
        return DocumentChange(
            profile=profile,
            before=None if before is None else before[0],
            after=after[0],
            measured_on=measured_on,
            figures=figures,
            notes=(*noted, *notes),
        )

    match old, new:
        case _, ExperimentsDocument():
            shares = compare_experiments(old if isinstance(old, ExperimentsDocument) else None, new)
            return found("the shares of the arms", shares)
        case None, _:
            return found("nothing: it is the first version", {})
        case GuardrailsDocument(), GuardrailsDocument():
            return found(
                f"the turns of {material.bundle or 'no bundle'}",
                compare_guardrails(old, new, material.turns),
                "turns are stored redacted: what a ruleset refuses for personal data in an answer is left out",
            )
        case RoutingDocument(), RoutingDocument():
            return _routing(old, new, material, found)
        case PromptsDocument(), PromptsDocument():
            return _prompts(old, new, in_force, material, questions, found)
        case _:
            raise TypeError(f"{profile} has documents of two kinds: {type(old).__name__} and {type(new).__name__}")


def _routing(old: RoutingDocument, new: RoutingDocument, material: Material, found: Found) -> DocumentChange:
    if old.retrieval == new.retrieval:
        return found("nothing: no field of retrieval differs", {})
    queries = answerable_queries(material.queries, material.chunks).queries
    if not queries:
        return found("nothing: no labelled query can be answered by a live index", {})
    figures = [
        evaluate_policy(queries, index=material.index, embedder=material.embedder, routing=one.retrieval)
        for one in (old, new)
    ]
    return found(
        f"{len(queries)} labelled queries on {material.index.live_generation()}",
        {name: (figures[0][name], figures[1][name]) for name in figures[0]},
        "before reranking: the reranker orders what it is given",
    )


def _prompts(
    old: PromptsDocument,
    new: PromptsDocument,
    in_force: Mapping[str, Versions],
    material: Material,
    questions: int,
    found: Found,
) -> DocumentChange:
    routing = next(
        (one for _, one in in_force.get("routing", ()) if isinstance(one, RoutingDocument)),
        RoutingDocument(version="default"),
    )
    rules = next(
        (one for _, one in in_force.get("guardrails", ()) if isinstance(one, GuardrailsDocument)),
        GuardrailsDocument(version="default"),
    )
    asked = _questions(material, questions)
    if not asked or material.index.live_generation() is None:
        return found("nothing: no question is known, or no index is live", {})
    pipeline = live_pipeline(material.index, material.embedder, routing.retrieval, queries=asked)

    def retrieve(question: str) -> list[Hit]:
        candidates = pipeline.search(question, scope=UNTENANTED).candidates
        return [one.hit for one in pipeline.select(question, candidates).selected]

    parts = AnsweringParts(retrieve=retrieve, generator=material.generator, routing=routing, guardrails=rules)
    extractive = "the local model copies sentences and obeys no prompt: only how much context fits can change an answer"
    return found(
        f"{len(asked)} questions of the golden set and of failed turns",
        compare_prompts(old, new, asked, parts),
        "`supported` is a count of words, no judgement of the answer",
        *([extractive] if isinstance(material.generator, ExtractiveGenerator) else []),
    )


def _questions(material: Material, count: int) -> list[str]:
    """Return questions of the golden set and of failed turns in turns, each once."""
    both = chain.from_iterable(zip_longest(material.golden, material.failed))
    return list(islice(dict.fromkeys(one for one in both if one), count))
