"""What assets and checks read: each input is declared once, here, and named by those that read it.

An input that may not be there yet says in its type what it is then: an empty list, or None.
"""

from typing import TYPE_CHECKING, Any

from mangaassist_assets.chatbot.configuration.profiles import PROFILE_ASSETS
from mangaassist_assets.core.declared_inputs import Bundles, Input, Read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    import polars as pl

    from mangaassist_assets.chatbot.configuration.review import StoredReview
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.datasets.sources.golden_file import GoldenMessage
    from mangaassist_assets.datasets.sources.utterances import Utterance
    from mangaassist_assets.datasets.versions.versions import DatasetVersion
    from mangaassist_assets.labelling.judge import IntentJudgement
    from mangaassist_assets.labelling.people.acceptances import Acceptance
    from mangaassist_assets.labelling.queue.stored_queue import ReviewQueue
    from mangaassist_assets.mining.blame.blame import FailedTurn
    from mangaassist_assets.mining.tracking.clusters import FailureCluster
    from mangaassist_assets.models.pipelines import ModelPipeline
    from mangaassist_assets.privacy import Vocabulary
    from mangaassist_assets.releases.named_champion import NamedChampion
    from mangaassist_assets.retrieval.evaluation import LabelledQuery
    from mangaassist_assets.retrieval.going_live import Verification
    from mangaassist_assets.retrieval.stored_knowledge import Candidate, EmbeddingsCard
    from mangaassist_assets.retrieval.types import Chunk, Vectors
    from mangaassist_assets.tracing.contract.turns import ChatTurn
    from mangaassist_assets.tracing.feedback.events import FeedbackRecord
    from mangaassist_assets.tracing.ingestion.coverage import TracePresence

    Traffic: TypeAlias = tuple[str | None, Iterator[ChatTurn], list[str]]

_TURNS = Read(asset="tagged_traces", bundles="same")
_TURNS_UNTIL = Read(asset="tagged_traces", bundles="until")
_TURNS_OF_ALL = Read(asset="tagged_traces", bundles="all")
_KNOWLEDGE = Read(asset="knowledge_chunks")
_CORPUS = Read(asset="training_corpus")
OVERRIDES = Read(asset="champion_overrides", bundles="all", ledger=True)
PROMOTIONS = Read(asset="champion_promotions", bundles="all", ledger=True)


def _newest_traffic(store: "SnapshotStore", _: str) -> "Traffic":
    from mangaassist_assets.core.bundles import bundles_by_start
    from mangaassist_assets.mining.blame.stored_failures import read_failed_messages
    from mangaassist_assets.tracing.ingestion.stored_turns import stream_turns

    bundle = next(reversed(bundles_by_start(store)), None)
    if bundle is None:
        return None, iter(()), []
    return bundle, stream_turns(store, bundle), read_failed_messages(store, bundle)


def through(asset: str, system: str, *, bundles: str = "none") -> Read:
    """Return the read of an asset whose data arrive through another system; only its digest is noted."""
    return Read(asset=asset, bundles="same" if bundles == "same" else "none", through=system)


def _turns_to_label(store: "SnapshotStore", bundle: str) -> "list[ChatTurn]":
    from mangaassist_assets.labelling.reviews import read_turns_to_label

    members = (trace_id for cluster in _clusters(store, bundle) for trace_id in cluster.trace_ids)
    return read_turns_to_label(store, bundle, members)


def _turn_count(store: "SnapshotStore", bundle: str) -> int:
    from mangaassist_assets.tracing.ingestion.stored_turns import count_turns

    return count_turns(store, bundle)


def _scored_turns(store: "SnapshotStore", bundle: str) -> "pl.DataFrame":
    from mangaassist_assets.mining.blame.explanations import SCORED_COLUMNS
    from mangaassist_assets.reporting.experiments import EXPERIMENT_COLUMNS
    from mangaassist_assets.tracing.ingestion.stored_turns import read_turn_frame

    return read_turn_frame(store, bundle, columns=[*EXPERIMENT_COLUMNS, *SCORED_COLUMNS])


def _served_turns(store: "SnapshotStore", bundle: str) -> "pl.DataFrame":
    from mangaassist_assets.releases.manifest import MANIFEST_COLUMNS
    from mangaassist_assets.tracing.ingestion.stored_turns import read_turn_frame

    return read_turn_frame(store, bundle, columns=MANIFEST_COLUMNS)


