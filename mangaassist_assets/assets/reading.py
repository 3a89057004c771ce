"""Reading what other assets left in the store: typed values out of snapshots, and the order of release bundles.

The one place that knows which file of which snapshot holds what.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mangaassist_assets.core.bundles import bundles_by_start
from mangaassist_assets.core.snapshots import Snapshot, SnapshotStore, canonical_json

if TYPE_CHECKING:
    import polars as pl

    from mangaassist_assets.datasets.sources.utterances import Utterance
    from mangaassist_assets.datasets.versions.versions import DatasetVersion
    from mangaassist_assets.mining.blame.blame import Blame, FailedTurn
    from mangaassist_assets.mining.blame.signals import Signal
    from mangaassist_assets.mining.tracking.clusters import FailureCluster
    from mangaassist_assets.models.pipelines import ModelPipeline
    from mangaassist_assets.privacy import Vocabulary
    from mangaassist_assets.releases.manifest import LearnedModel
    from mangaassist_assets.releases.promotion import StoredVerdict
    from mangaassist_assets.retrieval.evaluation import LabelledQuery, RetrievalReport
    from mangaassist_assets.retrieval.types import Chunk, Vectors
    from mangaassist_assets.tracing.contract.turns import ChatTurn
    from mangaassist_assets.tracing.feedback.events import FeedbackRecord
    from mangaassist_assets.tracing.ingestion.coverage import TracePresence

TURNS_FILE = "turns.parquet"
QUARANTINE_FILE = "quarantine.parquet"
PRESENCE_FILE = "presence.parquet"
EVENTS_FILE = "events.parquet"
FAILURES_FILE = "failures.json"
RULES_FILE = "rules.json"
CORPUS_FILE = "utterances.json"
GOLDEN_FILE = "golden.json"
CHUNKS_FILE = "chunks.parquet"
VOCABULARY_FILE = "vocabulary.json"
VECTORS_FILE = "vectors.npy"
EMBEDDINGS_CARD_FILE = "card.json"
GENERATION_FILE = "generation.json"
MODEL_FILE = "model.json"
EVALUATION_FILE = "evaluation.json"


def read_turns(store: SnapshotStore, release_bundle: str) -> list[ChatTurn]:
    """Return the chat turns of a bundle, ordered by (timestamp_ms, trace_id)."""
    from mangaassist_assets.tracing.ingestion.turn_frames import turns_from_parquet

    return turns_from_parquet(store.read(store.latest("tagged_traces", partition=release_bundle), TURNS_FILE))


def read_presence(store: SnapshotStore, release_bundle: str) -> list[TracePresence]:
    """Return which parts of the contract each finished trace of a bundle has, those in quarantine included."""
    import io

    import polars as pl

    from mangaassist_assets.tracing.ingestion.coverage import TracePresence

    content = store.read(store.latest("tagged_traces", partition=release_bundle), PRESENCE_FILE)
    return [
        TracePresence(
            trace_id=row["trace_id"],
            tags=frozenset(row["tags_present"]),
            spans=frozenset(row["spans_present"]),
            state=row["state"],
            problems=tuple(row["problems"]),
            candidates=row["candidate_count"],
            blocked=bool(row["guardrail_blocked"]),
        )
        for row in pl.read_parquet(io.BytesIO(content)).iter_rows(named=True)
    ]


def read_feedback(store: SnapshotStore, release_bundle: str) -> Sequence[FeedbackRecord]:
    """Return the feedback events of a bundle, oldest first."""
    from mangaassist_assets.tracing.feedback.ingestion import events_from_parquet

    return events_from_parquet(store.read(store.latest("feedback_events", partition=release_bundle), EVENTS_FILE))


def read_mined_thumbs(store: SnapshotStore) -> dict[str, tuple[int, int]]:
    """Return how many turns of each mined bundle say thumbs up, and how many thumbs down."""
    import io

    import polars as pl

    thumbs: dict[str, tuple[int, int]] = {}
    for bundle in store.partitions("tagged_traces"):
        content = store.read(store.latest("tagged_traces", partition=bundle), TURNS_FILE)
        said = pl.read_parquet(io.BytesIO(content), columns=["user_feedback"])["user_feedback"]
        thumbs[bundle] = (int((said == "thumbs_up").sum()), int((said == "thumbs_down").sum()))
    return thumbs


def failures_to_json(failures: Sequence[FailedTurn]) -> bytes:
    """Return failed turns as JSON: trace id, signals, blame, findings. The turn itself stays in `tagged_traces`."""
    from dataclasses import asdict

    return canonical_json(
        [
            {
                "trace_id": failure.turn.trace_id,
                "signals": [asdict(signal) for signal in failure.signals],
                "blame": asdict(failure.blame),
                "considered": [asdict(finding) for finding in failure.considered],
            }
            for failure in failures
        ]
    )


def read_failures(store: SnapshotStore, release_bundle: str) -> list[FailedTurn]:
    """Return the failed turns of a bundle with signals, blame and findings, in the order they were stored."""
    from pydantic import TypeAdapter

    from mangaassist_assets.mining.blame.blame import Blame, FailedTurn, Finding
    from mangaassist_assets.mining.blame.signals import Signal

    signals: TypeAdapter[tuple[Signal, ...]] = TypeAdapter(tuple[Signal, ...])
    blames: TypeAdapter[Blame] = TypeAdapter(Blame)
    findings: TypeAdapter[tuple[Finding, ...]] = TypeAdapter(tuple[Finding, ...])
    turns = {turn.trace_id: turn for turn in read_turns(store, release_bundle)}
    rows = json.loads(store.read(store.latest("failed_traces", partition=release_bundle), FAILURES_FILE))
    missing = [row["trace_id"] for row in rows if row["trace_id"] not in turns]
    if missing:
        msg = (
            f"failed_traces of {release_bundle!r} names {len(missing)} traces that tagged_traces no longer has "
            f"(first: {missing[0]}): materialize failed_traces again"
        )
        raise LookupError(msg)
    return [
        FailedTurn(
            turn=turns[row["trace_id"]],
            signals=signals.validate_python(row["signals"]),
            blame=blames.validate_python(row["blame"]),
            considered=findings.validate_python(row.get("considered", ())),
        )
        for row in rows
    ]


def read_clusters(store: SnapshotStore, release_bundle: str) -> list[FailureCluster]:
    """Return the failure clusters of a bundle, the largest first."""
    from mangaassist_assets.mining.tracking.cluster_files import CLUSTERS_FILE, clusters_from_json

    return clusters_from_json(store.read(store.latest("failure_clusters", partition=release_bundle), CLUSTERS_FILE))


def corpus_to_json(utterances: Sequence[Utterance]) -> bytes:
    """Return training utterances as JSON: text, intent, relevant documents, tenant; no user, no session, no time."""
    return canonical_json(
        [
            {
                "text": one.text,
                "intent": one.intent,
                "relevant_documents": list(one.relevant_documents),
                **({"tenant": one.tenant} if one.tenant else {}),
            }
            for one in utterances
        ]
    )


def read_corpus(store: SnapshotStore) -> list[Utterance]:
    """Return the training corpus of the bootstrap."""
    from mangaassist_assets.datasets.sources.utterances import Utterance

    rows = json.loads(store.read(store.latest("training_corpus"), CORPUS_FILE))
    return [
        Utterance(
            text=row["text"],
            intent=row["intent"],
            relevant_documents=tuple(row["relevant_documents"]),
            line_number=number,
            tenant=row.get("tenant"),
        )
        for number, row in enumerate(rows, start=1)
    ]


def read_golden(store: SnapshotStore) -> list[str]:
    """Return the messages of the golden set, which nothing is trained on; none where no golden set was handed in."""
    snapshot = store.find("golden_set")
    return [] if snapshot is None else [row["text"] for row in read_json(store, snapshot, GOLDEN_FILE)]


def read_chunks(store: SnapshotStore, *, tenantless: bool = False) -> list[Chunk]:
    """Return the chunks of the knowledge, in the order of their documents.

    `tenantless` takes those that an earlier version wrote, which say of none whose it is: never for what is searched.
    """
    from mangaassist_assets.retrieval.chunking import parquet_to_chunks

    return parquet_to_chunks(store.read(store.latest("knowledge_chunks"), CHUNKS_FILE), tenantless=tenantless)


def read_vocabulary(store: SnapshotStore) -> Vocabulary:
    """Return the store's own words, which redaction leaves alone; none before the knowledge was read."""
    from mangaassist_assets.privacy import Vocabulary

    snapshot = store.find("knowledge_chunks")
    if snapshot is None or VOCABULARY_FILE not in snapshot.files:
        return Vocabulary(())
    return Vocabulary(read_json(store, snapshot, VOCABULARY_FILE))


