"""Propagation: what the reviews of a bundle say of its other failures, and how often that is wrong.

The error is measured, not assumed: every reviewed shopper is left out in turn and their failures are guessed from the
reviews of the others, by the very rule that labels the unreviewed ones. So is the rule chosen: the one that labels most
without being wrong too often. What a label is trusted with follows from it. Only intents are propagated: messages that
are alike ask for the same kind of thing, but each may need a document of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.labelling.disagreement import Answer, Disagreement, answer_of, disagreement, in_order
from mangaassist_assets.labelling.error_estimate import ErrorRate, error_rate
from mangaassist_assets.labelling.intent_labels import IntentLabel, label_of
from mangaassist_assets.labelling.reviewed_messages import (
    DEFAULT_PROPAGATION,
    Guess,
    PropagationConfig,
    PropagationRule,
    ReviewedMessages,
)
from mangaassist_assets.labelling.reviews import ReviewLabels
from mangaassist_assets.privacy import shopper_of
from mangaassist_assets.tracing.contract.turns import ChatTurn

if TYPE_CHECKING:
    from mangaassist_assets.mining.tracking.clusters import FailureCluster

NOISE = "the group is noise"
NOT_CLEAR = "not clearly nearer to one intent's reviewed messages"
NOTHING_REVIEWED = "nothing was reviewed that speaks for it"
NOT_MEASURED = "the error was not measured: too few reviewed shoppers"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPropagation:
    """What reviews were good for in one cluster.

    `intents` are those that its members got, `reviewed` counts shoppers with a reviewed message in it; `error` is the
    cluster's own trials with those of the other clusters as a prior, None where nothing was tried; `refused` says why
    nothing in it is labelled.
    """

    cluster_id: str
    intents: tuple[str, ...]
    reviewed: int
    error: ErrorRate | None
    labelled: int
    refused: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Propagation:
    """Propagated labels, ordered by trace id, and how many members got none for which reason.

    `error` is over all trials of the bundle by `rule`, which is None where nothing is labelled.
    `disagreements` are the trials that went wrong: what the others' reviews would have said against what a person said.
    """

    labels: tuple[IntentLabel, ...]
    skipped: Mapping[str, int]
    error: ErrorRate
    rule: PropagationRule | None = None
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
    """Give unreviewed failures the intent whose reviewed messages they are clearly the nearest to.

    A label's confidence is one minus the bound of its cluster's error (`ErrorRate.bound`). Groups that were marked as
    noise have nothing in common with anything, and get nothing.

    `turns` are those behind the clusters and other reviewed ones, `embeddings` those of their messages, float32 of
    shape (len(turns), d), rows of length one. Messages on which `reviews` are in conflict neither vote nor receive.

    Raises:
        ValueError: `turns` and `embeddings` differ in length.
        KeyError: a cluster names a trace that is not among `turns`.
    """
    if len(turns) != len(embeddings):
        raise ValueError(f"{len(turns)} turns but {len(embeddings)} embeddings")
    return _Bundle(clusters, turns, embeddings, reviews, config).propagation()


@dataclass(frozen=True, slots=True)
class _Trial:
    """One reviewed shopper of a cluster whose failures were guessed from the others' reviews."""

    cluster_id: str
    right: bool
    label: IntentLabel
    guessed: str


