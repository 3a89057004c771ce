"""Labels: which failures people are asked about, and what people, the judge and clusters say they are."""

import dagster as dg
from pydantic import Field

from mangaassist_assets.assets.bootstrap import training_corpus
from mangaassist_assets.assets.common import ML_ENGINEERING, materialized
from mangaassist_assets.assets.ingestion import tagged_traces
from mangaassist_assets.assets.mining import failure_clusters
from mangaassist_assets.partitions import release_bundles
from resources.aws.judge import JudgeResource
from resources.mlflow.tracking import MlflowResource
from resources.search.embeddings import EmbeddingsResource
from resources.store import StoreResource


class ReviewQueueConfig(dg.Config):
    """How much of people's time there is, and how it is spread."""

    budget: int = Field(default=50, ge=0, le=10_000, description="Traces that people are asked to review.")
    per_shopper: int = Field(default=2, ge=1, description="Traces of one shopper, or of one session without a shopper.")
    per_cluster: int = Field(default=10, ge=1, description="Traces of one failure cluster.")


@dg.asset(
    partitions_def=release_bundles,
    deps=[training_corpus, tagged_traces, failure_clusters],
    group_name="mining",
    owners=[ML_ENGINEERING],
    kinds={"mlflow", "json"},
    code_version="1",
)
def review_queue(
    context: dg.AssetExecutionContext,
    config: ReviewQueueConfig,
    embeddings: EmbeddingsResource,
    mlflow: MlflowResource,
    store: StoreResource,
) -> dg.MaterializeResult[None]:
    """The failed turns of one release bundle that are worth a person's minute, best first, also in MLflow.

    One row is one trace with its score (uncertainty × cluster weight × novelty), the factors, and why it was picked.
    MLflow's reviewers see the same traces as a review queue of the bundle, with questions for the
    intent and for the documents that answer.
    """
    from mangaassist_assets.core.snapshots import canonical_json
    from mangaassist_assets.datasets.sources.training_corpus import messages_by_intent, read_corpus
    from mangaassist_assets.labelling.known_intents import known_intents
    from mangaassist_assets.labelling.queue.bundle_queue import queue_bundle
    from mangaassist_assets.labelling.queue.review_queue import QUEUE_FILE, QueueConfig
    from mangaassist_assets.labelling.reviews import read_reviewed_turns, read_turns_to_label
    from mangaassist_assets.mining.clustering.message_vectors import embed_messages
    from mangaassist_assets.mining.tracking.cluster_files import read_clusters
    from resources.mlflow.assessments.review_queues import MlflowReviewQueues

    bundle, snapshots = context.partition_key, store.snapshots()
    earlier = read_reviewed_turns(snapshots, bundle)
    queues = MlflowReviewQueues(*mlflow.traces(), traces_url=mlflow.traces_url())
    state = queues.state(bundle)
    embedder, cache = embeddings.embedder(), store.embedding_cache()
    clusters = read_clusters(snapshots, bundle)
    queue = queue_bundle(
        read_turns_to_label(snapshots, bundle, (one for cluster in clusters for one in cluster.trace_ids)),
        clusters,
        earlier,
        handled=state.declined | state.complete,
        embed=lambda texts: embed_messages(texts, embedder=embedder, cache=cache)[0],
        budget=config.budget,
        config=QueueConfig(per_shopper=config.per_shopper, per_cluster=config.per_cluster),
    )
    corpus = messages_by_intent(read_corpus(snapshots) if snapshots.find("training_corpus") else [])
    intents = sorted(known_intents(corpus, earlier))
    published = queues.publish(bundle, queue.trace_ids, intents=intents, reviewed=queue.reviewed)
    snapshot = snapshots.write("review_queue", {QUEUE_FILE: canonical_json(queue.picking.items)}, partition=bundle)
    context.log.info(
        f"{len(queue.trace_ids)} of {queue.candidates} failed turns are worth a review; in MLflow {published.added} "
        f"added, {published.completed} completed, {published.removed} taken out"
    )
    if published.desk == "tag":
        context.log.warning("this MLflow server has no review queues: the traces carry the tag review_queue instead")
    return materialized(
        snapshot,
        {
            **queue.figures(mlflow.trace_url),
            **published.figures(),
            "reviewers_desk": dg.MetadataValue.url(published.url),
            "budget": config.budget,
        },
    )


