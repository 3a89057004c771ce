"""How a ranking dataset is put together from the store and the first stage of retrieval, now or as it was."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from mangaassist_assets.core.bundles import bundles_until
from mangaassist_assets.core.declared_inputs import StepStore
from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.building.built_dataset import BuiltDataset
from mangaassist_assets.datasets.building.declared_reads import RANKING_DATASET_READS
from mangaassist_assets.datasets.building.recorded_searches import SEARCHES_FILE, SearchFor, searches_to_parquet
from mangaassist_assets.datasets.building.reranker_dataset import (
    DEFAULT_RANKING_DATASET,
    RankingDatasetConfig,
    build_ranking_dataset,
)
from mangaassist_assets.datasets.building.reviewed_queries import newest_review_ms
from mangaassist_assets.datasets.guards.leakage import (
    NO_HOLDOUT_HISTORY,
    HoldoutHistory,
    find_leaks,
    holdout_history_of,
    refuse_leaks,
)
from mangaassist_assets.datasets.sources.golden_set import read_golden
from mangaassist_assets.datasets.sources.training_corpus import is_traffic_sample, read_corpus
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.datasets.versions.stored_versions import earlier_versions
from mangaassist_assets.datasets.versions.versions import DatasetVersion, to_parquet
from mangaassist_assets.labelling.people.policy import LabellingPolicy, heard_turns
from mangaassist_assets.labelling.queue.stored_queue import ReviewQueue, read_queue
from mangaassist_assets.privacy import Vocabulary
from mangaassist_assets.retrieval.knowledge_chunks import store_phrases
from mangaassist_assets.retrieval.stored_knowledge import read_chunks
from mangaassist_assets.retrieval.types import Chunk
from mangaassist_assets.tracing.contract.turns import ChatTurn
from mangaassist_assets.tracing.erasure import erased_users
from mangaassist_assets.tracing.ingestion.stored_turns import read_turn_frame, read_turns

MAX_TITLE_QUERIES = 200
_NOTES = {
    "corpus": (),
    "titles": ("the corpus names no relevant documents: titles of the knowledge stand in as queries",),
}


def build_ranking_version(
    snapshots: SnapshotStore,
    bundle: str,
    *,
    search_for: SearchFor,
    config: RankingDatasetConfig,
    settings: Mapping[str, Any],
    progress: Callable[[int, int], None] | None = None,
) -> DatasetVersion:
    """Build the ranking dataset of a bundle out of the store: the same snapshots and searches, the same bytes.

    Args:
        snapshots: the store, or one that is pinned to what was the latest once.
        bundle: the release bundle; turns of this one and those before are in it.
        search_for: given the queries that will be asked, returns the first stage.
        config: sides, caps, sizes; an `as_of_ms` of None becomes the time of the newest review.
        settings: what the first stage is, for the card.
        progress: called with how many of how many queries are done.

    Raises:
        EmptyDatasetError: no query is left in train.
        LeakageError: what was built leaks all the same; names the examples.
    """
    reads = StepStore(snapshots, RANKING_DATASET_READS, output="reranker_dataset", bundle=bundle)
    included = bundles_until(reads, bundle)
    erased = erased_users(snapshots)
    turns = heard_turns(_reviewed_turns(reads, included, erased), LabellingPolicy(reviewers=config.reviewers))
    if config.as_of_ms is None:
        # Where nobody reviewed anything, the newest turn tells the time.
        newest_ms = newest_review_ms(turns) if turns else _newest_ms(reads, included, erased)
        config = replace(config, as_of_ms=newest_ms)
    config = replace(config, base_is_sample=is_traffic_sample(reads))
    base, base_source = _base_queries(read_corpus(reads), chunks := read_chunks(reads))
    golden = read_golden(reads)
    earlier = earlier_versions(reads, "reranker_dataset", bundle, as_of_ms=config.as_of_ms)
    dataset = _ranking_dataset(
        base,
        turns,
        chunks,
        search_for=search_for,
        queues=_queues(reads, included),
        golden_texts=golden,
        holdout_history=holdout_history_of(earlier, text_column="query"),
        config=config,
        progress=progress,
    )
    refuse_leaks(
        find_leaks(dataset.rows, text_column="query", golden=golden, earlier=earlier, as_of_ms=config.as_of_ms)
    )
    version = dataset.seal(
        as_of=bundle,
        notes=[*_NOTES[base_source], *([] if golden else ["there is no golden set"])],
        inputs=reads.inputs(own_rows=to_parquet(dataset.rows)),
        settings=settings,
        base_source=base_source,
    )
    return replace(version, other_files={SEARCHES_FILE: searches_to_parquet(dataset.searches)})


def first_ranking_version(snapshots: SnapshotStore, *, search_for: SearchFor) -> DatasetVersion:
    """Seal the ranking dataset of the bootstrap: the corpus alone, of no bundle.

    Raises:
        EmptyDatasetError: no query is left in train.
    """
    base, base_source = _base_queries(read_corpus(snapshots), chunks := read_chunks(snapshots))
    dataset = _ranking_dataset(base, [], chunks, search_for=search_for, golden_texts=read_golden(snapshots))
    return dataset.seal(notes=_NOTES[base_source], base_source=base_source)


def _reviewed_turns(store: SnapshotStore, bundles: Sequence[str], erased: Collection[str]) -> list[ChatTurn]:
    """Return every copy of a turn of which people named documents, the oldest bundle first.

    A trace that moved is in two bundles, and its newest copy counts, also where that is not reviewed.
    """
    documents = pl.col("expected_documents").list.len() > 0
    ids = {
        trace_id
        for bundle in bundles
        for trace_id in read_turn_frame(store, bundle, columns=["trace_id"], where=documents & _of_others(erased))[
            "trace_id"
        ]
    }
    copies = pl.col("trace_id").is_in(list(ids)) & _of_others(erased)
    return [turn for bundle in bundles for turn in read_turns(store, bundle, copies)]


def _queues(store: SnapshotStore, bundles: Sequence[str]) -> dict[str, ReviewQueue]:
    found = ((bundle, read_queue(store, bundle)) for bundle in bundles)
    return {bundle: queue for bundle, queue in found if queue is not None}


def _newest_ms(store: SnapshotStore, bundles: Sequence[str], erased: Collection[str]) -> int | None:
    frames = (read_turn_frame(store, one, columns=["timestamp_ms"], where=_of_others(erased)) for one in bundles)
    return max((started for frame in frames for started in frame["timestamp_ms"]), default=None)


def _of_others(erased: Collection[str]) -> pl.Expr:
    return ~pl.col("user_key").is_in(sorted(erased)).fill_null(value=False)


def _ranking_dataset(
    base: Sequence[Utterance],
    turns: Sequence[ChatTurn],
    chunks: Sequence[Chunk],
    *,
    search_for: SearchFor,
    queues: Mapping[str, ReviewQueue] | None = None,
    golden_texts: Sequence[str],
    holdout_history: HoldoutHistory = NO_HOLDOUT_HISTORY,
    config: RankingDatasetConfig = DEFAULT_RANKING_DATASET,
    progress: Callable[[int, int], None] | None = None,
) -> BuiltDataset:
    queries = [one.text for one in base if one.relevant_documents]
    queries += [turn.learnable_text for turn in turns if turn.expected_documents]
    return build_ranking_dataset(
        base,
        turns,
        chunks={chunk.chunk_id: chunk for chunk in chunks},
        search=search_for(list(dict.fromkeys(queries))),
        queues=queues,
        golden_texts=golden_texts,
        holdout_history=holdout_history,
        config=replace(config, vocabulary=Vocabulary(store_phrases(chunks))),
        progress=progress,
    )


def _base_queries(corpus: Sequence[Utterance], chunks: Sequence[Chunk]) -> tuple[Sequence[Utterance], str]:
    """Return the queries to begin with, and where they are from.

    A corpus that names no relevant documents is replaced by the knowledge's own titles, each asking for its text.
    """
    named = any(one.relevant_documents for one in corpus)
    return (corpus, "corpus") if named else (title_queries(chunks), "titles")


def title_queries(chunks: Sequence[Chunk]) -> list[Utterance]:
    """Return at most `MAX_TITLE_QUERIES` titles as queries for their own documents, spread evenly over the knowledge.

    Weak supervision, but in the store's own words.
    """
    documents: dict[tuple[str, str], set[str]] = {}
    for chunk in chunks:
        if chunk.title.strip():
            documents.setdefault((chunk.title, chunk.tenant or ""), set()).add(chunk.document_id)
    step = max(1, len(documents) // MAX_TITLE_QUERIES)
    return [
        Utterance(text=title, relevant_documents=tuple(sorted(documents[title, tenant])), tenant=tenant or None)
        for title, tenant in sorted(documents)[::step][:MAX_TITLE_QUERIES]
    ]