def _turn_frame(store: "SnapshotStore", bundle: str) -> "pl.DataFrame":
    from mangaassist_assets.tracing.ingestion.stored_turns import read_turn_frame

    return read_turn_frame(store, bundle)


def _presence(store: "SnapshotStore", bundle: str) -> "Iterator[TracePresence]":
    from mangaassist_assets.tracing.ingestion.stored_turns import read_presence

    return read_presence(store, bundle)


def _reviewed_turns(store: "SnapshotStore", bundle: str) -> "list[ChatTurn]":
    from mangaassist_assets.labelling.reviews import read_reviewed_turns

    return read_reviewed_turns(store, bundle)


def _feedback(store: "SnapshotStore", bundle: str) -> "tuple[FeedbackRecord, ...]":
    from mangaassist_assets.tracing.feedback.ingestion import read_feedback

    return read_feedback(store, bundle)


def _recorded_before(store: "SnapshotStore", bundle: str) -> frozenset[tuple[str, str, str, str]]:
    from mangaassist_assets.tracing.feedback.recording import read_recorded

    return read_recorded(store, bundle)


def _failures(store: "SnapshotStore", bundle: str) -> "list[FailedTurn]":
    from mangaassist_assets.mining.blame.stored_failures import read_failures

    return read_failures(store, bundle)


def _clusters(store: "SnapshotStore", bundle: str) -> "list[FailureCluster]":
    from mangaassist_assets.mining.tracking.cluster_files import read_clusters

    return read_clusters(store, bundle)


def _traffic(store: "SnapshotStore", bundle: str) -> "pl.DataFrame":
    from mangaassist_assets.labelling.queue.audit_sample import read_traffic

    return read_traffic(store, bundle)


def _queue(store: "SnapshotStore", bundle: str) -> "ReviewQueue | None":
    from mangaassist_assets.labelling.queue.stored_queue import read_queue

    return read_queue(store, bundle)


def _judged_before(store: "SnapshotStore", bundle: str) -> "dict[str, IntentJudgement] | None":
    from mangaassist_assets.labelling.stored_labels import read_judgements

    return read_judgements(store, bundle)


def _labelled_before(store: "SnapshotStore", bundle: str) -> frozenset[str]:
    from mangaassist_assets.labelling.stored_labels import read_labelled_intents

    return read_labelled_intents(store, bundle)


def _acceptances(store: "SnapshotStore", _: str) -> "list[Acceptance]":
    from mangaassist_assets.labelling.people.acceptances import read_acceptances

    return read_acceptances(store)


def _vocabulary(store: "SnapshotStore", _: str) -> "Vocabulary":
    from mangaassist_assets.retrieval.stored_knowledge import read_vocabulary

    return read_vocabulary(store)


def _chunks(store: "SnapshotStore", _: str) -> "list[Chunk]":
    from mangaassist_assets.retrieval.stored_knowledge import read_chunks

    return read_chunks(store)


def _chunks_before(store: "SnapshotStore", _: str) -> "list[Chunk]":
    from mangaassist_assets.retrieval.stored_knowledge import read_chunks

    return read_chunks(store) if store.find("knowledge_chunks") else []


def _embeddings(store: "SnapshotStore", _: str) -> "tuple[Vectors, EmbeddingsCard]":
    from mangaassist_assets.retrieval.stored_knowledge import read_embeddings

    return read_embeddings(store)


def _candidate(store: "SnapshotStore", _: str) -> "Candidate":
    from mangaassist_assets.retrieval.stored_knowledge import read_candidate

    return read_candidate(store)


def _verification(store: "SnapshotStore", _: str) -> "Verification | None":
    from mangaassist_assets.retrieval.going_live import read_verification

    return read_verification(store)


def _corpus(store: "SnapshotStore", _: str) -> "list[Utterance]":
    from mangaassist_assets.datasets.sources.training_corpus import read_corpus

    return read_corpus(store) if store.find("training_corpus") else []


def _golden(store: "SnapshotStore", _: str) -> list[str]:
    from mangaassist_assets.datasets.sources.golden_set import read_golden

    return read_golden(store)


def _golden_messages(store: "SnapshotStore", _: str) -> "list[GoldenMessage]":
    from mangaassist_assets.datasets.sources.golden_set import read_golden_messages

    return read_golden_messages(store)


def _labelled_queries(store: "SnapshotStore", _: str) -> "list[LabelledQuery]":
    from mangaassist_assets.datasets.sources.training_corpus import labelled_queries

    return labelled_queries(store)