class _Bundle:
    """The failures of a bundle with what people said of some of them."""

    def __init__(
        self,
        clusters: Sequence[FailureCluster],
        turns: Sequence[ChatTurn],
        embeddings: NDArray[np.float32],
        reviews: ReviewLabels,
        config: PropagationConfig,
    ) -> None:
        self._config = config
        self._turns = {turn.trace_id: turn for turn in turns}
        self._vectors = {turn.trace_id: embeddings[row] for row, turn in enumerate(turns)}
        self._human = {label.trace_id: label for label in reviews.labels if label.trace_id in self._vectors}
        self._disputed = {trace_id for conflict in reviews.conflicts for trace_id in conflict.trace_ids}
        labels = [label for _, label in sorted(self._human.items())]
        vectors = np.array([self._vectors[label.trace_id] for label in labels], dtype=np.float32)
        self._messages = ReviewedMessages(labels, vectors.reshape(len(labels), embeddings.shape[1]), config)
        self._newest_ms = max((label.labelled_ms for label in labels), default=0)
        self._clusters = sorted(clusters, key=lambda one: one.cluster_id)

    def propagation(self) -> Propagation:
        """Return the labels by the best rule."""
        tried = [
            (PropagationRule(margin, doubts), guesses, self._trials(tests, margin))
            for doubts in (True, False)
            for guesses, tests in [(self._guesses(doubts_answer=doubts), self._tests(doubts_answer=doubts))]
            for margin in self._config.margins
        ]
        # What labels most; of several such the one that asks for more.
        best = max(tried, key=lambda one: (self._worth(*one), one[0].margin, one[0].doubts_answer))
        return self._labelled(*best)

    def _worth(self, rule: PropagationRule, guesses: Mapping[str, Guess], trials: Sequence[_Trial]) -> int:
        """Return how many failures a rule labels, -1 if nobody knows how often it is wrong."""
        if not trials:
            return -1
        errors = self._errors(trials)
        return sum(
            self._is_right_enough(errors[cluster.cluster_id])
            and sum(trace_id in guesses and _is_said(guesses[trace_id], rule.margin) for trace_id in cluster.trace_ids)
            for cluster in self._clusters
        )

    def _errors(self, trials: Sequence[_Trial]) -> dict[str, ErrorRate]:
        """Return the error of each cluster; with few trials of its own it leans on what propagation is elsewhere."""
        pool = Counter(trial.right for trial in trials)
        own: dict[str, Counter[bool]] = {cluster.cluster_id: Counter() for cluster in self._clusters}
        for trial in trials:
            own[trial.cluster_id][trial.right] += 1
        return {cluster_id: _error(counted, pool - counted, self._config) for cluster_id, counted in own.items()}

    def _is_right_enough(self, error: ErrorRate) -> bool:
        return error.rate <= self._config.maximum_error

    def _guesses(self, *, doubts_answer: bool) -> dict[str, Guess]:
        """Return what the reviews say of each failure that nobody reviewed, by trace id."""
        return {
            turn.trace_id: guess
            for cluster in self._clusters
            if not cluster.noise
            for turn in self._unreviewed(cluster)
            for guess in [self._messages.guess(self._vectors[turn.trace_id], turn.intent, doubts_answer=doubts_answer)]
            if guess is not None
        }

    def _tests(self, *, doubts_answer: bool) -> list[tuple[str, str, IntentLabel, Guess]]:
        """Return cluster, shopper, label and guess of each reviewed failure, guessed without its shopper's reviews."""
        return [
            (cluster.cluster_id, shopper, label, guess)
            for cluster in self._clusters
            if not cluster.noise
            for label in self._reviewed(cluster)
            for shopper in [shopper_of(label.user_key, label.session_id)]
            for guess in [
                self._messages.guess(
                    self._vectors[label.trace_id],
                    self._turns[label.trace_id].intent,
                    doubts_answer=doubts_answer,
                    without=shopper,
                )
            ]
            if guess is not None
        ]

    @staticmethod
    def _trials(tests: Sequence[tuple[str, str, IntentLabel, Guess]], margin: float) -> list[_Trial]:
        """Return a trial a cluster and shopper, wrong if one of its guesses is; what gets no label is no trial."""
        trials: dict[tuple[str, str], _Trial] = {}
        for cluster_id, shopper, label, guess in tests:
            if _is_said(guess, margin):
                right = guess.intent == label.intent
                before = trials.get((cluster_id, shopper))
                if before is None or (before.right and not right):
                    trials[cluster_id, shopper] = _Trial(cluster_id, right, label, guess.intent)
        return list(trials.values())

    def _labelled(self, rule: PropagationRule, guesses: Mapping[str, Guess], trials: Sequence[_Trial]) -> Propagation:
        errors = self._errors(trials) if trials else {}
        labels: list[IntentLabel] = []
        skipped: Counter[str] = Counter()
        reports: list[ClusterPropagation] = []
        for cluster in self._clusters:
            members = self._unreviewed(cluster)
            error = errors.get(cluster.cluster_id)
            refused = NOISE if cluster.noise else NOT_MEASURED if error is None else None
            if refused is None and error is not None and not self._is_right_enough(error):
                refused = f"the estimated error is over {self._config.maximum_error:.0%}"
            given: list[IntentLabel] = []
            for turn in members:
                guess = guesses.get(turn.trace_id)
                if turn.guardrail_blocked:
                    skipped["the guardrail blocked the message"] += 1
                elif guess is None:
                    skipped[NOISE if cluster.noise else NOTHING_REVIEWED] += 1
                elif guess.refused is not None or refused is not None or error is None:
                    skipped[guess.refused or refused or NOT_MEASURED] += 1
                elif guess.margin < rule.margin:
                    skipped[NOT_CLEAR] += 1
                else:
                    given.append(self._label(turn, guess.intent, cluster.cluster_id, error))
            labels += given
            reports.append(
                ClusterPropagation(
                    cluster_id=cluster.cluster_id,
                    intents=tuple(sorted({label.intent for label in given})),
                    reviewed=len({shopper_of(one.user_key, one.session_id) for one in self._reviewed(cluster)}),
                    error=error,
                    labelled=len(given),
                    refused=refused,
                )
            )
        return Propagation(
            labels=tuple(sorted(labels, key=lambda label: label.trace_id)),
            skipped=dict(sorted(skipped.items())),
            error=_measured(trials),
            rule=rule if labels else None,
            clusters=tuple(reports),
            disagreements=in_order(
                disagreement(
                    "propagated", self._answers(trial), outcome=f"the person's answer counts: {trial.label.intent}"
                )
                for trial in trials
                if not trial.right
            ),
        )

    def _label(self, turn: ChatTurn, intent: str, cluster_id: str, error: ErrorRate) -> IntentLabel:
        sources = self._messages.nearest(intent, self._vectors[turn.trace_id])
        return label_of(
            turn,
            intent,
            "propagated",
            labeller=cluster_id,
            labelled_ms=max(one.labelled_ms for one in sources),
            confidence=round(1.0 - error.bound, 4),
            sources=[one.trace_id for one in sources],
        )

    def _answers(self, trial: _Trial) -> tuple[Answer, ...]:
        said = answer_of(trial.label)
        guessed = replace(said, intent=trial.guessed, kind="propagated", by=trial.cluster_id, given_ms=self._newest_ms)
        return said, guessed

    def _reviewed(self, cluster: FailureCluster) -> list[IntentLabel]:
        return [self._human[trace_id] for trace_id in sorted(cluster.trace_ids) if trace_id in self._human]

    def _unreviewed(self, cluster: FailureCluster) -> list[ChatTurn]:
        return [
            self._turns[trace_id]
            for trace_id in cluster.trace_ids
            if trace_id not in self._human and trace_id not in self._disputed
        ]


def _is_said(guess: Guess, margin: float) -> bool:
    return guess.refused is None and guess.margin >= margin


def _measured(trials: Sequence[_Trial]) -> ErrorRate:
    return error_rate(sum(not trial.right for trial in trials), len(trials))


def _error(own: Counter[bool], elsewhere: Counter[bool], config: PropagationConfig) -> ErrorRate:
    scale = min(1.0, config.pooled_trials / elsewhere.total()) if elsewhere.total() else 0.0
    return error_rate(
        own[False],
        own.total(),
        prior_wrong=elsewhere[False] * scale,
        prior_right=elsewhere[True] * scale,
    )
