"""The reranker dataset: queries with passages that answer them and passages the retriever put beside those.

A reviewed turn brings the candidates that the shopper's answer was made of; the live index gives what would be found
now; a few random passages are drawn besides (`hard_negatives`). Train has all three. Validation and test have the
first stage's list as it is, whole and without random ones, for that is what a reranker gets to see: the turn's own
list, or the live index's where the turn's is gone with an older generation of the knowledge.

A reviewer names documents, the reranker sees chunks: of an expected document those chunks count that the retriever
brought up, and if it brought up none, the one chunk that shares most words with the query, ranked behind all
candidates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

from mangaassist_assets.datasets.building.hard_negatives import DEFAULT_GUARD, FalseNegativeGuard, PassagePool
from mangaassist_assets.datasets.building.intent_dataset import EmptyDatasetError
from mangaassist_assets.datasets.building.passages import Passage, PassageChoice, scope_of
from mangaassist_assets.datasets.building.reviewed_queries import KnownQuery, base_queries, reviewed_queries
from mangaassist_assets.datasets.building.selection import select
from mangaassist_assets.datasets.building.splits import DEFAULT_SHARES, SplitShares
from mangaassist_assets.datasets.guards.holdout_history import NO_HOLDOUT_HISTORY, HoldoutHistory
from mangaassist_assets.datasets.guards.limits import Caps
from mangaassist_assets.datasets.guards.redaction_pass import RedactionPass, RedactionReport
from mangaassist_assets.datasets.schema import RANKING_SCHEMA
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.datasets.versions.versions import DatasetVersion, seal_version
from mangaassist_assets.labelling.intent_labels import LabelConflict
from mangaassist_assets.privacy import Vocabulary
from mangaassist_assets.retrieval.tenants import TenantScope
from mangaassist_assets.retrieval.types import Chunk, Hit
from mangaassist_assets.tracing.contract.turns import ChatTurn


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingDatasetConfig:
    """Sides, caps, and how many wrong passages a training query has: hard ones, the best ranked first, and random ones.

    `vocabulary` are the store's own words, which are no personal data. Nothing written after `as_of_ms` counts.
    """

    shares: SplitShares = DEFAULT_SHARES
    caps: Caps = field(default_factory=Caps)
    train_negatives: int = 15
    random_negatives: int = 2
    guard: FalseNegativeGuard = DEFAULT_GUARD
    vocabulary: Vocabulary | None = None
    as_of_ms: int | None = None

    def __post_init__(self) -> None:
        """Refuse fewer than one hard negative, and a negative number of random ones."""
        if self.train_negatives < 1 or self.random_negatives < 0:
            raise ValueError(
                f"a training query needs one hard negative or more, and no less than 0 random ones: got "
                f"train_negatives={self.train_negatives}, random_negatives={self.random_negatives}"
            )

    def settings(self) -> dict[str, Any]:
        """Return what decides the rows besides the inputs, as JSON values."""
        return {
            "shares": asdict(self.shares),
            "caps": asdict(self.caps),
            "train_negatives": self.train_negatives,
            "random_negatives": self.random_negatives,
            "guard": asdict(self.guard),
        }

    @staticmethod
    def from_settings(settings: Mapping[str, Any], *, as_of_ms: int | None) -> RankingDatasetConfig:
        """Return the configuration that a data card records; the vocabulary comes from the knowledge."""
        return RankingDatasetConfig(
            shares=SplitShares(**settings["shares"]),
            caps=Caps(**settings["caps"]),
            train_negatives=settings["train_negatives"],
            random_negatives=settings["random_negatives"],
            guard=FalseNegativeGuard(**settings["guard"]),
            as_of_ms=as_of_ms,
        )


DEFAULT_RANKING_DATASET = RankingDatasetConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingDataset:
    """Rows under `RANKING_SCHEMA`, one per query and passage, what was left out and why, and contradicting reviews.

    `negative_kind` of a row is null for an answer. `passages_left_out` counts by reason what is neither right nor
    wrong. `searches` is what the live index found: query and tenant -> chunk ids, best first; with it in place of the
    index the same dataset is made again.
    """

    rows: pl.DataFrame
    excluded: Mapping[str, int]
    conflicts: tuple[LabelConflict, ...] = ()
    passages_left_out: Mapping[str, int] = field(default_factory=dict)
    searches: Mapping[tuple[str, str | None], tuple[str, ...]] = field(default_factory=dict)
    redaction: RedactionReport | None = None
    config: RankingDatasetConfig = DEFAULT_RANKING_DATASET

    def seal(
        self,
        *,
        as_of: str | None = None,
        notes: Sequence[str] = (),
        inputs: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        base_source: str = "corpus",
    ) -> DatasetVersion:
        """Return the immutable version with its data card; `settings` are added to the configuration's own."""
        return seal_version(
            self.rows,
            kind="ranking",
            excluded=self.excluded,
            conflicts=self.conflicts,
            as_of=as_of,
            notes=notes,
            as_of_ms=self.config.as_of_ms,
            inputs=inputs,
            settings={**self.config.settings(), **(settings or {})},
            redaction=self.redaction,
            passages_left_out=self.passages_left_out,
            base_source=base_source,
        )


