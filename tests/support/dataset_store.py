"""A store with what datasets are built from: knowledge, corpus, reviewed turns and labels of two bundles."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from mangaassist_assets.core.bundles import TURNS_CARD_FILE
from mangaassist_assets.core.codecs import to_parquet
from mangaassist_assets.core.snapshots import Snapshot, SnapshotStore, canonical_json
from mangaassist_assets.datasets.building.intent_dataset import DEFAULT_INTENT_DATASET
from mangaassist_assets.datasets.building.intent_versions import build_intent_version
from mangaassist_assets.datasets.building.ranking_versions import build_ranking_version
from mangaassist_assets.datasets.building.reranker_dataset import RankingDatasetConfig
from mangaassist_assets.datasets.building.splits import assign_split
from mangaassist_assets.datasets.sources.training_corpus import CORPUS_FILE, corpus_to_json
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.datasets.versions.stored_versions import StoredVersion, find_version, version_files
from mangaassist_assets.datasets.versions.versions import DatasetVersion
from mangaassist_assets.labelling.intent_labels import (
    CONFLICTS_FILE,
    LABELS_FILE,
    IntentLabel,
    LabelConflict,
    LabelKind,
    labels_to_parquet,
)
from mangaassist_assets.labelling.stored_labels import REPORT_FILE
from mangaassist_assets.privacy import pseudonym
from mangaassist_assets.retrieval.chunking import chunks_to_parquet, embedding_text
from mangaassist_assets.retrieval.stored_knowledge import CHUNKS_FILE, VOCABULARY_FILE
from mangaassist_assets.retrieval.tenants import TenantScope
from mangaassist_assets.retrieval.types import Chunk, Hit
from mangaassist_assets.tracing.contract.turns import ChatTurn, RankedCandidate
from mangaassist_assets.tracing.ingestion.stored_turns import TURNS_FILE
from tests.support.turn_frames import turns_frame

EARLIER, BUNDLE, LATER = "2026.01.05-rc1", "2026.01.12-rc1", "2026.01.19-rc1"
START_MS = {EARLIER: 1_767_571_200_000, BUNDLE: 1_768_176_000_000, LATER: 1_768_780_800_000}
TEXTS = {
    "returns.md": "unread books come back within thirty days and the money is refunded",
    "shipping.md": "postage costs four euros and large orders are delivered free",
    "hours.md": "the shop opens at ten in the morning and closes at eight",
    "wrapping.md": "any present is wrapped in patterned paper with a ribbon",
    "signings.md": "artists sign their volumes on saturdays and a ticket is needed",
    "points.md": "loyal readers collect stamps that pay for a later purchase",
}
QUESTIONS = (
    "can this novel go back to you",
    "how much is postage abroad",
    "when does your place open",
    "please pack it as a present",
    "who signs on saturday",
    "what do the stamps pay for",
)


def write_version(store: SnapshotStore, asset: str, version: DatasetVersion, *, partition: str) -> Snapshot:
    """Store a version as the latest of its bundle."""
    return store.write(asset, version_files(store, asset, version), partition=partition)


def user_on(side: str, number: int = 0) -> str:
    """Return the pseudonym of an invented shopper whose messages are on a side."""
    names = (pseudonym(f"shopper-{count}", b"key") for count in range(1_000))
    return [name for name in names if assign_split("", None, name) == side][number]


def knowledge(*, volumes: int = 0) -> list[Chunk]:
    """Return one passage for each document, and one for each of so many volumes of an invented series."""
    texts = {
        **TEXTS,
        **{f"volume-{number}.md": f"volume {number} is number {number * 37}" for number in range(volumes)},
    }
    return [
        Chunk(
            chunk_id=f"{name}::0",
            document_id=name,
            position=0,
            title=name.removesuffix(".md"),
            text=text,
            content_hash=hashlib.sha256(embedding_text(name, text).encode()).hexdigest(),
        )
        for name, text in texts.items()
    ]


def reviewed_turn(number: int, *, bundle: str, user: str | None) -> ChatTurn:
    documents = list(TEXTS)
    shown = documents[number % 6 :] + documents[: number % 6]
    return ChatTurn(
        trace_id=f"tr-{bundle}-{number}",
        timestamp_ms=START_MS[bundle] + 60_000 * number,
        duration_ms=5,
        state="OK",
        release_bundle=bundle,
        session_id=f"s-{bundle}-{number}",
        message=f"{QUESTIONS[number % 6]} {'abcdefgh'[number % 8] * 2}",
        user_key=user,
        candidates=tuple(
            RankedCandidate(chunk_id=f"{name}::0", document_id=name, retrieval_rank=rank, retrieval_score=1.0 / rank)
            for rank, name in enumerate(shown[:4], start=1)
        ),
        expected_documents=(documents[(number + 1) % 6],),
    )


def put_turns(store: SnapshotStore, bundle: str, turns: Sequence[ChatTurn]) -> None:
    """Store the turns of a bundle as `tagged_traces` does."""
    card = {"turns": len(turns), "first_timestamp_ms": min((one.timestamp_ms for one in turns), default=None)}
    store.write(
        "tagged_traces",
        {TURNS_FILE: to_parquet(turns_frame(turns)), TURNS_CARD_FILE: canonical_json(card)},
        partition=bundle,
    )


def put_knowledge(store: SnapshotStore, chunks: Sequence[Chunk]) -> None:
    """Store chunks as `knowledge_chunks` does."""
    store.write("knowledge_chunks", {CHUNKS_FILE: chunks_to_parquet(chunks), VOCABULARY_FILE: canonical_json([])})


def fill(store: SnapshotStore) -> None:
    """Store knowledge, corpus and the turns of two bundles; each shopper reviewed a few."""
    put_knowledge(store, knowledge())
    corpus = [
        Utterance(text=f"tell me of {name}", intent=f"intent_{number % 2}", relevant_documents=(name,))
        for number, name in enumerate(TEXTS)
    ]
    store.write("training_corpus", {CORPUS_FILE: corpus_to_json(corpus)})
    for bundle in (EARLIER, BUNDLE):
        users = [user_on("train"), user_on("train", 1), user_on("test"), None]
        turns = [reviewed_turn(number, bundle=bundle, user=users[number % 4]) for number in range(8)]
        put_turns(store, bundle, turns)


def word_search(chunks: Sequence[Chunk]) -> Callable[[Sequence[str]], Callable[[str, TenantScope], list[Hit]]]:
    """Return a first stage that finds passages by shared words."""

    def search(query: str, scope: TenantScope) -> list[Hit]:
        words = set(query.split())
        admitted = [one for one in chunks if scope.admits(one.tenant)]
        order = sorted(admitted, key=lambda one: (-len(words & set(one.text.split())), one.chunk_id))
        return [
            Hit(chunk_id=one.chunk_id, document_id=one.document_id, title=one.title, text=one.text, score=1.0)
            for one in order[:3]
        ]

    return lambda _: search


def build(store: SnapshotStore, bundle: str, **options: object) -> DatasetVersion:
    """Build the ranking dataset of a bundle on the knowledge as it is."""
    config = RankingDatasetConfig(**{"random_negatives": 1, **options})  # type: ignore[arg-type]
    return build_ranking_version(
        store, bundle, search_for=word_search(knowledge()), config=config, settings={"index_generation": "kb-1"}
    )


def put_dataset(store: SnapshotStore, bundle: str, **options: object) -> StoredVersion:
    """Build and store the ranking dataset of a bundle as its asset does."""
    built = build(store, bundle, **options)
    write_version(store, "reranker_dataset", built, partition=bundle)
    return find_version(store, built.card.version)


def put_labels(
    store: SnapshotStore,
    bundle: str,
    labels: Sequence[IntentLabel],
    *,
    conflicts: Sequence[LabelConflict] = (),
    **report: Sequence[str],
) -> None:
    """Store labels of a bundle as `intent_labels` does; `report` says who is listed, confirmed and held back."""
    files = {
        LABELS_FILE: labels_to_parquet(labels),
        CONFLICTS_FILE: canonical_json(conflicts),
        REPORT_FILE: canonical_json(report),
    }
    store.write("intent_labels", files, partition=bundle)


def label_of(turn: ChatTurn, *, sources: Sequence[str] = (), kind: LabelKind = "human") -> IntentLabel:
    """Return a label of a turn's message, given a minute after it was written."""
    return IntentLabel(
        trace_id=turn.trace_id,
        text=turn.learnable_text,
        intent=f"intent_{QUESTIONS.index(turn.message[:-3]) % 2}",
        kind=kind,
        confidence=1.0 if kind == "human" else 0.8,
        sources=tuple(sources) or (turn.trace_id,),
        release_bundle=turn.release_bundle,
        session_id=turn.session_id,
        user_key=turn.user_key,
        timestamp_ms=turn.timestamp_ms,
        labeller="reviewer" if kind == "human" else "cluster-1",
        labelled_ms=turn.timestamp_ms + 60_000,
    )


def put_intents(store: SnapshotStore, bundle: str) -> StoredVersion:
    """Build and store the intent dataset of a bundle as its asset does."""
    built = build_intent_version(store, bundle, config=DEFAULT_INTENT_DATASET)
    write_version(store, "intent_dataset", built, partition=bundle)
    return find_version(store, built.card.version)
