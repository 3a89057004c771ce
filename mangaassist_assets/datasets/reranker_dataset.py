"""The reranker dataset: queries with passages that answer them and passages the retriever put beside those.

A turn's own candidates are the hardest wrong answers there are: the retriever believed in them. A reviewer names
documents, the reranker sees chunks: of an expected document those chunks count that the retriever brought up, and if
it brought up none, the one chunk that shares most words with the query, ranked behind all candidates.
"""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from mangaassist_assets.datasets.intent_dataset import EmptyDatasetError
from mangaassist_assets.datasets.intent_labels import LabelConflict
from mangaassist_assets.datasets.selection import Candidate, Caps, ExampleKind, held_out_keys, select
from mangaassist_assets.datasets.splits import DEFAULT_SHARES, Split, SplitShares, assign_split
from mangaassist_assets.datasets.text_keys import normalise_text, text_digest
from mangaassist_assets.datasets.utterances import Utterance
from mangaassist_assets.datasets.versions import DatasetVersion, seal_version
from mangaassist_assets.knowledge.types import Chunk, Hit
from mangaassist_assets.learning.examples import RankingExample
from mangaassist_assets.mining.words import word_overlap
from mangaassist_assets.tracing.redaction import Vocabulary, redact
from mangaassist_assets.tracing.turns import ChatTurn

