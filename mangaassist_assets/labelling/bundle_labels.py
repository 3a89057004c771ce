"""The labels of one release bundle: people's reviews, a judge where there is one, and what clusters propagate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from mangaassist_assets.labelling.cluster_reviews import DEFAULT_PROPAGATION, PropagationConfig
from mangaassist_assets.labelling.gathering import GatheredLabels, gather_labels
from mangaassist_assets.labelling.judge import DEFAULT_JUDGING, NO_JUDGE, JudgingConfig, judge_labels
from mangaassist_assets.labelling.judge_answers import IntentJudge, IntentJudgement
from mangaassist_assets.labelling.reviews import labels_from_reviews
from mangaassist_assets.retrieval.types import Vectors
from mangaassist_assets.tracing.contract.turns import ChatTurn

if TYPE_CHECKING:
    from mangaassist_assets.mining.tracking.clusters import FailureCluster


def label_bundle(
    turns: Sequence[ChatTurn],
    clusters: Sequence[FailureCluster],
    *,
    intents: Mapping[str, Sequence[str]],
    embed: Callable[[Sequence[str]], Vectors],
    judge: IntentJudge | None = None,
    queued: Collection[str] = (),
    judged_before: Mapping[str, IntentJudgement] | None = None,
    judging: JudgingConfig = DEFAULT_JUDGING,
    propagation: PropagationConfig = DEFAULT_PROPAGATION,
) -> GatheredLabels:
    """Return one label for each turn of a bundle that has one.

    Args:
        turns: The bundle's turns.
        clusters: Its failure clusters.
        intents: The known intents, each with a few redacted example messages.
        embed: Returns the vectors of messages, each of length one.
        judge: The language model that is asked, if there is one.
        queued: Trace ids of the review queue; the judge is asked about those that nobody reviewed.
        judged_before: The judge's answers of an earlier call, by `judgement_key`.
        judging: When the judge's answers count.
        propagation: When a cluster's reviews count for its other members.
    """
    reviews = labels_from_reviews(turns, known_intents=intents)
    members = {trace_id for cluster in clusters for trace_id in cluster.trace_ids}
    failed = [turn for turn in turns if turn.trace_id in members]
    judged = NO_JUDGE
    if judge is not None:
        judged = judge_labels(
            judge,
            [turn for turn in failed if turn.trace_id in queued],
            {label.trace_id: label for label in reviews.labels},
            intents=intents,
            earlier=judged_before,
            config=judging,
        )
    vectors = embed([turn.learnable_text for turn in failed])
    return gather_labels(reviews, clusters, failed, vectors, judging=judged, propagation=propagation)
