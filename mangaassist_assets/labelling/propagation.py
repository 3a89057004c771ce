"""Propagation: what the reviews of a cluster say of its other members, and how often that is wrong.

The error is measured, not assumed: every reviewed shopper is left out in turn and their messages are guessed from the
reviews of the others, by the very rule that labels the unreviewed ones. What a label is trusted with follows from it.
Only intents are propagated: members of a cluster ask for the same kind of thing, but each may need a document of its
own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.labelling.cluster_reviews import (
    DEFAULT_PROPAGATION,
    ClusterReviews,
    NoVerdict,
    PropagationConfig,
    reviews_of_cluster,
)
from mangaassist_assets.labelling.disagreement import Answer, Disagreement, answer_of, disagreement, in_order
from mangaassist_assets.labelling.error_estimate import ErrorRate, error_rate
from mangaassist_assets.labelling.intent_labels import IntentLabel, label_of
from mangaassist_assets.labelling.people.hands import several_review
from mangaassist_assets.labelling.reviews import ReviewLabels
from mangaassist_assets.tracing.contract.turns import ChatTurn

if TYPE_CHECKING:
    from mangaassist_assets.mining.tracking.clusters import FailureCluster


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPropagation:
    """What one cluster's reviews were good for.

    `reviewed` counts shoppers with a reviewed message; `error` is the cluster's own trials with those of the other
    clusters as a prior, None where there is no intent to propagate; `refused` says why it labels nothing.
    """

    cluster_id: str
    intent: str | None
    reviewed: int
    error: ErrorRate | None
    labelled: int
    refused: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Propagation:
    """Propagated labels, ordered by trace id, and how many members got none for which reason.

    `error` is over all trials of the bundle. `disagreements` are the trials that went wrong: what the others' reviews
    would have said against what a person said.
    """

    labels: tuple[IntentLabel, ...]
    skipped: Mapping[str, int]
    error: ErrorRate
    clusters: tuple[ClusterPropagation, ...] = ()
    disagreements: tuple[Disagreement, ...] = ()


def propagate_labels(
    clusters: Sequence[FailureCluster],
    turns: Sequence[ChatTurn],
    embeddings: NDArray[np.float32],
    reviews: ReviewLabels,
    *,
    config: PropagationConfig = DEFAULT_PROPAGATION,
) -> Propagation:
    """Give unreviewed members of a cluster the intent on which its reviewed members agree.

    A label's confidence is one minus the bound of its cluster's error (`ErrorRate.bound`). Groups that were marked as
    noise have nothing in common and label nothing. Where several people review (`several_review`), two of them must
    stand behind an intent.

    `turns` are those behind the clusters, `embeddings` those of their messages, float32 of shape (len(turns), d), rows
    of length one. Messages on which `reviews` are in conflict neither vote nor receive.

    Raises:
        ValueError: `turns` and `embeddings` differ in length.
        KeyError: a cluster names a trace that is not among `turns`.
    """
    if len(turns) != len(embeddings):
        raise ValueError(f"{len(turns)} turns but {len(embeddings)} embeddings")
    rows = {turn.trace_id: row for row, turn in enumerate(turns)}
    human = {label.trace_id: label for label in reviews.labels}
    disputed = {trace_id for conflict in reviews.conflicts for trace_id in conflict.trace_ids}
    ordered = sorted(clusters, key=lambda one: one.cluster_id)
    people = reviews.people if several_review(reviews.people.values()) else None
    groups = [reviews_of_cluster(cluster, human, rows, embeddings, people=people) for cluster in ordered]
    trials = [_trials(group, config) for group in groups]
    pool = Counter[bool](trial.right for own in trials for trial in own)
    labels: list[IntentLabel] = []
    skipped: Counter[str] = Counter()
    reports: list[ClusterPropagation] = []
    for cluster, group, own in zip(ordered, groups, trials, strict=True):
        members = [
            turns[rows[trace_id]]
            for trace_id in cluster.trace_ids
            if trace_id not in human and trace_id not in disputed
        ]
        report = partial(ClusterPropagation, cluster_id=group.cluster_id, reviewed=len(group.shoppers))
        verdict = group.verdict(config)
        if isinstance(verdict, NoVerdict):
            reports.append(report(intent=None, error=None, labelled=0, refused=verdict.reason))
            skipped[verdict.reason] += len(members)
            continue
        error = _cluster_error(own, pool, config)
        if error.rate > config.maximum_error:
            over = f"the estimated error is over {config.maximum_error:.0%}"
            refused = over if pool.total() else "the error was not measured: no cluster has three reviewed shoppers"
            reports.append(report(intent=verdict, error=error, labelled=0, refused=refused))
            skipped[refused] += len(members)
            continue
        given = 0
        for turn in members:
            vector = embeddings[rows[turn.trace_id]]
            reason = "the guardrail blocked the message" if turn.guardrail_blocked else None
            reason = reason or group.refusal(verdict, vector, config)
            if reason is None:
                sources = group.nearest(verdict, vector, limit=config.named_sources)
                labels.append(
                    label_of(
                        turn,
                        verdict,
                        "propagated",
                        labeller=group.cluster_id,
                        labelled_ms=max(one.labelled_ms for one in sources),
                        confidence=round(1.0 - error.bound, 4),
                        sources=[one.trace_id for one in sources],
                    )
                )
                given += 1
            else:
                skipped[reason] += 1
        reports.append(report(intent=verdict, error=error, labelled=given, refused=None))
    return Propagation(
        labels=tuple(sorted(labels, key=lambda label: label.trace_id)),
        skipped={reason: count for reason, count in sorted(skipped.items()) if count},
        error=error_rate(pool[False], pool.total()),
        clusters=tuple(reports),
        disagreements=in_order(
            disagreement("propagated", trial.answers, outcome=f"the person's answer counts: {trial.said}")
            for own in trials
            for trial in own
            if not trial.right
        ),
    )


@dataclass(frozen=True, slots=True)
class _Trial:
    """One reviewed shopper whose messages were guessed from the others' reviews; wrong if one of them was."""

    right: bool
    said: str
    answers: tuple[Answer, ...] = ()


