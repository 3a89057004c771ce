"""The review queue: which failed turns are worth a person's minute.

A review says something of every failure that is like it. So the turns are chosen that together are as near as possible
to all of them, one after the other, each by what it adds to what people see anyway (facility location: Nemhauser,
Wolsey and Fisher 1978). A shopper counts for as many turns as they may be asked about: somebody who complains ten
thousand times is one shopper.

How unsure the classifier was is no part of it: of an intent that it never learned it is often sure, and those are the
failures that a review is worth most for (`benchmarks/bench_reviews.py`).
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.labelling.reviews import is_reviewed
from mangaassist_assets.privacy import shopper_of
from mangaassist_assets.tracing.contract.turns import ChatTurn

if TYPE_CHECKING:
    from mangaassist_assets.mining.tracking.clusters import FailureCluster

Question = Literal["intent", "documents"]
"""What a reviewer is asked: what the shopper wanted, and which documents answer it."""

QueueOrigin = Literal["audit", "failure queue"]
BOTH_QUESTIONS: tuple[Question, ...] = ("intent", "documents")
_STAGES_OF_DOCUMENTS = frozenset({"retrieval", "reranker", "generation", "unknown"})
_DECIMALS = 6
_BLOCK = 128
_LIKE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewCandidate:
    """A failed turn that a person could be asked about.

    `barred` is the reason why nobody is asked about it, if there is one.
    """

    trace_id: str
    shopper: str
    cluster_id: str
    cluster_name: str
    questions: tuple[Question, ...] = BOTH_QUESTIONS
    barred: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueConfig:
    """Caps and floors of the queue.

    The share `audit_share` of what is asked is drawn at random from all traffic; all else here is about failures. A
    message with the cosine `same_from` to one that people see repeats that one. Where more than `most_compared` turns
    failed, so many of them, chosen by a hash, stand for all.
    """

    audit_share: float = 0.5
    per_shopper: int = 2
    per_cluster: int = 10
    same_from: float = 0.97
    most_compared: int = 4096


DEFAULT_QUEUE = QueueConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueItem:
    """One turn to review, with what made it worth it; `rank` counts from 1.

    `score` is by how much failures are nearer to something that people see (cosine, added up over failures) once this
    one is seen, and `speaks_for` is how many of them are like it and like nothing else as much. A failure that is drawn
    for the audit as well has its `inclusion_probability`; other failures have none. A turn of the audit alone has no
    score, and a cluster only if it failed.
    """

    rank: int
    trace_id: str
    origin: QueueOrigin
    inclusion_probability: float | None
    cluster_id: str | None
    cluster_name: str | None
    score: float | None
    speaks_for: int | None
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
    return sorted(
        (
            ReviewCandidate(
                trace_id=trace_id,
                shopper=shopper_of(turns[trace_id].user_key, turns[trace_id].session_id),
                cluster_id=cluster.cluster_id,
                cluster_name=cluster.name,
                questions=BOTH_QUESTIONS if cluster.stage in _STAGES_OF_DOCUMENTS else ("intent",),
                barred=_barred(turns[trace_id], handled),
            )
            for cluster in clusters
            for trace_id in cluster.trace_ids
        ),
        key=lambda one: one.trace_id,
    )


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
    """Candidates that are still to be had, ordered by trace id, and how near failures are to what people see.

    Failures stand for themselves, or `most_compared` of them for all. What a candidate adds only shrinks as others are
    picked, so one that is still the best after it was looked at again is the best of all (lazy greedy: Minoux 1978).
    """

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
        self._of_shopper: defaultdict[str, list[int]] = defaultdict(list)
        self._of_cluster: defaultdict[str, list[int]] = defaultdict(list)
        for row, one in enumerate(candidates):
            self._of_shopper[one.shopper].append(row)
            self._of_cluster[one.cluster_id].append(row)
        self._taken: Counter[str] = Counter()
        compared = _compared([one.trace_id for one in candidates], config.most_compared)
        self._failures = vectors[compared]
        of_shopper = [len(self._of_shopper[candidates[row].shopper]) for row in compared]
        self._weights = np.minimum(1.0, config.per_shopper / np.array(of_shopper, dtype=np.float64))
        self._nearest = np.zeros(len(compared), dtype=np.float32)
        self._own_nearest = np.zeros(len(candidates), dtype=np.float32)
        if seen is not None and len(candidates):
            for start in range(0, len(seen), _BLOCK):
                self._see(seen[start : start + _BLOCK])
        gains = [
            gain for start in range(0, len(vectors), _BLOCK) for gain in self._gains(vectors[start : start + _BLOCK])
        ]
        self._best = [(-gain, row) for row, gain in enumerate(gains)]
        heapq.heapify(self._best)

    def take(self, *, rank: int) -> QueueItem | None:
        """Take the best candidate out; None if no candidate is left."""
        while self._best:
            _, row = heapq.heappop(self._best)
            if not self._open[row]:
                continue
            if self._own_nearest[row] >= self._config.same_from:
                self._close([row], "almost the same message is seen already")
                continue
            gain = self._gains(self._vectors[row : row + 1])[0]
            if not self._best or (-gain, row) <= self._best[0]:
                return self._taken_out(row, gain, rank=rank)
            heapq.heappush(self._best, (-gain, row))
        return None

    def left_out(self, asked_anyway: Collection[str], *, budget_spent: bool) -> Counter[str]:
        """Count the candidates that were not taken by reason, without those that are asked about anyway."""
        reasons = dict(self._reasons)
        if budget_spent:
            reasons |= dict.fromkeys(np.flatnonzero(self._open).tolist(), "over the budget")
        return Counter(reason for row, reason in reasons.items() if self._candidates[row].trace_id not in asked_anyway)

    def _taken_out(self, row: int, gain: float, *, rank: int) -> QueueItem:
        chosen = self._candidates[row]
        likeness = self._failures @ self._vectors[row]
        speaks_for = int(((likeness > self._nearest) & (likeness >= _LIKE)).sum())
        item = QueueItem(
            rank=rank,
            trace_id=chosen.trace_id,
            origin="failure queue",
            inclusion_probability=None,
            cluster_id=chosen.cluster_id,
            cluster_name=chosen.cluster_name,
            score=gain,
            speaks_for=speaks_for,
            questions=chosen.questions,
            reason=f"{speaks_for} of {len(self._failures)} failures are like it, and like nothing else as much",
        )
        self._open[row] = False
        self._see(self._vectors[row : row + 1])
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
                self._close(rows, f"over the {reason}")
        return item

    def _gains(self, vectors: NDArray[np.float32]) -> list[float]:
        """Return by how much failures would be nearer to something seen, of each row of vectors."""
        nearer = np.maximum(vectors @ self._failures.T - self._nearest, 0.0)
        return [round(float(gain), _DECIMALS) for gain in nearer @ self._weights]

    def _see(self, shown: NDArray[np.float32]) -> None:
        self._nearest = np.maximum(self._nearest, (self._failures @ shown.T).max(axis=1))
        self._own_nearest = np.maximum(self._own_nearest, (self._vectors @ shown.T).max(axis=1))

    def _close(self, rows: Sequence[int], reason: str) -> None:
        for row in rows:
            if self._open[row]:
                self._reasons[row] = reason
                self._open[row] = False


def _compared(trace_ids: Sequence[str], most: int) -> list[int]:
    """Return the rows of the failures that stand for all, in order: all of them, or those with the least hashes."""
    if len(trace_ids) <= most:
        return list(range(len(trace_ids)))
    hashes = [hashlib.sha256(one.encode("utf-8", "surrogatepass")).digest() for one in trace_ids]
    return sorted(sorted(range(len(trace_ids)), key=lambda row: hashes[row])[:most])


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
