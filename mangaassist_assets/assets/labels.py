"""Labels: which turns people are asked about, and what people, the judge and clusters say they are."""

import dagster as dg
from pydantic import Field

from mangaassist_assets.assets.common import ML_ENGINEERING, materialized
from mangaassist_assets.assets.declaring import declared_asset
from mangaassist_assets.assets.inputs import (
    ACCEPTANCES,
    CLUSTERS,
    CORPUS,
    JUDGED_BEFORE,
    LABELLED_BEFORE,
    QUEUE,
    QUEUE_BEFORE,
    REVIEWED_TURNS,
    TRAFFIC,
    TURNS_TO_LABEL,
    VOCABULARY,
)
from mangaassist_assets.partitions import release_bundles
from resources.aws.judge import JudgeResource
from resources.mlflow.tracking import MlflowResource
from resources.search.embeddings import EmbeddingsResource
from resources.settings.labelling import LabellingResource
from resources.store import StoreResource


class ReviewQueueConfig(dg.Config):
    """How much of people's time there is, and how it is spread."""

    budget: int = Field(default=50, ge=0, le=10_000, description="Traces that people are asked to review.")
    audit_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of them that is drawn at random from all traffic; the others are failures.",
    )
    per_shopper: int = Field(
        default=2, ge=1, description="Failures of one shopper, or of one session without a shopper."
    )
    per_cluster: int = Field(default=10, ge=1, description="Failures of one failure cluster.")


@declared_asset(
    outside="the review queue in MLflow",
    reads=(
        TURNS_TO_LABEL,
        REVIEWED_TURNS,
        CLUSTERS,
        CORPUS,
        TRAFFIC,
        QUEUE_BEFORE,
        ACCEPTANCES,
    ),
    partitions_def=release_bundles,
    group_name="mining",
    owners=[ML_ENGINEERING],
    kinds={"mlflow", "json"},
    code_version="3",
)
def review_queue(
    context: dg.AssetExecutionContext,
    config: ReviewQueueConfig,
    embeddings: EmbeddingsResource,
    labelling: LabellingResource,
    mlflow: MlflowResource,
    store: StoreResource,
) -> dg.MaterializeResult[None]:
    """The turns of one release bundle that people are asked to review, also in MLflow: an audit sample and failures.

    One row is one trace and why it is asked about: it was drawn at random from all traffic, with a known probability,
    or it failed and many failures are like it, or its label is probably wrong and somebody else is asked. By the sample
    models are compared, failures say where they are weak. MLflow's reviewers see the same traces as a review queue of
    the bundle, with questions for the intent and for the documents that answer.
    """
    from mangaassist_assets.datasets.sources.training_corpus import messages_by_intent
    from mangaassist_assets.labelling.judged_reviews import judge_reviews
    from mangaassist_assets.labelling.queue.bundle_queue import AskedBefore, queue_bundle
    from mangaassist_assets.labelling.queue.review_queue import QueueConfig
    from mangaassist_assets.labelling.queue.second_looks import find_second_looks
    from mangaassist_assets.labelling.queue.stored_queue import ReviewQueue, queue_files
    from mangaassist_assets.mining.clustering.message_vectors import embed_messages
    from resources.mlflow.assessments.review_queues import MlflowReviewQueues

    bundle, step = context.partition_key, store.step(context)
    earlier, turns = step.load(REVIEWED_TURNS), step.load(TURNS_TO_LABEL)
    queues = MlflowReviewQueues(*mlflow.traces(), traces_url=mlflow.traces_url())
    state = queues.state(bundle)
    embedder, cache = embeddings.embedder(), store.embedding_cache()
    said = judge_reviews(
        turns,
        earlier,
        corpus=messages_by_intent(step.load(CORPUS)),
        embed=lambda texts: embed_messages(texts, embedder=embedder, cache=cache)[0],
        policy=labelling.policy(store.inputs(), step.load(ACCEPTANCES)),
    )
    unheard = said.unheard(turns)
    queue = queue_bundle(
        said.heard(turns),
        step.load(CLUSTERS),
        said.heard(earlier),
        step.load(TRAFFIC),
        asked_before=AskedBefore(
            queue=step.load(QUEUE_BEFORE) or ReviewQueue(),
            handled=state.declined | (state.complete - unheard),
            second_looks=find_second_looks(said),
        ),
        embed=lambda texts: embed_messages(texts, embedder=embedder, cache=cache)[0],
        budget=config.budget,
        config=QueueConfig(**config.model_dump(exclude={"budget"})),
    )
    published = queues.publish(
        bundle,
        queue.trace_ids,
        intents=sorted(said.intents),
        reviewed=queue.answered,
        reopened=queue.reopened(unheard),
    )
    snapshot = step.keep(queue_files(queue.queue))
    context.log.info(
        f"{queue.count('audit')} turns are drawn at random, {queue.count('failure queue')} of {queue.candidates} "
        f"failed ones are worth a review; in MLflow {published.added} added, {published.completed} completed, "
        f"{published.removed} taken out"
    )
    if published.desk == "tag":
        context.log.warning("this MLflow server has no review queues: the traces carry the tag review_queue instead")
    return materialized(
        snapshot,
        {
            **queue.figures(mlflow.trace_url),
            **published.figures(),
            "reviewers": said.policy.describe_reviewers(),
            "reviewers_desk": dg.MetadataValue.url(published.url),
            "budget": config.budget,
        },
    )