def _trials(group: ClusterReviews, config: PropagationConfig) -> list[_Trial]:
    """Leave out one reviewed shopper after the other; where the rule would not have guessed there is no trial."""
    trials: list[_Trial] = []
    newest = max((one.labelled_ms for one in group.labels), default=0)
    for shopper in group.shoppers:
        verdict = group.verdict(config, without=shopper)
        if isinstance(verdict, NoVerdict):
            continue
        guessed = [
            group.labels[row]
            for row in group.rows_of(shopper)
            if group.refusal(verdict, group.vectors[row], config, without=shopper) is None
        ]
        wrong = next((label for label in guessed if label.intent != verdict), None)
        if wrong is not None:
            guess = replace(answer_of(wrong), intent=verdict, kind="propagated", by=group.cluster_id, given_ms=newest)
            trials.append(_Trial(right=False, said=wrong.intent, answers=(answer_of(wrong), guess)))
        elif guessed:
            trials.append(_Trial(right=True, said=verdict))
    return trials


def _cluster_error(own: Sequence[_Trial], pool: Counter[bool], config: PropagationConfig) -> ErrorRate:
    """Return a cluster's error; with few trials of its own it leans on what propagation is like elsewhere."""
    counted = Counter(trial.right for trial in own)
    wrong_elsewhere, right_elsewhere = pool[False] - counted[False], pool[True] - counted[True]
    elsewhere = wrong_elsewhere + right_elsewhere
    scale = min(1.0, config.pooled_trials / elsewhere) if elsewhere else 0.0
    return error_rate(
        counted[False],
        counted.total(),
        prior_wrong=wrong_elsewhere * scale,
        prior_right=right_elsewhere * scale,
    )