class IntentLabelsConfig(dg.Config):
    """When a cluster's reviews and a judge's answers count."""

    minimum_reviewers: int = Field(
        default=2, ge=2, description="Distinct shoppers whose messages were reviewed alike before a cluster labels."
    )
    maximum_error: float = Field(
        default=0.2, ge=0, le=1, description="Estimated error of a cluster's propagation above which it labels nothing."
    )
    judge_minimum_common: int = Field(
        default=20, ge=1, description="Messages that people and the judge answered before the judge is believed."
    )
    judge_minimum_agreement: float = Field(
        default=0.8, ge=0, le=1, description="Share of them on which the judge must agree with people."
    )


@dg.asset(
    partitions_def=release_bundles,
    deps=[training_corpus, tagged_traces, failure_clusters, review_queue],
    group_name="intent",
    owners=[ML_ENGINEERING],
    kinds={"parquet"},
    code_version="1",
)
def intent_labels(
    context: dg.AssetExecutionContext,
    config: IntentLabelsConfig,
    embeddings: EmbeddingsResource,
    judge: JudgeResource,
    store: StoreResource,
) -> dg.MaterializeResult[None]:
    """What the messages of one release bundle ask for: one label a turn, who gave it, when, and how sure it is.

    One row is one label: a person's review (an MLflow expectation), a judge's answer, or what the reviews of a failure
    cluster say of its other members, with a confidence that was measured. Beside it, every disagreement by name.
    """
    from mangaassist_assets.core.codecs import from_json
    from mangaassist_assets.datasets.sources.training_corpus import messages_by_intent, read_corpus
    from mangaassist_assets.labelling.cluster_reviews import PropagationConfig
    from mangaassist_assets.labelling.gathering import JUDGEMENTS_FILE, label_bundle, label_files
    from mangaassist_assets.labelling.judge import IntentJudgement, JudgingConfig
    from mangaassist_assets.labelling.known_intents import known_intents
    from mangaassist_assets.labelling.label_report import label_figures
    from mangaassist_assets.labelling.queue.review_queue import QUEUE_FILE, QueueItem
    from mangaassist_assets.labelling.reviews import read_reviewed_turns, read_turns_to_label
    from mangaassist_assets.mining.clustering.message_vectors import embed_messages
    from mangaassist_assets.mining.tracking.cluster_files import read_clusters
    from mangaassist_assets.retrieval.stored_knowledge import read_vocabulary

    bundle, snapshots = context.partition_key, store.snapshots()
    corpus = messages_by_intent(read_corpus(snapshots) if snapshots.find("training_corpus") else [])
    intents = known_intents(corpus, read_reviewed_turns(snapshots, bundle))
    queue = snapshots.find("review_queue", partition=bundle)
    before = snapshots.find("intent_labels", partition=bundle)
    embedder, cache = embeddings.embedder(), store.embedding_cache()
    clusters = read_clusters(snapshots, bundle)
    gathered = label_bundle(
        read_turns_to_label(snapshots, bundle, (one for cluster in clusters for one in cluster.trace_ids)),
        clusters,
        intents=intents,
        embed=lambda texts: embed_messages(texts, embedder=embedder, cache=cache)[0],
        judge=judge.intent_judge(vocabulary=read_vocabulary(snapshots)) if queue else None,
        queued={item.trace_id for item in from_json(list[QueueItem], snapshots.read(queue, QUEUE_FILE))}
        if queue
        else (),
        judged_before=from_json(dict[str, IntentJudgement], snapshots.read(before, JUDGEMENTS_FILE))
        if before
        else None,
        judging=JudgingConfig(
            minimum_common=config.judge_minimum_common, minimum_agreement=config.judge_minimum_agreement
        ),
        propagation=PropagationConfig(minimum_reviewers=config.minimum_reviewers, maximum_error=config.maximum_error),
    )
    snapshot = snapshots.write("intent_labels", label_files(gathered), partition=bundle)
    context.log.info(
        f"{len(gathered.labels)} labels: {gathered.count('human')} of people, {gathered.count('judge')} of the judge, "
        f"{gathered.count('propagated')} propagated; {len(gathered.disagreements)} disagreements"
    )
    return materialized(snapshot, label_figures(gathered, new_intents=set(intents) - set(corpus)))
