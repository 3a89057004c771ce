"""Labels: which failures people are asked about, and what people, the judge and clusters say they are."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from mangaassist_assets.assets.clusters import failure_clusters
from mangaassist_assets.assets.common import ML_ENGINEERING, materialized, table
from mangaassist_assets.assets.corpus import training_corpus
from mangaassist_assets.assets.message_vectors import message_vectors
from mangaassist_assets.assets.traces import tagged_traces
from mangaassist_assets.partitions import release_bundles
from resources.aws.judge import JudgeResource
from resources.mlflow.tracking import MlflowResource
from resources.search.embeddings import EmbeddingsResource
from resources.store import StoreResource

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.labelling.disagreement import Disagreement
    from mangaassist_assets.labelling.error_estimate import ErrorRate
    from mangaassist_assets.tracing.contract.turns import ChatTurn

_SHOWN = 50


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
    from mangaassist_assets.assets.reading import read_clusters, read_turns
    from mangaassist_assets.core.snapshots import canonical_json
    from mangaassist_assets.labelling.known_intents import known_intents
    from mangaassist_assets.labelling.queue.review_queue import (
        QUEUE_FILE,
        QueueConfig,
        pick_for_review,
        review_candidates,
    )
    from resources.mlflow.assessments.review_queues import MlflowReviewQueues

    bundle = context.partition_key
    snapshots = store.snapshots()
    turns = {turn.trace_id: turn for turn in read_turns(snapshots, bundle)}
    reviewed = {turn.trace_id: turn.reviewer or "unknown" for turn in turns.values() if _is_reviewed(turn)}
    queues = MlflowReviewQueues.of(mlflow)
    state = queues.state(bundle)
    candidates = review_candidates(read_clusters(snapshots, bundle), turns, handled=state.declined | state.complete)
    earlier = _turns_until(snapshots, bundle)
    seen = sorted({turn.learnable_text for turn in earlier})
    picking = pick_for_review(
        candidates,
        message_vectors([turns[one.trace_id].learnable_text for one in candidates], embeddings, store)[0],
        seen=message_vectors(seen, embeddings, store)[0],
        budget=config.budget,
        config=QueueConfig(per_shopper=config.per_shopper, per_cluster=config.per_cluster),
    )
    published = queues.publish(
        bundle,
        [item.trace_id for item in picking.items],
        intents=sorted(known_intents(_corpus_messages(snapshots), earlier)),
        reviewed=reviewed,
    )
    snapshot = snapshots.write("review_queue", {QUEUE_FILE: canonical_json(picking.items)}, partition=bundle)
    context.log.info(
        f"{len(picking.items)} of {len(candidates)} failed turns are worth a review; in MLflow {published.added} "
        f"added, {published.completed} completed, {published.removed} taken out"
    )
    if published.desk == "tag":
        context.log.warning("this MLflow server has no review queues: the traces carry the tag review_queue instead")
    return materialized(
        snapshot,
        {
            "dagster/row_count": dg.MetadataValue.int(len(picking.items)),
            "reviewers_desk": dg.MetadataValue.url(published.url),
            "desk": dg.MetadataValue.text("review queue" if published.desk == "queue" else "traces with a tag"),
            "budget": dg.MetadataValue.int(config.budget),
            "reviewed_already": dg.MetadataValue.int(len(reviewed)),
            "added_in_mlflow": dg.MetadataValue.int(published.added),
            "completed_in_mlflow": dg.MetadataValue.int(published.completed),
            "removed_in_mlflow": dg.MetadataValue.int(published.removed),
            "traces_gone": dg.MetadataValue.int(len(published.gone)),
            "not_asked": _counts(picking.excluded),
            "queue": table(
                [
                    {
                        "rank": item.rank,
                        "score": round(item.score, 3),
                        "uncertainty": round(item.uncertainty, 3),
                        "cluster_weight": round(item.cluster_weight, 3),
                        "novelty": round(item.novelty, 3),
                        "cluster": item.cluster_name,
                        "why": item.reason,
                        "trace": mlflow.trace_url(item.trace_id),
                    }
                    for item in picking.items[:_SHOWN]
                ]
            ),
        },
    )


class IntentLabelsConfig(dg.Config):
    """When a cluster's reviews and a judge are believed."""

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
    from mangaassist_assets.assets.reading import read_clusters, read_turns, read_vocabulary
    from mangaassist_assets.core.codecs import from_json
    from mangaassist_assets.labelling.cluster_reviews import PropagationConfig
    from mangaassist_assets.labelling.gathering import gather_labels
    from mangaassist_assets.labelling.judge import NO_JUDGE, JudgingConfig, judge_labels
    from mangaassist_assets.labelling.judge_answers import IntentJudgement
    from mangaassist_assets.labelling.known_intents import known_intents
    from mangaassist_assets.labelling.queue.review_queue import QUEUE_FILE, QueueItem
    from mangaassist_assets.labelling.reviews import labels_from_reviews
    from mangaassist_assets.labelling.stored_labels import JUDGEMENTS_FILE, label_files

    bundle = context.partition_key
    snapshots = store.snapshots()
    turns = read_turns(snapshots, bundle)
    corpus = _corpus_messages(snapshots)
    intents = known_intents(corpus, _turns_until(snapshots, bundle))
    reviews = labels_from_reviews(turns, known_intents=intents)
    clusters = read_clusters(snapshots, bundle)
    members = {trace_id for cluster in clusters for trace_id in cluster.trace_ids}
    failed = [turn for turn in turns if turn.trace_id in members]
    judging = NO_JUDGE
    model = judge.intent_judge(vocabulary=read_vocabulary(snapshots))
    queue = snapshots.find("review_queue", partition=bundle)
    if model is not None and queue is not None:
        queued = {item.trace_id for item in from_json(list[QueueItem], snapshots.read(queue, QUEUE_FILE))}
        before = snapshots.find("intent_labels", partition=bundle)
        judging = judge_labels(
            model,
            [turn for turn in failed if turn.trace_id in queued],
            {label.trace_id: label for label in reviews.labels},
            intents=intents,
            earlier=from_json(dict[str, IntentJudgement], snapshots.read(before, JUDGEMENTS_FILE)) if before else None,
            config=JudgingConfig(
                minimum_common=config.judge_minimum_common, minimum_agreement=config.judge_minimum_agreement
            ),
        )
    gathered = gather_labels(
        reviews,
        clusters,
        failed,
        message_vectors([turn.learnable_text for turn in failed], embeddings, store)[0],
        judging=judging,
        propagation=PropagationConfig(minimum_reviewers=config.minimum_reviewers, maximum_error=config.maximum_error),
    )
    snapshot = snapshots.write("intent_labels", label_files(gathered), partition=bundle)
    propagation = gathered.propagation
    context.log.info(
        f"{len(gathered.labels)} labels: {gathered.count('human')} of people, {gathered.count('judge')} of the judge, "
        f"{gathered.count('propagated')} propagated; {len(gathered.disagreements)} disagreements"
    )
    return materialized(
        snapshot,
        {
            "dagster/row_count": dg.MetadataValue.int(len(gathered.labels)),
            "of_people": dg.MetadataValue.int(gathered.count("human")),
            "of_the_judge": dg.MetadataValue.int(gathered.count("judge")),
            "propagated": dg.MetadataValue.int(gathered.count("propagated")),
            "new_intents": dg.MetadataValue.text(", ".join(sorted(set(intents) - set(corpus))) or "none"),
            "unknown_intents": _counts({name[:80]: count for name, count in gathered.unknown_intents.items()}),
            "propagation_error": dg.MetadataValue.text(
                _error_in_words(propagation.error, "left-out reviewed shoppers")
            ),
            "propagation": table(
                [
                    {
                        "cluster_id": one.cluster_id,
                        "intent": one.intent,
                        "reviewed_shoppers": one.reviewed,
                        "trials": one.error.trials if one.error else 0,
                        "wrong": one.error.wrong if one.error else 0,
                        "estimated_error": one.error.rate if one.error else None,
                        "confidence": round(1 - one.error.bound, 4) if one.error else None,
                        "labelled": one.labelled,
                        "refused": one.refused,
                    }
                    for one in propagation.clusters[:_SHOWN]
                    if one.reviewed
                ]
            ),
            "judge": dg.MetadataValue.text(
                _judge_in_words(judging.model_id, judging.disagreement_rate, judging.kept_out)
            ),
            "disagreements": _disagreements(gathered.disagreements),
            "disagreements_in_all": dg.MetadataValue.int(len(gathered.disagreements)),
            "not_labelled": _counts(gathered.skipped),
        },
    )


