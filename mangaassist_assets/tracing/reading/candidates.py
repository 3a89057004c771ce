"""The chunks of a turn, from whatever its search spans say: full lists with scores, or ids in their order only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mangaassist_assets.tracing.contract.names import SpanName
from mangaassist_assets.tracing.contract.records import SpanRecord
from mangaassist_assets.tracing.contract.turns import RankedCandidate
from mangaassist_assets.tracing.reading.trace_view import FactReader
from mangaassist_assets.tracing.reading.typed_values import count_of, documents_of, list_of_names, names_of, numbers_of

T = TypeVar("T")
_DOCUMENT_OF_CHUNK = "::"
_SEARCHES = (SpanName.RETRIEVE_CHUNKS, SpanName.VECTOR_SEARCH, SpanName.KEYWORD_SEARCH, SpanName.RERANK_CHUNKS)
_NUMBERS = ("retrieval_ranks", "retrieval_scores", "rerank_ranks", "rerank_scores")
# Whose scores are in the documents: those that a reranker returns keep the retriever's.
_RERANKER_SCORES = ("relevance_score", "rerank_score")
_RETRIEVER_SCORES = ("score", "similarity_score", "_score", "relevance_score")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The chunks, and how many the search found; `count` is None where the trace says neither."""

    chunks: tuple[RankedCandidate, ...]
    count: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _List:
    """What one search span lists; the further lists are parallel to `chunk_ids` or empty."""

    chunk_ids: tuple[str, ...] = ()
    document_ids: tuple[str, ...] = ()
    retrieval_ranks: tuple[float, ...] = ()
    retrieval_scores: tuple[float, ...] = ()
    rerank_ranks: tuple[float, ...] = ()
    rerank_scores: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()


def candidates_of(reader: FactReader) -> Candidates:
    """Return the chunks that retrieval put before the reranker, in its order, and what became of each."""
    lists = {stage: _list(reader, stage) for stage in _SEARCHES}
    retrieved, reranked = lists[SpanName.RETRIEVE_CHUNKS], lists[SpanName.RERANK_CHUNKS]
    selected = frozenset(reader.read("turn", "selected_ids", names_of) or ())
    full = next((one for one in (reranked, retrieved) if one.retrieval_ranks or one.retrieval_scores), None)
    if full is not None:
        chunks = _from_full(full, selected)
    else:
        searched = [lists[stage] for stage in (SpanName.VECTOR_SEARCH, SpanName.KEYWORD_SEARCH)]
        chunks = _from_orders(retrieved, searched, reranked, selected)
    return Candidates(chunks=chunks, count=_count(reader, lists, len(chunks)))


def _from_full(one: _List, selected: frozenset[str]) -> tuple[RankedCandidate, ...]:
    return tuple(
        RankedCandidate(
            chunk_id=chunk_id,
            document_id=one.document_ids[index] if one.document_ids else _document_of(chunk_id),
            retrieval_rank=int(one.retrieval_ranks[index]) if one.retrieval_ranks else index + 1,
            retrieval_score=one.retrieval_scores[index] if one.retrieval_scores else None,
            rerank_rank=int(one.rerank_ranks[index]) if one.rerank_ranks else None,
            rerank_score=one.rerank_scores[index] if one.rerank_scores else None,
            selected=chunk_id in selected,
        )
        for index, chunk_id in enumerate(one.chunk_ids)
    )


