"""How a ranking dataset is put together from the store and the live index, now or as it was."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mangaassist_assets.assets.reading import read_chunks, read_corpus, read_golden, read_turns
from mangaassist_assets.core.bundles import bundles_by_start
from mangaassist_assets.datasets.building.earlier_versions import earlier_versions

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.datasets.building.reranker_dataset import RankingDataset, RankingDatasetConfig
    from mangaassist_assets.datasets.guards.holdout_history import EarlierTests
    from mangaassist_assets.datasets.sources.utterances import Utterance
    from mangaassist_assets.datasets.versions.versions import DatasetVersion
    from mangaassist_assets.retrieval.tenants import TenantScope
    from mangaassist_assets.retrieval.types import Chunk, Hit
    from mangaassist_assets.tracing.contract.turns import ChatTurn
    from resources.aws.app_config import AppConfigResource
    from resources.search.embeddings import EmbeddingsResource
    from resources.search.indexes import SearchResource

MAX_TITLE_QUERIES = 200
SEARCHES_FILE = "searches.parquet"

Search = Callable[[str, "TenantScope"], "Sequence[Hit]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltRanking:
    """A sealed ranking dataset, and the searches it needs to be made again."""

    version: DatasetVersion
    searches: bytes


def build_ranking_version(
    snapshots: SnapshotStore,
    bundle: str,
    *,
    search_for: Callable[[Sequence[str]], Search],
    config: RankingDatasetConfig,
    settings: Mapping[str, Any],
    progress: Callable[[int, int], None] | None = None,
) -> BuiltRanking:
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
    from dataclasses import replace

    from mangaassist_assets.datasets.building.reviewed_queries import newest_review_ms
    from mangaassist_assets.datasets.guards.holdout_history import earlier_tests
    from mangaassist_assets.datasets.guards.leakage import refuse_leaks
    from mangaassist_assets.datasets.versions.recorded_inputs import RecordingStore
    from mangaassist_assets.datasets.versions.versions import to_parquet
    from mangaassist_assets.tracing.erasure import erased_users

    reads = RecordingStore(snapshots)
    starts = bundles_by_start(reads)
    own = starts.get(bundle)
    included = [name for name, start in starts.items() if own is not None and (start, name) <= (own, bundle)]
    erased = erased_users(snapshots)
    turns = [turn for name in included for turn in read_turns(reads, name) if turn.user_key not in erased]
    if config.as_of_ms is None:
        config = replace(config, as_of_ms=newest_review_ms(turns))
    base, base_source = base_of(read_corpus(reads), chunks := read_chunks(reads, tenantless=True))
    golden = read_golden(reads)
    earlier = earlier_versions(reads, "reranker_dataset", bundle, as_of_ms=config.as_of_ms)
    dataset = ranking_dataset(
        base,
        turns,
        chunks,
        search_for=search_for,
        golden_texts=golden,
        tested=earlier_tests(earlier, text_column="query"),
        config=config,
        progress=progress,
    )
    refuse_leaks(dataset.rows, text_column="query", golden=golden, earlier=earlier, as_of_ms=config.as_of_ms)
    version = dataset.seal(
        as_of=bundle,
        notes=[*notes_of(base_source), *([] if golden else ["there is no golden set"])],
        inputs=reads.inputs(bundles=included, own_rows=to_parquet(dataset.rows)),
        settings=settings,
        base_source=base_source,
    )
    return BuiltRanking(version=version, searches=searches_to_parquet(dataset.searches))


def ranking_version(
    corpus: Sequence[Utterance],
    turns: Sequence[ChatTurn],
    chunks: Sequence[Chunk],
    *,
    search: SearchResource,
    embeddings: EmbeddingsResource,
    app_config: AppConfigResource,
    golden_texts: Sequence[str] = (),
    as_of: str | None = None,
) -> DatasetVersion:
    """Seal the ranking dataset of a corpus and reviewed turns; the first stage is the live index."""
    base, base_source = base_of(corpus, chunks)
    dataset = ranking_dataset(
        base,
        turns,
        chunks,
        search_for=live_search(search=search, embeddings=embeddings, app_config=app_config),
        golden_texts=golden_texts,
    )
    return dataset.seal(as_of=as_of, notes=notes_of(base_source), base_source=base_source)


def ranking_dataset(
    base: Sequence[Utterance],
    turns: Sequence[ChatTurn],
    chunks: Sequence[Chunk],
    *,
    search_for: Callable[[Sequence[str]], Search],
    golden_texts: Sequence[str] = (),
    tested: EarlierTests | None = None,
    config: RankingDatasetConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RankingDataset:
    """Build a ranking dataset whose passages and vocabulary are those of the knowledge."""
    from dataclasses import replace

    from mangaassist_assets.datasets.building.reranker_dataset import DEFAULT_RANKING_DATASET, build_ranking_dataset
    from mangaassist_assets.datasets.guards.holdout_history import NO_EARLIER_TESTS
    from mangaassist_assets.privacy import Vocabulary
    from mangaassist_assets.retrieval.chunking import embedding_text
    from mangaassist_assets.retrieval.vocabulary import store_phrases

    asked = [one.text for one in base if one.relevant_documents]
    asked += [turn.learnable_text for turn in turns if turn.expected_documents]
    return build_ranking_dataset(
        base,
        turns,
        chunks={chunk.chunk_id: chunk for chunk in chunks},
        search=search_for(list(dict.fromkeys(asked))),
        golden_texts=golden_texts,
        tested=tested or NO_EARLIER_TESTS,
        passage_of=lambda chunk: embedding_text(chunk.title, chunk.text),
        config=replace(config or DEFAULT_RANKING_DATASET, vocabulary=Vocabulary(store_phrases(chunks))),
        progress=progress,
    )


def live_search(
    *, search: SearchResource, embeddings: EmbeddingsResource, app_config: AppConfigResource
) -> Callable[[Sequence[str]], Search]:
    """Return what prepares the first stage on the live index for queries, which are embedded at once."""
    from mangaassist_assets.retrieval.pipeline import live_pipeline

    def search_for(queries: Sequence[str]) -> Search:
        routing = app_config.configuration().routing().retrieval
        pipeline = live_pipeline(search.index(), embeddings.embedder(), routing, queries=queries)
        return lambda query, scope: [one.hit for one in pipeline.search(query, scope=scope).candidates]

    return search_for


def first_stage_settings(
    *, search: SearchResource, embeddings: EmbeddingsResource, app_config: AppConfigResource
) -> dict[str, Any]:
    """Return what decides the searches of the first stage, for the data card."""
    routing = app_config.configuration().routing()
    return {
        "index_generation": search.index().live_generation(),
        "embedding_model_id": embeddings.embedder().model_id,
        "vector_candidates": routing.vector_candidates,
        "keyword_candidates": routing.keyword_candidates,
        "rerank_candidates": routing.rerank_candidates,
        "vector_weight": routing.vector_weight,
        "keyword_weight": routing.keyword_weight,
    }


def recorded_search(content: bytes) -> Callable[[Sequence[str]], Search]:
    """Return the first stage as it answered when a version was built, out of its `SEARCHES_FILE`."""
    import polars as pl

    from mangaassist_assets.datasets.versions.recorded_inputs import InputGoneError
    from mangaassist_assets.retrieval.types import Hit

    found: dict[tuple[str, str | None], list[Hit]] = {}
    for row in pl.read_parquet(io.BytesIO(content)).sort("query", "rank").iter_rows(named=True):
        hits = found.setdefault((row["query"], row.get("tenant")), [])
        if (chunk_id := row["chunk_id"]) is not None:
            hits.append(Hit(chunk_id=chunk_id, document_id="", title="", text="", score=0.0))

    def search(query: str, scope: TenantScope) -> list[Hit]:
        if (query, scope.tenant) not in found:
            msg = (
                "a query is to be searched for that was not searched for when the version was built: the code that "
                "builds the dataset changed; rebuild with the release of this repository that built it"
            )
            raise InputGoneError(msg)
        return found[query, scope.tenant]

    return lambda _: search


def searches_to_parquet(searches: Mapping[tuple[str, str | None], Sequence[str]]) -> bytes:
    """Return searches as rows of query, rank (from 1; 0 and no chunk where nothing was found), chunk id, and tenant.

    Without any tenant there is no such column: what earlier versions stored comes out as it was.
    """
    import polars as pl

    rows = [
        (query, rank, chunk_id, tenant)
        for (query, tenant), chunk_ids in sorted(searches.items(), key=lambda item: (item[0][0], item[0][1] or ""))
        for rank, chunk_id in (enumerate(chunk_ids, start=1) if chunk_ids else [(0, None)])
    ]
    buffer = io.BytesIO()
    schema = {"query": pl.String, "rank": pl.Int64, "chunk_id": pl.String, "tenant": pl.String}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    if frame["tenant"].is_null().all():
        frame = frame.drop("tenant")
    frame.write_parquet(buffer, compression="zstd", compression_level=3)
    return buffer.getvalue()


def base_of(corpus: Sequence[Utterance], chunks: Sequence[Chunk]) -> tuple[Sequence[Utterance], str]:
    """Return the queries to begin with, and where they are from.

    A corpus that names no relevant documents is replaced by the knowledge's own titles, each asking for its text.
    """
    named = [one for one in corpus if one.relevant_documents]
    return (corpus, "corpus") if named else (title_queries(chunks), "titles")


def notes_of(base_source: str) -> list[str]:
    """Return what the card says of where the queries to begin with are from."""
    if base_source == "corpus":
        return []
    return ["the corpus names no relevant documents: titles of the knowledge stand in as queries"]


def title_queries(chunks: Sequence[Chunk]) -> list[Utterance]:
    """Return at most `MAX_TITLE_QUERIES` titles as queries for their own documents, spread evenly over the knowledge.

    Weak supervision, but in the store's own words.
    """
    from mangaassist_assets.datasets.sources.utterances import Utterance

    documents: dict[tuple[str, str], set[str]] = {}
    for chunk in chunks:
        if chunk.title.strip():
            documents.setdefault((chunk.title, chunk.tenant or ""), set()).add(chunk.document_id)
    step = max(1, len(documents) // MAX_TITLE_QUERIES)
    return [
        Utterance(text=title, relevant_documents=tuple(sorted(documents[title, tenant])), tenant=tenant or None)
        for title, tenant in sorted(documents)[::step][:MAX_TITLE_QUERIES]
    ]