def _is_reviewed(turn: "ChatTurn") -> bool:
    return turn.expected_intent is not None or bool(turn.expected_documents)


def _corpus_messages(store: "SnapshotStore") -> dict[str, list[str]]:
    """Return the messages of the training corpus by intent; none before the bootstrap."""
    from mangaassist_assets.assets.reading import read_corpus
    from mangaassist_assets.labelling.known_intents import messages_by_intent

    return messages_by_intent(read_corpus(store) if store.find("training_corpus") else [])


def _turns_until(store: "SnapshotStore", release_bundle: str) -> "list[ChatTurn]":
    """Return the reviewed turns of a bundle and of those that began before it."""
    from mangaassist_assets.assets.reading import read_turns
    from mangaassist_assets.core.bundles import bundles_by_start

    starts = bundles_by_start(store)
    own = starts.get(release_bundle)
    return [
        turn
        for bundle, start in starts.items()
        if own is not None and (start, bundle) <= (own, release_bundle)
        for turn in read_turns(store, bundle)
        if _is_reviewed(turn)
    ]


def _counts(counts: Mapping[str, int]) -> dg.MetadataValue:
    return table([{"what": what, "number": number} for what, number in counts.items()])


def _error_in_words(error: "ErrorRate", trials: str) -> str:
    if error.trials == 0:
        return f"not measured: no {trials}"
    return (
        f"{error.wrong} of {error.trials} {trials} got another intent than people gave "
        f"(95 % interval {error.low:.1%} to {error.high:.1%})"
    )


def _judge_in_words(model_id: str | None, error: "ErrorRate | None", kept_out: str | None) -> str:
    if model_id is None:
        return "no judge is configured"
    said = model_id if error is None else f"{model_id}: {_error_in_words(error, 'messages that people reviewed')}"
    return said if kept_out is None else f"{said}; its labels are left out: {kept_out}"


def _disagreements(found: "Sequence[Disagreement]") -> dg.MetadataValue:
    from datetime import UTC, datetime

    return table(
        [
            {
                "kind": one.kind,
                "traces": ", ".join(one.trace_ids[:5]),
                "answers": "; ".join(
                    f"{answer.intent} by {answer.by} on "
                    f"{datetime.fromtimestamp(answer.given_ms / 1000, tz=UTC):%Y-%m-%d %H:%M}"
                    for answer in one.answers[:6]
                ),
                "outcome": one.outcome,
            }
            for one in found[:_SHOWN]
        ]
    )
