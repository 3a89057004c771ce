"""Labels of messages: where from and how sure. Human reviews first, then what a cluster's reviews say of its others.

Only intents are propagated: the members of a cluster ask for the same kind of thing, but each may need a document
of its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.datasets.intent_labels import IntentLabel, LabelConflict, LabelKind
from mangaassist_assets.datasets.text_keys import normalise_text
from mangaassist_assets.mining.clusters import FailureCluster
from mangaassist_assets.tracing.names import EXPECTED_INTENT
from mangaassist_assets.tracing.turns import ChatTurn


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewLabels:
    """What reviews say, ordered by (timestamp_ms, trace_id), and what they contradict each other on."""

    labels: tuple[IntentLabel, ...]
    conflicts: tuple[LabelConflict, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PropagationConfig:
    """When a cluster's reviews speak for its other members.

    At least `minimum_reviewers` distinct shoppers' messages were reviewed alike, they are `minimum_agreement` of all
    reviewed shoppers in the cluster, and the message has cosine `minimum_similarity` or more to one of them.
    """

    minimum_reviewers: int = 2
    minimum_agreement: float = 0.75
    minimum_similarity: float = 0.5


DEFAULT_PROPAGATION = PropagationConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class Propagation:
    """Propagated labels, ordered by trace id, and how many members got none for which reason."""

    labels: tuple[IntentLabel, ...]
    skipped: Mapping[str, int]


def labels_from_reviews(turns: Iterable[ChatTurn]) -> ReviewLabels:
    """Return the intents that people gave; a message of conflicting reviews is listed and left out, not averaged."""
    reviewed = sorted(
        (turn for turn in turns if turn.expected_intent is not None),
        key=lambda turn: (turn.timestamp_ms, turn.trace_id),
    )
    by_text: defaultdict[str, list[ChatTurn]] = defaultdict(list)
    for turn in reviewed:
        by_text[normalise_text(turn.learnable_text)].append(turn)
    conflicts: list[LabelConflict] = []
    excluded: set[str] = set()
    for same in by_text.values():
        intents = sorted({turn.expected_intent for turn in same if turn.expected_intent is not None})
        if len(intents) > 1:
            trace_ids = tuple(sorted(turn.trace_id for turn in same))
            conflicts.append(LabelConflict(trace_ids=trace_ids, answers=tuple(intents)))
            excluded.update(trace_ids)
    labels = tuple(
        _label(
            turn,
            turn.expected_intent,
            kind="human",
            confidence=1.0,
            sources=(turn.trace_id,),
            labeller=turn.reviewer or "unknown",
            labelled_ms=_reviewed_ms(turn),
        )
        for turn in reviewed
        if turn.trace_id not in excluded and turn.expected_intent is not None
    )
    return ReviewLabels(labels=labels, conflicts=tuple(sorted(conflicts, key=lambda one: one.trace_ids)))


def propagate_labels(
    clusters: Sequence[FailureCluster],
    turns: Sequence[ChatTurn],
    embeddings: NDArray[np.float32],
    reviews: ReviewLabels,
    *,
    config: PropagationConfig = DEFAULT_PROPAGATION,
) -> Propagation:
    """Give unreviewed members of a cluster the intent on which its reviewed members agree.

    Args:
        clusters: the failure clusters of a bundle.
        turns: the turns behind them.
        embeddings: of the turns' messages, float32 of shape (len(turns), d), rows of length one.
        reviews: from `labels_from_reviews`; messages in conflict neither vote nor receive.
        config: thresholds.

    Raises:
        ValueError: `turns` and `embeddings` differ in length.
        KeyError: a cluster names a trace that is not among `turns`.
    """
    if len(turns) != len(embeddings):
        msg = f"{len(turns)} turns but {len(embeddings)} embeddings"
        raise ValueError(msg)
    rows = {turn.trace_id: row for row, turn in enumerate(turns)}
    human = {label.trace_id: label for label in reviews.labels}
    disputed = {trace_id for conflict in reviews.conflicts for trace_id in conflict.trace_ids}
    labels: list[IntentLabel] = []
    skipped: Counter[str] = Counter()
    for cluster in clusters:
        voters = [human[trace_id] for trace_id in cluster.trace_ids if trace_id in human]
        open_members = [
            trace_id for trace_id in cluster.trace_ids if trace_id not in human and trace_id not in disputed
        ]
        verdict = _agreed_intent(voters, config)
        if isinstance(verdict, _NoVerdict):
            skipped[verdict.reason] += len(open_members)
            continue
        witness_rows = [rows[voter.trace_id] for voter in voters]
        for trace_id in open_members:
            turn = turns[rows[trace_id]]
            if turn.guardrail_blocked:
                skipped["the guardrail blocked the message"] += 1
                continue
            similarities = embeddings[witness_rows] @ embeddings[rows[trace_id]]
            nearest = int(np.argmax(similarities))
            if voters[nearest].intent != verdict.intent:
                skipped["the nearest reviewed message has another intent"] += 1
            elif similarities[nearest] < config.minimum_similarity:
                skipped["not similar enough to a reviewed message"] += 1
            else:
                confidence = round(verdict.agreement * min(float(similarities[nearest]), 1.0), 4)
                sources = tuple(sorted(voter.trace_id for voter in voters if voter.intent == verdict.intent))
                labels.append(
                    _label(
                        turn,
                        verdict.intent,
                        kind="propagated",
                        confidence=confidence,
                        sources=sources,
                        labeller=cluster.cluster_id,
                        labelled_ms=max(voter.labelled_ms for voter in voters),
                    )
                )
    return Propagation(
        labels=tuple(sorted(labels, key=lambda label: label.trace_id)), skipped=dict(sorted(skipped.items()))
    )


@dataclass(frozen=True, slots=True)
class _Verdict:
    intent: str
    agreement: float


@dataclass(frozen=True, slots=True)
class _NoVerdict:
    reason: str


def _agreed_intent(voters: Sequence[IntentLabel], config: PropagationConfig) -> _Verdict | _NoVerdict:
    """One shopper has one vote for an intent, however many of their messages were reviewed."""
    users: defaultdict[str, set[str]] = defaultdict(set)
    for voter in voters:
        users[voter.intent].add(voter.user_key or f"session:{voter.session_id}")
    if not users:
        return _NoVerdict("no reviewed message in the cluster")
    votes = sum(len(members) for members in users.values())
    intent = min(users, key=lambda name: (-len(users[name]), name))
    if len(users[intent]) < config.minimum_reviewers:
        return _NoVerdict("too few shoppers with a reviewed message in the cluster")
    agreement = len(users[intent]) / votes
    if agreement < config.minimum_agreement:
        return _NoVerdict("reviews in the cluster disagree")
    return _Verdict(intent, agreement)


def _reviewed_ms(turn: ChatTurn) -> int:
    times = [one.timestamp_ms for one in turn.reviews if one.name == EXPECTED_INTENT and one.source == "human"]
    return max(times, default=turn.timestamp_ms)


def _label(
    turn: ChatTurn,
    intent: str,
    *,
    kind: LabelKind,
    confidence: float,
    sources: tuple[str, ...],
    labeller: str,
    labelled_ms: int,
) -> IntentLabel:
    return IntentLabel(
        trace_id=turn.trace_id,
        text=turn.learnable_text,
        intent=intent,
        kind=kind,
        confidence=confidence,
        sources=sources,
        release_bundle=turn.release_bundle,
        session_id=turn.session_id,
        user_key=turn.user_key,
        timestamp_ms=turn.timestamp_ms,
        labeller=labeller,
        labelled_ms=labelled_ms,
    )