def read_dataset(store: SnapshotStore, name: str, release_bundle: str) -> tuple[pl.DataFrame, Mapping[str, Any]]:
    """Return the rows of a dataset version, checked against its digest, and its data card."""
    from mangaassist_assets.datasets.versions.versions import CARD_FILE, EXAMPLES_FILE, from_parquet

    snapshot = store.latest(name, partition=release_bundle)
    card: Mapping[str, Any] = json.loads(store.read(snapshot, CARD_FILE))
    return from_parquet(store.read(snapshot, EXAMPLES_FILE), expected_digest=card["digest"]), card


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """A registered challenger as the training asset left it."""

    name: str
    version: str
    run_id: str
    artifact_uri: str
    artifact_sha256: str
    dataset_digest: str
    release_bundle: str | None
    bundle_start_ms: int

    @staticmethod
    def read(store: SnapshotStore, asset: str, release_bundle: str) -> TrainedModel:
        """Return what the training asset registered for a bundle."""
        return TrainedModel(**read_json(store, store.latest(asset, partition=release_bundle), MODEL_FILE))


def read_json(store: SnapshotStore, snapshot: Snapshot, file: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return one JSON file of a snapshot."""
    return json.loads(store.read(snapshot, file))


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingsCard:
    """What made the stored vectors."""

    model_id: str
    dimension: int
    chunks_digest: str


def vectors_to_bytes(vectors: Vectors) -> bytes:
    """Return vectors in NumPy's own file format, which holds no objects."""
    import io

    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    return buffer.getvalue()


def read_embeddings(store: SnapshotStore) -> tuple[Vectors, EmbeddingsCard]:
    """Return the vectors of the chunks, shape (chunks, dimension), and what made them.

    Raises:
        LookupError: they belong to other chunks than the latest ones.
    """
    import io

    import numpy as np

    snapshot = store.latest("chunk_embeddings")
    card = EmbeddingsCard(**read_json(store, snapshot, EMBEDDINGS_CARD_FILE))
    chunks = store.latest("knowledge_chunks")
    if card.chunks_digest != chunks.digest:
        msg = "chunk_embeddings were made of other chunks than the latest: materialize chunk_embeddings again"
        raise LookupError(msg)
    vectors: Vectors = np.load(io.BytesIO(store.read(snapshot, VECTORS_FILE)), allow_pickle=False)
    return vectors, card


def labelled_queries(store: SnapshotStore) -> list[LabelledQuery]:
    """Return every query whose relevant documents are known: the corpus, then reviewed turns of all bundles."""
    from mangaassist_assets.retrieval.evaluation import LabelledQuery

    queries = {
        (utterance.text, utterance.tenant): LabelledQuery(
            text=utterance.text, relevant_documents=utterance.relevant_documents, tenant=utterance.tenant
        )
        for utterance in (read_corpus(store) if store.find("training_corpus") else [])
        if utterance.relevant_documents
    }
    for bundle in bundles_by_start(store):
        for turn in read_turns(store, bundle):
            if turn.expected_documents:
                labelled = LabelledQuery(
                    text=turn.learnable_text, relevant_documents=turn.expected_documents, tenant=turn.tenant
                )
                queries.setdefault((turn.learnable_text, turn.tenant), labelled)
    return list(queries.values())


def retrieval_figures(report: RetrievalReport) -> dict[str, dict[str, float]]:
    """Return the means of a retrieval evaluation by kind of search, under the names people know them by."""
    return {
        kind: {
            **{f"recall@{cutoff}": value for cutoff, value in metrics.recall.items()},
            "mrr@10": metrics.mrr,
            "ndcg@10": metrics.ndcg,
        }
        for kind, metrics in report.metrics.items()
    }


def read_dataset_version(store: SnapshotStore, pipeline: ModelPipeline, release_bundle: str) -> DatasetVersion:
    """Return a stored dataset version as the training functions take it, checked against its digest."""
    from pydantic import TypeAdapter

    from mangaassist_assets.datasets.versions.versions import DataCard, DatasetVersion

    frame, card = read_dataset(store, pipeline.dataset_asset, release_bundle)
    fields = {name: value for name, value in card.items() if name != "schema"}
    return DatasetVersion(digest=card["digest"], frame=frame, card=TypeAdapter(DataCard).validate_python(fields))


def read_verdicts(store: SnapshotStore, pipeline: ModelPipeline) -> list[StoredVerdict]:
    """Return the stored verdicts of a model pipeline, one a bundle."""
    from mangaassist_assets.releases.promotion import StoredVerdict

    verdicts: list[StoredVerdict] = []
    for bundle in store.partitions(pipeline.evaluation_asset):
        stored = read_json(store, store.latest(pipeline.evaluation_asset, partition=bundle), EVALUATION_FILE)
        verdicts.append(
            StoredVerdict(
                release_bundle=bundle,
                bundle_start_ms=stored["bundle_start_ms"],
                verdict=stored["verdict"],
                challenger_version=stored["challenger_version"],
                champion_version=stored["champion_version"],
            )
        )
    return verdicts


def read_learned_model(store: SnapshotStore, pipeline: ModelPipeline, release_bundle: str) -> LearnedModel:
    """Return what a model pipeline made of a bundle, as far as it got."""
    from mangaassist_assets.releases.manifest import LearnedModel

    dataset = store.find(pipeline.dataset_asset, partition=release_bundle)
    model = store.find(pipeline.model_asset, partition=release_bundle)
    evaluation = store.find(pipeline.evaluation_asset, partition=release_bundle)
    trained = read_json(store, model, MODEL_FILE) if model else {}
    verdict = read_json(store, evaluation, EVALUATION_FILE) if evaluation else {}
    card = read_json(store, dataset, "card.json") if dataset else {}
    return LearnedModel(
        dataset_digest=card.get("digest"),
        challenger_version=trained.get("version"),
        champion_version=verdict.get("champion_version"),
        artifact_sha256=trained.get("artifact_sha256"),
        verdict=verdict.get("verdict"),
    )