_STRING = pl.String()
RANKING_SCHEMA = pl.Schema(
    {
        "example_id": _STRING,
        "query": _STRING,
        "chunk_id": _STRING,
        "document_id": _STRING,
        "passage": _STRING,
        "relevance": pl.Float64(),
        "first_stage_rank": pl.Int64(),
        "split": _STRING,
        "label_kind": _STRING,
        "source_trace_id": _STRING,
        "release_bundle": _STRING,
        "session_id": _STRING,
        "user_key": _STRING,
        "timestamp_ms": pl.Int64(),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingDatasetConfig:
    """Sides, caps, and how many passages a training query has; validation and test keep all, to be judged fairly.

    `vocabulary` are the store's own words, which are no personal data.
    """

    shares: SplitShares = DEFAULT_SHARES
    caps: Caps = field(default_factory=Caps)
    train_negatives: int = 15
    vocabulary: Vocabulary | None = None


DEFAULT_RANKING_DATASET = RankingDatasetConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingDataset:
    """Rows under `RANKING_SCHEMA`, one per query and passage, what was left out and why, and contradicting reviews."""

    rows: pl.DataFrame
    excluded: Mapping[str, int]
    conflicts: tuple[LabelConflict, ...] = ()

    def seal(self, *, as_of: str | None = None, notes: Sequence[str] = ()) -> DatasetVersion:
        """Return the immutable version with its data card."""
        return seal_version(
            self.rows,
            kind="ranking",
            excluded=self.excluded,
            conflicts=self.conflicts,
            as_of=as_of,
            notes=notes,
        )


def build_ranking_dataset(
    base: Sequence[Utterance],
    turns: Sequence[ChatTurn],
    *,
    chunks: Mapping[str, Chunk],
    search: Callable[[str], Sequence[Hit]],
    golden_texts: Sequence[str] = (),
    passage_of: Callable[[Chunk], str] = lambda chunk: chunk.text,
    config: RankingDatasetConfig = DEFAULT_RANKING_DATASET,
) -> RankingDataset:
    """Make ranking examples of reviewed turns and of bootstrap utterances that name relevant documents.

    Args:
        base: bootstrap utterances; those without relevant documents are left out. They have no retrieval of their
            own: `search` gives it.
        turns: turns of this bundle and those before; those without reviewed documents are left out.
        chunks: all chunks of the index generation by id; candidates of older generations are left out.
        search: the first stage for one query, best first, as deep as in production.
        golden_texts: queries that must not be in it.
        passage_of: the text of a chunk as the reranker sees it when serving.
        config: sides, caps, sizes.

    Raises:
        EmptyDatasetError: no query is left in train.
    """
    excluded: Counter[str] = Counter()
    conflicts: list[LabelConflict] = []
    chunks_of: defaultdict[str, list[Chunk]] = defaultdict(list)
    for chunk in chunks.values():
        chunks_of[chunk.document_id].append(chunk)

    queries = [*_base_queries(base, excluded, config), *_reviewed_queries(turns, excluded, conflicts, config)]
    chosen = select([query.candidate for query in queries], caps=config.caps, held_out=held_out_keys(golden_texts))
    excluded.update(chosen.excluded)
    rows: list[dict[str, object]] = []
    passage_text = functools.cache(lambda chunk_id: _redacted(passage_of(chunks[chunk_id]), config.vocabulary))
    for query in queries:
        if query.candidate.example_id not in chosen.kept:
            continue
        ranked = query.ranked if query.ranked is not None else _ranks_of(search(query.text))
        passages = _passages(query, ranked, chunks, chunks_of, config)
        if isinstance(passages, str):
            excluded[passages] += 1
            continue
        rows.extend(_row(query, one, passage_text(one.chunk.chunk_id)) for one in passages)
    frame = pl.DataFrame(rows, schema=RANKING_SCHEMA).sort("example_id", "first_stage_rank", "chunk_id")
    counted = {reason: count for reason, count in sorted(excluded.items()) if count}
    if not (frame["split"] == "train").any():
        reasons = ", ".join(f"{count} {reason}" for reason, count in counted.items()) or "none"
        msg = f"no query to train on of {len(base)} bootstrap messages and {len(turns)} turns; left out: {reasons}"
        raise EmptyDatasetError(msg)
    return RankingDataset(rows=frame, excluded=counted, conflicts=tuple(conflicts))


def ranking_examples(rows: pl.DataFrame, split: Split) -> list[RankingExample]:
    """Return one side of a dataset frame as ranking examples, by id, passages in the retriever's order."""
    side = rows.filter(pl.col("split") == split).sort("example_id", "first_stage_rank", "chunk_id")
    examples: list[RankingExample] = []
    for (example_id,), group in side.group_by(["example_id"], maintain_order=True):
        examples.append(
            RankingExample(
                example_id=str(example_id),
                query=group["query"][0],
                passages=tuple(group["passage"]),
                relevances=tuple(group["relevance"]),
                first_stage_ranks=tuple(group["first_stage_rank"]),
            )
        )
    return examples


@dataclass(frozen=True, slots=True, kw_only=True)
class _Query:
    """One query before its passages are known; `ranked` is chunk id → rank, None where a search must tell."""

    candidate: Candidate
    text: str
    documents: frozenset[str]
    ranked: Mapping[str, int] | None
    release_bundle: str | None = None
    trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class _Passage:
    chunk: Chunk
    relevance: float
    rank: int


def _base_queries(base: Sequence[Utterance], excluded: Counter[str], config: RankingDatasetConfig) -> Iterator[_Query]:
    by_key: dict[str, tuple[str, set[str]]] = {}
    for utterance in base:
        if not utterance.relevant_documents:
            excluded["bootstrap message without relevant documents"] += 1
            continue
        text = _redacted(utterance.text, config.vocabulary)
        key = normalise_text(text)
        if key in by_key:
            # Bootstrap data that names more documents for the same question completes it, it does not contradict it.
            excluded["duplicate message"] += 1
            known, documents = by_key[key]
            by_key[key] = (min(known, text), documents | set(utterance.relevant_documents))
        else:
            by_key[key] = (text, set(utterance.relevant_documents))
    for key, (text, documents) in by_key.items():
        split = assign_split(text, shares=config.shares)
        candidate = Candidate(example_id=f"base-{text_digest(text)[:20]}", key=key, split=split, kind="base")
        yield _Query(candidate=candidate, text=text, documents=frozenset(documents), ranked=None)


def _reviewed_queries(
    turns: Sequence[ChatTurn],
    excluded: Counter[str],
    conflicts: list[LabelConflict],
    config: RankingDatasetConfig,
) -> Iterator[_Query]:
    by_key: defaultdict[str, list[ChatTurn]] = defaultdict(list)
    for turn in {turn.trace_id: turn for turn in turns}.values():
        if turn.expected_documents:
            by_key[normalise_text(_redacted(turn.learnable_text, config.vocabulary))].append(turn)
    human: ExampleKind = "human"
    for key, same in by_key.items():
        if not frozenset.intersection(*(frozenset(turn.expected_documents) for turn in same)):
            answers = sorted({", ".join(sorted(turn.expected_documents)) for turn in same})
            trace_ids = tuple(sorted(turn.trace_id for turn in same))
            conflicts.append(LabelConflict(trace_ids=trace_ids, answers=tuple(answers)))
            excluded["reviews contradict each other"] += len(same)
            continue
        documents = frozenset(document for turn in same for document in turn.expected_documents)
        for turn in same:
            text = _redacted(turn.learnable_text, config.vocabulary)
            candidate = Candidate(
                example_id=f"trace-{turn.trace_id}",
                key=key,
                split=assign_split(text, turn.session_id, turn.user_key, shares=config.shares),
                kind=human,
                timestamp_ms=turn.timestamp_ms,
                session_id=turn.session_id,
                user_key=turn.user_key,
            )
            yield _Query(
                candidate=candidate,
                text=text,
                documents=documents,
                ranked={one.chunk_id: one.retrieval_rank for one in turn.candidates},
                release_bundle=turn.release_bundle,
                trace_id=turn.trace_id,
            )


def _passages(
    query: _Query,
    ranked: Mapping[str, int],
    chunks: Mapping[str, Chunk],
    chunks_of: Mapping[str, list[Chunk]],
    config: RankingDatasetConfig,
) -> list[_Passage] | str:
    """Return the passages of a query in the retriever's order, or why there are none."""
    found = sorted((rank, chunk_id) for chunk_id, rank in ranked.items() if chunk_id in chunks)
    positives = [
        _Passage(chunks[chunk_id], 1.0, rank)
        for rank, chunk_id in found
        if chunks[chunk_id].document_id in query.documents
    ]
    if not positives:
        behind = max(ranked.values(), default=0) + 1
        options = [chunk for document in sorted(query.documents) for chunk in chunks_of.get(document, ())]
        if not options:
            return "relevant document is not in the index"
        best = min(options, key=lambda one: (-_overlap(query.text, one), one.document_id, one.position))
        positives = [_Passage(best, 1.0, behind)]
    answers = {passage.chunk.content_hash for passage in positives}
    negatives = [
        _Passage(chunks[chunk_id], 0.0, rank)
        for rank, chunk_id in found
        # The same words in another document answer as well: no negative.
        if chunks[chunk_id].document_id not in query.documents and chunks[chunk_id].content_hash not in answers
    ]
    if not negatives:
        return "no other passage to tell the relevant one from"
    if query.candidate.split == "train":
        negatives = negatives[: config.train_negatives]
    return sorted([*positives, *negatives], key=lambda one: (one.rank, one.chunk.chunk_id))


def _overlap(query: str, chunk: Chunk) -> float:
    return word_overlap(query, f"{chunk.title} {chunk.text}")


def _ranks_of(hits: Sequence[Hit]) -> dict[str, int]:
    ranks: dict[str, int] = {}
    for rank, hit in enumerate(hits, start=1):
        ranks.setdefault(hit.chunk_id, rank)
    return ranks


def _row(query: _Query, passage: _Passage, text: str) -> dict[str, object]:
    candidate = query.candidate
    return {
        "example_id": candidate.example_id,
        "query": query.text,
        "chunk_id": passage.chunk.chunk_id,
        "document_id": passage.chunk.document_id,
        "passage": text,
        "relevance": passage.relevance,
        "first_stage_rank": passage.rank,
        "split": candidate.split,
        "label_kind": candidate.kind,
        "source_trace_id": query.trace_id,
        "release_bundle": query.release_bundle,
        "session_id": candidate.session_id,
        "user_key": candidate.user_key,
        "timestamp_ms": candidate.timestamp_ms if query.trace_id is not None else None,
    }


def _redacted(text: str, vocabulary: Vocabulary | None) -> str:
    return redact(text, vocabulary=vocabulary).text
