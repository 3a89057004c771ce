"""The review queue: which failed turns are worth a person's minute.

A turn's score is uncertainty × cluster weight × novelty. Uncertainty is what the classifier did not know, of this turn
and of the turns like it. The weight of a cluster counts shoppers, not turns: somebody who complains ten thousand times
is one shopper. Novelty is the distance to what a person has seen already or is going to see, so nobody is asked twice.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Flags
from mangaassist_assets.labelling.reviews import is_reviewed
from mangaassist_assets.privacy import shopper_of
from mangaassist_assets.tracing.contract.turns import ChatTurn

if TYPE_CHECKING:
    from mangaassist_assets.mining.tracking.clusters import FailureCluster

Question = Literal["intent", "documents"]
"""What a reviewer is asked: what the shopper wanted, and which documents answer it."""

QueueOrigin = Literal["audit", "failure queue"]
AskedAs = Literal["audit", "failure queue", "second look"]
BOTH_QUESTIONS: tuple[Question, ...] = ("intent", "documents")
_STAGES_OF_DOCUMENTS = frozenset({"retrieval", "reranker", "generation", "unknown"})
_DECIMALS = 6
_BLOCK = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewCandidate:
    """A failed turn that a person could be asked about.

    `confidence` is the classifier's probability, None where the trace does not say. `cluster_users` counts distinct
    shoppers of its cluster, `cluster_reviewed` those of them with a reviewed message, and `disagreement`, 0 to 1, says
    how little the classifier agrees with itself there.
    `barred` is the reason why nobody is asked about it, if there is one.
    """

    trace_id: str
    shopper: str
    cluster_id: str
    cluster_name: str
    cluster_users: int
    confidence: float | None
    disagreement: float
    cluster_reviewed: int = 0
    questions: tuple[Question, ...] = BOTH_QUESTIONS
    barred: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueConfig:
    """Caps and floors of the queue.

    The share `audit_share` of what is asked is drawn at random from all traffic; all else here is about failures. A
    turn the classifier was sure of has `minimum_uncertainty` all the same: it failed. A message is wholly new, with
    novelty 1, from distance `new_from` (one minus cosine) on, so that outliers are no more worth than what many say;
    below `minimum_novelty` it repeats what a person saw. A cluster has half its weight left once `half_answered` of its
    shoppers were reviewed or are in the queue.
    """

    audit_share: float = 0.5
    per_shopper: int = 2
    per_cluster: int = 10
    half_answered: int = 5
    minimum_uncertainty: float = 0.1
    new_from: float = 0.3
    minimum_novelty: float = 0.1


DEFAULT_QUEUE = QueueConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueItem:
    """One turn to review, with what made it worth it; `rank` counts from 1, `score` is the product of the factors.

    A failure that is drawn for the audit as well has its `inclusion_probability`; other failures have none. A turn of
    the audit alone, or one that is looked at a second time, has no score and no factors, and a cluster only if it
    failed.
    """

    rank: int
    trace_id: str
    origin: AskedAs
    inclusion_probability: float | None
    cluster_id: str | None
    cluster_name: str | None
    score: float | None
    uncertainty: float | None
    cluster_weight: float | None
    novelty: float | None
    questions: tuple[Question, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picking:
    """Failed turns to review, best first, and how many candidates are not among them for which reason."""

    items: tuple[QueueItem, ...]
    excluded: Mapping[str, int]


def review_candidates(
    clusters: Sequence[FailureCluster], turns: Mapping[str, ChatTurn], *, handled: Collection[str] = ()
) -> list[ReviewCandidate]:
    """Return every clustered failure as a candidate, barred where somebody spoke already or nobody should be asked.

    Args:
        clusters: the failure clusters of a bundle.
        turns: the bundle's turns by trace id, at least those of the clusters.
        handled: traces that a reviewer declined, or is done with without having answered.

    Raises:
        KeyError: a cluster names a trace that is not among `turns`.
    """
    candidates: list[ReviewCandidate] = []
    for cluster in clusters:
        members = [turns[trace_id] for trace_id in cluster.trace_ids]
        shoppers = {shopper_of(turn.user_key, turn.session_id) for turn in members}
        reviewed = {shopper_of(turn.user_key, turn.session_id) for turn in members if is_reviewed(turn)}
        disagreement = round(_disagreement(members), _DECIMALS)
        questions: tuple[Question, ...] = BOTH_QUESTIONS if cluster.stage in _STAGES_OF_DOCUMENTS else ("intent",)
        candidates += [
            ReviewCandidate(
                trace_id=turn.trace_id,
                shopper=shopper_of(turn.user_key, turn.session_id),
                cluster_id=cluster.cluster_id,
                cluster_name=cluster.name,
                cluster_users=len(shoppers),
                cluster_reviewed=len(reviewed),
                confidence=turn.intent_confidence,
                disagreement=disagreement,
                questions=questions,
                barred=_barred(turn, handled),
            )
            for turn in members
        ]
    return sorted(candidates, key=lambda one: one.trace_id)


def pick_for_review(
    candidates: Sequence[ReviewCandidate],
    vectors: NDArray[np.float32],
    *,
    seen: NDArray[np.float32] | None = None,
    asked_anyway: Collection[str] = (),
    budget: int,
    config: QueueConfig = DEFAULT_QUEUE,
) -> Picking:
    """Choose up to `budget` candidates, one after the other, each the best given those before it.

    The same candidates in any order give the same queue.

    Args:
        candidates: with distinct trace ids.
        vectors: of their messages, float32 of shape (len(candidates), d), rows of length one.
        seen: of messages that people see anyway, shape (m, d), rows of length one.
        asked_anyway: traces that people are asked about for another reason: to choose one costs nothing.
        budget: how many turns people have time for.
        config: caps and floors.

    Raises:
        ValueError: a negative budget, an id twice, vectors that do not fit or are not finite.
    """
    _check(candidates, vectors, seen, budget)
    order = sorted(range(len(candidates)), key=lambda row: candidates[row].trace_id)
    excluded: Counter[str] = Counter()
    rows: list[int] = []
    for row in order:
        reason = candidates[row].barred
        if reason is None:
            rows.append(row)
        else:
            excluded[reason] += 1
    pool = _Pool([candidates[row] for row in rows], vectors[rows], seen=seen, config=config)
    items: list[QueueItem] = []
    spent = 0
    while spent < budget and (item := pool.take(rank=len(items) + 1)) is not None:
        items.append(item)
        spent += item.trace_id not in asked_anyway
    excluded.update(pool.left_out(asked_anyway, budget_spent=spent == budget))
    return Picking(items=tuple(items), excluded=dict(sorted(excluded.items())))


class _Pool:
    """Candidates that are still to be had, ordered by trace id, with novelty as of the last pick."""

    def __init__(
        self,
        candidates: Sequence[ReviewCandidate],
        vectors: NDArray[np.float32],
        *,
        seen: NDArray[np.float32] | None,
        config: QueueConfig,
    ) -> None:
        self._candidates = candidates
        self._vectors = vectors
        self._config = config
        self._reasons: dict[int, str] = {}
        self._open = np.ones(len(candidates), dtype=np.bool_)
        self._nearest = np.zeros(len(candidates), dtype=np.float64)
        if seen is not None and len(seen):
            for start in range(0, len(seen), _BLOCK):
                self._look(seen[start : start + _BLOCK])
        most = max((one.cluster_users for one in candidates), default=1)
        self._uncertainty = np.array([_uncertainty(one, config) for one in candidates], dtype=np.float64)
        self._weight = np.array(
            [
                self._left_of_weight(one.cluster_reviewed) * math.log1p(one.cluster_users) / math.log1p(max(most, 1))
                for one in candidates
            ],
            dtype=np.float64,
        )
        self._of_shopper: defaultdict[str, list[int]] = defaultdict(list)
        self._of_cluster: defaultdict[str, list[int]] = defaultdict(list)
        for row, one in enumerate(candidates):
            self._of_shopper[one.shopper].append(row)
            self._of_cluster[one.cluster_id].append(row)
        self._taken: Counter[str] = Counter()

    def take(self, *, rank: int) -> QueueItem | None:
        """Take the best candidate out; None if no candidate is left."""
        novelty = np.round(np.minimum((1.0 - self._nearest) / self._config.new_from, 1.0), _DECIMALS)
        self._close(self._open & (novelty < self._config.minimum_novelty), "almost the same message is seen already")
        if not self._open.any():
            return None
        scores = np.round(self._uncertainty * self._weight * novelty, _DECIMALS)
        row = int(np.argmax(np.where(self._open, scores, -1.0)))
        chosen = self._candidates[row]
        item = QueueItem(
            rank=rank,
            trace_id=chosen.trace_id,
            origin="failure queue",
            inclusion_probability=None,
            cluster_id=chosen.cluster_id,
            cluster_name=chosen.cluster_name,
            score=float(scores[row]),
            uncertainty=round(float(self._uncertainty[row]), _DECIMALS),
            cluster_weight=round(float(self._weight[row]), _DECIMALS),
            novelty=float(novelty[row]),
            questions=chosen.questions,
            reason=_reason(chosen, float(novelty[row])),
        )
        self._open[row] = False
        self._look(self._vectors[row : row + 1])
        answered = chosen.cluster_reviewed + self._taken[f"c:{chosen.cluster_id}"]
        same = self._of_cluster[chosen.cluster_id]
        self._weight[same] *= self._left_of_weight(answered + 1) / self._left_of_weight(answered)
        for key, rows, cap, reason in (
            (f"s:{chosen.shopper}", self._of_shopper[chosen.shopper], self._config.per_shopper, "cap per shopper"),
            (
                f"c:{chosen.cluster_id}",
                self._of_cluster[chosen.cluster_id],
                self._config.per_cluster,
                "cap per cluster",
            ),
        ):
            self._taken[key] += 1
            if self._taken[key] >= cap:
                own = np.zeros(len(self._open), dtype=np.bool_)
                own[rows] = True
                self._close(self._open & own, f"over the {reason}")
        return item

    def left_out(self, asked_anyway: Collection[str], *, budget_spent: bool) -> Counter[str]:
        """Count the candidates that were not taken by reason, without those that are asked about anyway."""
        reasons = dict(self._reasons)
        if budget_spent:
            reasons |= dict.fromkeys(np.flatnonzero(self._open).tolist(), "over the budget")
        return Counter(reason for row, reason in reasons.items() if self._candidates[row].trace_id not in asked_anyway)

    def _left_of_weight(self, answered: int) -> float:
        return 1.0 / (1.0 + answered / self._config.half_answered)

    def _look(self, shown: NDArray[np.float32]) -> None:
        if len(self._candidates):
            cosines = (self._vectors @ shown.T).max(axis=1).astype(np.float64)
            self._nearest = np.clip(np.maximum(self._nearest, cosines), 0.0, 1.0)

    def _close(self, mask: Flags, reason: str) -> None:
        for row in np.flatnonzero(mask).tolist():
            self._reasons[row] = reason
        self._open &= ~mask


def _uncertainty(candidate: ReviewCandidate, config: QueueConfig) -> float:
    """Return 1 - confidence, raised by the disagreement around it; what is no probability counts as not known."""
    confidence = candidate.confidence
    if confidence is None or not 0.0 <= confidence <= 1.0:
        return 1.0
    sure = confidence * (1.0 - candidate.disagreement)
    return max(1.0 - sure, config.minimum_uncertainty)


def _disagreement(members: Sequence[ChatTurn]) -> float:
    """Return the share of shoppers whose messages got another intent than the most common one, 0 with one shopper."""
    shoppers: defaultdict[str, set[str]] = defaultdict(set)
    for turn in members:
        if turn.intent is not None:
            shoppers[turn.intent].add(shopper_of(turn.user_key, turn.session_id))
    votes = sum(len(group) for group in shoppers.values())
    return 0.0 if votes == 0 else 1.0 - max(len(group) for group in shoppers.values()) / votes


def _barred(turn: ChatTurn, handled: Collection[str]) -> str | None:
    if turn.guardrail_blocked:
        return "the guardrail blocked the message"
    if not turn.learnable_text.strip():
        return "the message is empty"
    if is_reviewed(turn):
        return "reviewed already"
    if turn.trace_id in handled:
        return "a reviewer declined it, or is done with it"
    return None


def _reason(candidate: ReviewCandidate, novelty: float) -> str:
    confidence = candidate.confidence
    known = "the classifier's confidence is not known" if confidence is None else f"confidence {confidence:.2f}"
    shoppers = "1 shopper" if candidate.cluster_users == 1 else f"{candidate.cluster_users} shoppers"
    return (
        f"{known}; {shoppers} in its cluster, {candidate.disagreement:.0%} of them given another intent than the most "
        f"common one; novelty {novelty:.0%} beside what was reviewed or is ahead of it in the queue"
    )


def _check(
    candidates: Sequence[ReviewCandidate],
    vectors: NDArray[np.float32],
    seen: NDArray[np.float32] | None,
    budget: int,
) -> None:
    if budget < 0:
        raise ValueError(f"a budget of {budget} reviews is no budget: give 0 or more")
    if len(candidates) != len(vectors):
        raise ValueError(f"{len(candidates)} candidates but {len(vectors)} vectors")
    counted = Counter(one.trace_id for one in candidates)
    twice = sorted(trace_id for trace_id, count in counted.items() if count > 1)
    if twice:
        raise ValueError(f"trace {twice[0]} is a candidate twice: a failed turn belongs to one cluster")
    if seen is not None and len(seen) and len(vectors) and seen.shape[1] != vectors.shape[1]:
        raise ValueError(
            f"candidates have {vectors.shape[1]} dimensions and reviewed messages {seen.shape[1]}: embed both alike"
        )
    if not np.isfinite(vectors).all() or (seen is not None and not np.isfinite(seen).all()):
        raise ValueError("a vector is not finite: embed the messages again")