class IntentLabelsConfig(dg.Config):
    """When a cluster's reviews and a judge's answers count."""

    minimum_reviewers: int = Field(
        default=2,
        ge=2,
        description="Distinct shoppers whose messages were reviewed alike before others get their intent.",
    )
    maximum_error: float = Field(
        default=0.125, ge=0, le=1, description="Estimated error of propagation above which nothing is labelled."
    )
    judge_minimum_common: int = Field(
        default=20, ge=1, description="Messages that people and the judge answered before the judge is believed."
    )
    judge_minimum_agreement: float = Field(
        default=0.8, ge=0, le=1, description="Share of them on which the judge must agree with people."
    )


@declared_asset(
    reads=(
        TURNS_TO_LABEL,
        REVIEWED_TURNS,
        CLUSTERS,
        CORPUS,
        QUEUE,
        JUDGED_BEFORE,
        LABELLED_BEFORE,
        ACCEPTANCES,
        VOCABULARY,
    ),
    partitions_def=release_bundles,
    group_name="intent",
    owners=[ML_ENGINEERING],
    kinds={"parquet"},
    code_version="3",
)
def intent_labels(
    context: dg.AssetExecutionContext,
    config: IntentLabelsConfig,
    embeddings: EmbeddingsResource,
    judge: JudgeResource,
    labelling: LabellingResource,
    store: StoreResource,
) -> dg.MaterializeResult[None]:
    """What the messages of one release bundle ask for: one label a turn, who gave it, when, and how sure it is.

    One row is one label: a person's review (an MLflow expectation), a judge's answer, or what the reviews of a failure
    cluster say of its other members, with a confidence that was measured, and how its message came to be reviewed.
    Beside it, every disagreement by name, what waits, and whose answers are held back.
    """
    from mangaassist_assets.datasets.sources.training_corpus import messages_by_intent
    from mangaassist_assets.labelling.gathering import label_bundle
    from mangaassist_assets.labelling.judge import JudgingConfig
    from mangaassist_assets.labelling.judged_reviews import judge_reviews
    from mangaassist_assets.labelling.label_report import label_figures
    from mangaassist_assets.labelling.reviewed_messages import PropagationConfig
    from mangaassist_assets.labelling.stored_labels import label_files
    from mangaassist_assets.mining.clustering.message_vectors import embed_messages

    step = store.step(context)
    corpus = messages_by_intent(step.load(CORPUS))
    queue, turns = step.load(QUEUE), step.load(TURNS_TO_LABEL)
    embedder, cache = embeddings.embedder(), store.embedding_cache()
    said = judge_reviews(
        turns,
        step.load(REVIEWED_TURNS),
        corpus=corpus,
        embed=lambda texts: embed_messages(texts, embedder=embedder, cache=cache)[0],
        policy=labelling.policy(store.inputs(), step.load(ACCEPTANCES)),
        labelled_before=step.load(LABELLED_BEFORE),
    )
    gathered = label_bundle(
        turns,
        step.load(CLUSTERS),
        said,
        embed=lambda texts: embed_messages(texts, embedder=embedder, cache=cache)[0],
        judge=None if queue is None else judge.intent_judge(vocabulary=step.load(VOCABULARY)),
        queue=queue,
        judged_before=step.load(JUDGED_BEFORE),
        judging=JudgingConfig(
            minimum_common=config.judge_minimum_common, minimum_agreement=config.judge_minimum_agreement
        ),
        propagation=PropagationConfig(minimum_reviewers=config.minimum_reviewers, maximum_error=config.maximum_error),
    )
    snapshot = step.keep(label_files(gathered))
    context.log.info(
        f"{len(gathered.labels)} labels: {gathered.count('human')} of people, {gathered.count('judge')} of the judge, "
        f"{gathered.count('propagated')} propagated; {len(gathered.disagreements)} disagreements"
    )
    return materialized(snapshot, label_figures(gathered, new_intents=set(said.intents) - set(corpus)))