TURN_COUNT = Input((_TURNS,), _turn_count)
SCORED_TURNS = Input((_TURNS,), _scored_turns)
"""Of each turn what experiments and rules of failure are judged by."""
SERVED_TURNS = Input((_TURNS,), _served_turns)
"""Of each turn the versions that served it."""
TURN_FRAME = Input((_TURNS,), _turn_frame)
PRESENCE = Input((_TURNS,), _presence)
REVIEWED_TURNS = Input((_TURNS_UNTIL,), _reviewed_turns)
"""Those of the bundle and of the bundles before it, the oldest bundle first."""
FEEDBACK = Input((Read(asset="feedback_events", bundles="same"),), _feedback)
RECORDED_BEFORE = Input((Read(asset="recorded_feedback", bundles="same", own=True),), _recorded_before)
FAILURES = Input((Read(asset="failed_traces", bundles="same"), _TURNS), _failures)
CLUSTERS = Input((Read(asset="failure_clusters", bundles="same"),), _clusters)
TURNS_TO_LABEL = Input((_TURNS, *CLUSTERS.reads), _turns_to_label)
"""Those that people reviewed, and those in a failure cluster."""
TRAFFIC = Input((_TURNS, Read(asset="failed_traces", bundles="same")), _traffic)
"""Of each turn that people may be asked about its message, and what the audit sample is spread by."""
QUEUE = Input((Read(asset="review_queue", bundles="same"),), _queue)
"""What people are asked, and how each turn came to be; None where there is no queue yet."""
QUEUE_BEFORE = Input((Read(asset="review_queue", bundles="same", own=True),), _queue)
JUDGED_BEFORE = Input((Read(asset="intent_labels", bundles="same", own=True),), _judged_before)
LABELLED_BEFORE = Input((Read(asset="intent_labels", bundles="until", own=True), _TURNS_UNTIL), _labelled_before)
"""The intents that people's labels of the bundles before have."""
ACCEPTANCES = Input((Read(asset="label_acceptances", bundles="all", ledger=True),), _acceptances)
"""Names of intents, and reviewers, that a person accepted."""
VOCABULARY = Input((_KNOWLEDGE,), _vocabulary)
CHUNKS = Input((_KNOWLEDGE,), _chunks)
CHUNKS_BEFORE = Input((Read(asset="knowledge_chunks", own=True),), _chunks_before)
CANDIDATE = Input((Read(asset="search_index"),), _candidate)
VERIFICATION = Input((Read(asset="retrieval_evaluation"),), _verification)
"""None where nothing was verified yet."""
EMBEDDINGS = Input((Read(asset="chunk_embeddings"), _KNOWLEDGE), _embeddings)
CORPUS = Input((_CORPUS,), _corpus)
GOLDEN_BEFORE = Read(asset="golden_set", own=True)
"""What `store_golden_set` compares with."""
GOLDEN = Input((Read(asset="golden_set"),), _golden)
GOLDEN_MESSAGES = Input(GOLDEN.reads, _golden_messages)
"""With their intents and documents."""
ALL_MINED = (_TURNS_OF_ALL, Read(asset="failed_traces", bundles="all"), Read(asset="failure_clusters", bundles="all"))
"""What `compare_bundles` reads beside what was learned."""
NEWEST_TRAFFIC = Input((_TURNS_OF_ALL, Read(asset="failed_traces", bundles="all")), _newest_traffic)
"""The newest bundle (None before the first one), its turns, and the messages of those that failed, the worst first."""
LABELLED_QUERIES = Input((_CORPUS, _TURNS_OF_ALL), _labelled_queries)

start_of_bundle = _TURNS
"""What `bundles_by_start` reads of a step's own bundle."""


def dataset_of(pipeline: "ModelPipeline") -> "Input[DatasetVersion]":
    """Return the input that is a model pipeline's dataset of the bundle."""

    def load(store: "SnapshotStore", bundle: str) -> "DatasetVersion":
        from mangaassist_assets.datasets.versions.stored_versions import read_dataset

        return read_dataset(store, pipeline.dataset_asset, bundle)

    return Input((Read(asset=pipeline.dataset_asset, bundles="same"),), load)


def earlier_versions_of(pipeline: "ModelPipeline") -> tuple[Read, ...]:
    """Return the reads of `earlier_versions`: those of this bundle and before, and the order of bundles."""
    return (Read(asset=pipeline.dataset_asset, bundles="until"), _TURNS_UNTIL)


