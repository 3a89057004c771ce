"""The reranker dataset: queries with passages that answer them and passages the retriever put beside those.

A reviewed turn brings the candidates that the shopper's answer was made of; the live index gives what would be found
now; a few random passages are drawn besides (`passages`). Train has all three. Validation and test have the
first stage's list as it is, whole and without random ones, for that is what a reranker gets to see: the turn's own
list, or the live index's where the turn's is gone with an older generation of the knowledge.

A reviewer names documents, the reranker sees chunks: of an expected document those chunks count that the retriever
brought up, and if it brought up none, the one chunk that shares most words with the query. In train that one is ranked
behind all candidates, where no expected document is among them. In validation and test the retriever *missed* it: its
row has no first-stage rank, nothing gets to order it, and it counts in what an ideal ranking would have.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import polars as pl

from mangaassist_assets.datasets.building.built_dataset import BuiltDataset, DatasetConfig, refuse_empty
from mangaassist_assets.datasets.building.passages import (
    DEFAULT_GUARD,
    FalseNegativeGuard,
    NegativeKind,
    PassageChoice,
    PassagePool,
)
from mangaassist_assets.datasets.building.reviewed_queries import KnownQuery, base_queries, reviewed_queries
from mangaassist_assets.datasets.building.selection import select
from mangaassist_assets.datasets.guards.leakage import NO_HOLDOUT_HISTORY, HoldoutHistory
from mangaassist_assets.datasets.guards.redaction_pass import RedactionPass
from mangaassist_assets.datasets.schema import CORPUS, DECLARED_SAMPLE, RANKING_SCHEMA
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.datasets.versions.data_card import Provenance
from mangaassist_assets.labelling.intent_labels import LabelConflict
from mangaassist_assets.labelling.queue.stored_queue import ReviewQueue
from mangaassist_assets.retrieval.chunking import embedding_text
from mangaassist_assets.retrieval.tenants import TenantScope
from mangaassist_assets.retrieval.types import Chunk, Hit
from mangaassist_assets.tracing.contract.turns import ChatTurn


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingDatasetConfig(DatasetConfig):
    """Sides, caps, and how many wrong passages a training query has: hard ones, best ranked first, and random ones.

    `base_is_sample` says that the bootstrap utterances were declared to be a random sample of traffic. Only what
    `reviewers` named counts, what everybody did where there are none.
    """

    train_negatives: int = 15
    random_negatives: int = 2
    base_is_sample: bool = False
    reviewers: tuple[str, ...] = ()
    guard: FalseNegativeGuard = DEFAULT_GUARD

    def __post_init__(self) -> None:
        if self.train_negatives < 1 or self.random_negatives < 0:
            raise ValueError(
                f"a training query needs one hard negative or more, and no less than 0 random ones: got "
                f"train_negatives={self.train_negatives}, random_negatives={self.random_negatives}"
            )


DEFAULT_RANKING_DATASET = RankingDatasetConfig()


def build_ranking_dataset(
    base: Sequence[Utterance],
    turns: Sequence[ChatTurn],
    *,
    chunks: Mapping[str, Chunk],
    search: Callable[[str, TenantScope], Sequence[Hit]],
    queues: Mapping[str, ReviewQueue] | None = None,
    golden_texts: Sequence[str] = (),
    holdout_history: HoldoutHistory = NO_HOLDOUT_HISTORY,
    config: RankingDatasetConfig = DEFAULT_RANKING_DATASET,
    progress: Callable[[int, int], None] | None = None,
) -> BuiltDataset:
    """Make ranking examples of reviewed turns and of bootstrap utterances that name relevant documents.

    The rows are under `RANKING_SCHEMA`, one per query and passage; `negative_kind` is null for an answer, and
    `first_stage_rank` for one that the retriever missed. A passage is the text that the reranker sees when serving:
    title and text of its chunk.

    Args:
        base: bootstrap utterances; those without relevant documents are left out. They have no retrieval of their
            own: `search` gives it.
        turns: turns of this bundle and those before; those without reviewed documents are left out.
        chunks: all chunks of the index generation by id; candidates of older generations are left out.
        search: the first stage on the live index for one query in the scope of its shopper, best first, as deep as in
            production.
        queues: the review queues of the turns' bundles, as far as they had one.
        golden_texts: queries that must not be in it.
        holdout_history: what earlier versions were tested on, which must not be trained on.
        config: sides, caps, sizes.
        progress: called with how many of how many queries are done.

    Raises:
        EmptyDatasetError: no query is left in train.
    """
    excluded: Counter[str] = Counter()
    conflicts: list[LabelConflict] = []
    redaction = RedactionPass(config.vocabulary)
    shares = config.shares
    queries = [
        *base_queries(base, excluded, clean=redaction.clean, shares=shares),
        *reviewed_queries(
            turns,
            excluded,
            conflicts,
            clean=redaction.clean,
            shares=shares,
            as_of_ms=config.as_of_ms,
            queues=queues,
        ),
    ]
    chosen = select(
        [query.candidate for query in queries],
        caps=config.caps,
        golden_texts=golden_texts,
        holdout_history=holdout_history,
    )
    excluded.update(chosen.excluded)
    kept = _standing_for_copies(queries, chosen.kept)
    searches: dict[tuple[str, str | None], tuple[str, ...]] = {}

    def live(query: KnownQuery) -> tuple[str, ...]:
        asked = query.text, query.scope.tenant
        if asked not in searches:
            searches[asked] = tuple(dict.fromkeys(hit.chunk_id for hit in search(query.text, query.scope)))
        return searches[asked]

    choice = PassageChoice(
        PassagePool(chunks, guard=config.guard),
        live=live,
        train_negatives=config.train_negatives,
        random_negatives=config.random_negatives,
    )
    base_origin = DECLARED_SAMPLE if config.base_is_sample else CORPUS
    rows: list[dict[str, object]] = []
    for number, query in enumerate(kept, start=1):
        passages = choice.passages(query)
        if isinstance(passages, str):
            excluded[passages] += 1
        else:
            ranked: list[tuple[Chunk, NegativeKind | None, int | None]] = [
                (one.chunk, one.negative_kind, one.rank) for one in passages.listed
            ]
            ranked += [(chunk, None, None) for chunk in passages.missed]
            rows += [_row(query, redaction, base_origin, *one) for one in ranked]
        if progress is not None:
            progress(number, len(kept))
    frame = pl.DataFrame(rows, schema=RANKING_SCHEMA).sort(
        "example_id", "first_stage_rank", "chunk_id", nulls_last=True
    )
    refuse_empty(frame, excluded, example="query", of=f"{len(base)} bootstrap messages and {len(turns)} turns")
    return BuiltDataset(
        rows=frame,
        provenance=Provenance(
            kind="ranking",
            as_of_ms=config.as_of_ms,
            excluded=+excluded,
            passages_left_out=choice.left_out,
            conflicts=tuple(conflicts),
            notes=_misses(frame),
            redaction=redaction.report([*frame["query"].unique(), *frame["passage"].unique()]),
            settings=config.settings(),
        ),
        searches=searches,
    )


def _standing_for_copies(queries: Sequence[KnownQuery], kept: Collection[str]) -> list[KnownQuery]:
    """Return the queries that are kept; one that people reviewed stands for the turns of its copies too."""
    copies: defaultdict[tuple[str, str | None], list[KnownQuery]] = defaultdict(list)
    for query in queries:
        copies[query.candidate.key, query.tenant].append(query)
    standing = []
    for query in queries:
        if query.candidate.example_id not in kept:
            continue
        same = copies[query.candidate.key, query.tenant]
        others = [one.origin for one in same if one is not query and one.origin is not None]
        alone = sum(one.candidate.example_id in kept for one in same) == 1
        if query.origin is not None and alone:
            query = replace(query, origin=query.origin.with_copies(others))  # noqa: PLW2901
        standing.append(query)
    return standing


def _misses(frame: pl.DataFrame) -> tuple[str, ...]:
    """Say of each side that the retriever's lists are on how many queries have no relevant passage among them."""
    found = (pl.col("relevance") > 0) & pl.col("first_stage_rank").is_not_null()
    by_side = frame.group_by("split", "example_id").agg(found.any().alias("found"))
    notes = []
    for side in ("validation", "test"):
        queries = by_side.filter(pl.col("split") == side)
        if missed := len(queries) - int(queries["found"].sum()):
            notes.append(
                f"the retriever found no relevant passage for {missed} of {len(queries)} queries of {side}: "
                "no reranker can help those"
            )
    return tuple(notes)


def _row(
    query: KnownQuery,
    redaction: RedactionPass,
    base_origin: str,
    chunk: Chunk,
    negative_kind: NegativeKind | None,
    rank: int | None,
) -> dict[str, object]:
    candidate = query.candidate
    return {
        "example_id": candidate.example_id,
        "query": query.text,
        "chunk_id": chunk.chunk_id,
        "document_id": chunk.document_id,
        "passage": redaction.clean(embedding_text(chunk.title, chunk.text)),
        "relevance": 1.0 if negative_kind is None else 0.0,
        "negative_kind": negative_kind,
        "first_stage_rank": rank,
        "split": candidate.split,
        "label_kind": candidate.kind,
        "source_trace_id": query.trace_id,
        "release_bundle": query.release_bundle,
        "session_id": candidate.session_id,
        "user_key": candidate.user_key,
        "timestamp_ms": candidate.timestamp_ms if query.trace_id is not None else None,
        "tenant": query.tenant,
        **({"origin": base_origin} if query.origin is None else asdict(query.origin)),
    }