def _from_orders(
    retrieved: _List, searched: Sequence[_List], reranked: _List, selected: frozenset[str]
) -> tuple[RankedCandidate, ...]:
    """Return the chunks of spans that have only ids: each search gives an order, the reranker's counts as its ranks.

    What the searches found comes first, one search after the other; what only the span around them, the reranker or
    the selection names has been found, too.
    """
    orders = [one.chunk_ids for one in searched]
    known = {chunk_id for order in orders for chunk_id in order}
    orders = [retrieved.chunk_ids] if known <= set(retrieved.chunk_ids) else [*orders, retrieved.chunk_ids]
    order = list(dict.fromkeys([*(one for ids in orders for one in ids), *reranked.chunk_ids, *sorted(selected)]))
    scores = {
        chunk_id: score
        for one in (*searched, retrieved)
        for chunk_id, score in zip(one.chunk_ids, one.retrieval_scores or one.scores, strict=False)
    }
    documents = {
        chunk_id: document_id
        for one in (*searched, retrieved, reranked)
        for chunk_id, document_id in zip(one.chunk_ids, one.document_ids, strict=False)
    }
    ranks = dict(
        zip(reranked.chunk_ids, map(int, reranked.rerank_ranks), strict=False)
        if reranked.rerank_ranks
        else ((chunk_id, rank) for rank, chunk_id in enumerate(reranked.chunk_ids, start=1))
    )
    relevances = dict(zip(reranked.chunk_ids, reranked.rerank_scores or reranked.scores, strict=False))
    return tuple(
        RankedCandidate(
            chunk_id=chunk_id,
            document_id=documents.get(chunk_id) or _document_of(chunk_id),
            retrieval_rank=rank,
            retrieval_score=scores.get(chunk_id),
            rerank_rank=ranks.get(chunk_id),
            rerank_score=relevances.get(chunk_id),
            selected=chunk_id in selected,
        )
        for rank, chunk_id in enumerate(order, start=1)
    )


def _list(reader: FactReader, stage: SpanName) -> _List:
    lists = (_list_of(reader, span, stage) for span in reader.view.spans_of(stage))
    return next((one for one in lists if one.chunk_ids), _List())


def _list_of(reader: FactReader, span: SpanRecord, stage: SpanName) -> _List:
    chunk_ids = reader.read("search", "chunk_ids", list_of_names, span) or ()

    def checked(fact: str, found: tuple[T, ...]) -> tuple[T, ...]:
        if len(found) not in (0, len(chunk_ids)):
            reader.note(f"{fact}: {len(found)} entries for {len(chunk_ids)} chunks of span {span.name}")
            return ()
        return found

    def numbers(fact: str) -> tuple[float, ...]:
        return reader.read("search", fact, numbers_of, span) or ()

    scores = _RERANKER_SCORES if stage == SpanName.RERANK_CHUNKS else _RETRIEVER_SCORES
    described = reader.read("search", "chunk_ids", documents_of(*scores), span) or ()
    if len(described) != len(chunk_ids):
        described = ()
    documents = reader.read("search", "document_ids", _every_name, span) or _all_or_none(one for one, _ in described)
    return _List(
        chunk_ids=chunk_ids,
        document_ids=checked("document_ids", documents),
        **{fact: checked(fact, numbers(fact)) for fact in _NUMBERS},
        scores=checked("scores", numbers("scores")) or _all_or_none(score for _, score in described),
    )


def _all_or_none(values: Iterable[T | None]) -> tuple[T, ...]:
    """Return the values where each is there, else none: a list with gaps is parallel to nothing."""
    found = tuple(values)
    given = tuple(one for one in found if one is not None)
    return given if len(given) == len(found) else ()


def _every_name(value: object) -> tuple[str, ...] | None:
    """Return a list of names with repetitions: two chunks may be of one document."""
    if not isinstance(value, list | tuple):
        return None
    return tuple(name for entry in value for name in names_of([entry]) or ())


def _document_of(chunk_id: str) -> str:
    """Return the document of a chunk that our own index named; else the chunk's id is all that is known."""
    return chunk_id.rpartition(_DOCUMENT_OF_CHUNK)[0] or chunk_id


def _count(reader: FactReader, lists: dict[SpanName, _List], chunks: int) -> int | None:
    count = reader.read("turn", "candidate_count", count_of)
    if count is not None:
        return max(count, chunks)
    if chunks:
        return chunks
    spans = [span for stage in lists for span in reader.view.spans_of(stage)]
    counts = [reader.read("stage", "chunk_count", count_of, span) for span in spans]
    found = [count for count in counts if count is not None]
    if found:
        return max(found)
    # An empty list is an answer; no list is none.
    empty = [reader.read("search", "chunk_ids", _is_empty_list, span) for span in spans]
    return 0 if any(empty) else None


def _is_empty_list(value: object) -> bool | None:
    return True if value in ([], ()) else None