def model_of(pipeline: "ModelPipeline") -> Read:
    """Return the read of a model pipeline's challenger of the bundle."""
    return Read(asset=pipeline.model_asset, bundles="same")


def evaluation_before(pipeline: "ModelPipeline") -> Read:
    """Return the read of the evaluation that may stand already, and of the looks at all bundles."""
    return Read(asset=pipeline.evaluation_asset, bundles="all", own=True)


def evaluations_of(pipeline: "ModelPipeline", *, bundles: "Bundles" = "all") -> Read:
    """Return the read of a model pipeline's evaluations: the verdicts."""
    return Read(asset=pipeline.evaluation_asset, bundles=bundles)


def verdict_of(pipeline: "ModelPipeline") -> "Input[dict[str, Any]]":
    """Return the input that is a model pipeline's evaluation of the bundle, as it is stored."""

    def load(store: "SnapshotStore", bundle: str) -> "dict[str, Any]":
        from mangaassist_assets.models.registration.registry import EVALUATION_FILE

        stored = store.latest(pipeline.evaluation_asset, partition=bundle)
        evaluation: dict[str, Any] = store.read_json(stored, EVALUATION_FILE)
        return evaluation

    return Input((evaluations_of(pipeline, bundles="same"),), load)


def health_of(pipeline: "ModelPipeline") -> "Input[dict[str, Any] | None]":
    """Return the input that is what was found of a champion; None before there is one to judge."""

    def load(store: "SnapshotStore", _: str) -> "dict[str, Any] | None":
        from mangaassist_assets.monitoring.champion_health import HEALTH_FILE

        snapshot = store.find(pipeline.health_asset)
        return None if snapshot is None else store.read_json(snapshot, HEALTH_FILE)

    return Input((Read(asset=pipeline.health_asset),), load)


def reviews_of_configuration(store: "SnapshotStore", _: str) -> "list[StoredReview]":
    """Return what was found of the deployed configuration."""
    from mangaassist_assets.chatbot.configuration.review import read_reviews

    return read_reviews(store)


CONFIGURATION = Input((Read(asset="runtime_configuration"),), reviews_of_configuration)


def last_promotion_of(pipeline: "ModelPipeline", *, own: bool = False) -> "Input[NamedChampion | None]":
    """Return the input that is the last promotion on record: by the gate, a person or the bootstrap.

    `own` is for the asset that promotes.
    """

    def load(store: "SnapshotStore", _: str) -> "NamedChampion | None":
        from mangaassist_assets.releases.named_champion import last_promotion

        return last_promotion(store, pipeline)

    first = (Read(asset=pipeline.first_asset),) if pipeline.first_asset else ()
    return Input((PROMOTIONS, Read(asset=pipeline.champion_asset, own=own), *first), load)


def reviewed_traffic_of(pipeline: "ModelPipeline") -> tuple[Read, ...]:
    """Return the reads by which a champion is judged: datasets, who served which turn, the corpus, verdicts."""
    return (
        Read(asset=pipeline.dataset_asset, bundles="all"),
        evaluations_of(pipeline),
        _TURNS_OF_ALL,
        _CORPUS,
        through(pipeline.champion_asset, "MLflow"),
    )


def learned_by_champion_of(pipeline: "ModelPipeline") -> tuple[Read, ...]:
    """Return the reads by which it is known what a champion has learned: its own dataset, of any bundle, or the corpus.

    Which version is champion says the registry.
    """
    return (Read(asset=pipeline.dataset_asset, bundles="all"), _CORPUS)


def learned_by(pipeline: "ModelPipeline") -> tuple[Read, ...]:
    """Return the reads of what a model pipeline made of a bundle: dataset, challenger, verdict."""
    dataset = Read(asset=pipeline.dataset_asset, bundles="same")
    return (dataset, model_of(pipeline), evaluations_of(pipeline, bundles="same"))


WAREHOUSE_LOADS = (Read(asset="feedback_warehouse", bundles="until"), _TURNS_UNTIL)
"""What `report_satisfaction` reads: what is in the warehouse of this bundle and those before, and their order."""
CLUSTER_HISTORY = (Read(asset="failure_clusters", bundles="all", own=True), _TURNS_OF_ALL)
"""What `read_history` reads: clusters of all bundles, and the order in which bundles began."""
PROFILES_IN_APP_CONFIG = tuple(through(asset, "AppConfig") for asset in PROFILE_ASSETS.values())
NEWEST_TURNS = _TURNS_OF_ALL
"""What `newest_stages` reads: the order of bundles, and how the last one asked the endpoints."""