def build_ranking_dataset(
    base: Sequence[Utterance],
    turns: Sequence[ChatTurn],
    *,
    chunks: Mapping[str, Chunk],
    search: Callable[[str, TenantScope], Sequence[Hit]],
    golden_texts: Sequence[str] = (),
    holdout_history: HoldoutHistory = NO_HOLDOUT_HISTORY,
    passage_of: Callable[[Chunk], str] = lambda chunk: chunk.text,
    config: RankingDatasetConfig = DEFAULT_RANKING_DATASET,
    progress: Callable[[int, int], None] | None = None,
) -> RankingDataset:
    """Make ranking examples of reviewed turns and of bootstrap utterances that name relevant documents.

    Args:
        base: bootstrap utterances; those without relevant documents are left out. They have no retrieval of their
            own: `search` gives it.
        turns: turns of this bundle and those before; those without reviewed documents are left out.
        chunks: all chunks of the index generation by id; candidates of older generations are left out.
        search: the first stage on the live index for one query in the scope of its shopper, best first, as deep as in
            production.
        golden_texts: queries that must not be in it.
        holdout_history: what earlier versions were tested on, which must not be trained on.
        passage_of: the text of a chunk as the reranker sees it when serving.
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
        *reviewed_queries(turns, excluded, conflicts, clean=redaction.clean, shares=shares, as_of_ms=config.as_of_ms),
    ]
    chosen = select(
        [query.candidate for query in queries],
        caps=config.caps,
        golden_texts=golden_texts,
        holdout_history=holdout_history,
    )
    excluded.update(chosen.excluded)
    kept = [query for query in queries if query.candidate.example_id in chosen.kept]
    searches: dict[tuple[str, str | None], tuple[str, ...]] = {}

    def live(query: KnownQuery) -> tuple[str, ...]:
        scope = scope_of(query)
        asked = query.text, scope.tenant
        if asked not in searches:
            found = search(query.text, scope)
            searches[asked] = tuple(dict.fromkeys(hit.chunk_id for hit in found))
        return searches[asked]

    choice = PassageChoice(
        PassagePool(chunks, guard=config.guard),
        live=live,
        train_negatives=config.train_negatives,
        random_negatives=config.random_negatives,
    )
    rows: list[dict[str, object]] = []
    for number, query in enumerate(kept, start=1):
        passages = choice.passages(query)
        if isinstance(passages, str):
            excluded[passages] += 1
        else:
            rows.extend(_row(query, one, redaction.clean(passage_of(one.chunk))) for one in passages)
        if progress is not None:
            progress(number, len(kept))
    frame = pl.DataFrame(rows, schema=RANKING_SCHEMA).sort("example_id", "first_stage_rank", "chunk_id")
    counted = {reason: count for reason, count in sorted(excluded.items()) if count}
    if not (frame["split"] == "train").any():
        reasons = ", ".join(f"{count} {reason}" for reason, count in counted.items()) or "none"
        msg = f"no query to train on of {len(base)} bootstrap messages and {len(turns)} turns; left out: {reasons}"
        raise EmptyDatasetError(msg)
    return RankingDataset(
        rows=frame,
        excluded=counted,
        conflicts=tuple(conflicts),
        passages_left_out=choice.left_out,
        searches=dict(sorted(searches.items(), key=lambda item: (item[0][0], item[0][1] or ""))),
        redaction=redaction.report([*frame["query"].unique(), *frame["passage"].unique()]),
        config=config,
    )


def _row(query: KnownQuery, passage: Passage, text: str) -> dict[str, object]:
    candidate = query.candidate
    return {
        "example_id": candidate.example_id,
        "query": query.text,
        "chunk_id": passage.chunk.chunk_id,
        "document_id": passage.chunk.document_id,
        "passage": text,
        "relevance": 1.0 if passage.negative_kind is None else 0.0,
        "negative_kind": passage.negative_kind,
        "first_stage_rank": passage.rank,
        "split": candidate.split,
        "label_kind": candidate.kind,
        "source_trace_id": query.trace_id,
        "release_bundle": query.release_bundle,
        "session_id": candidate.session_id,
        "user_key": candidate.user_key,
        "timestamp_ms": candidate.timestamp_ms if query.trace_id is not None else None,
        "tenant": query.tenant,
    }
