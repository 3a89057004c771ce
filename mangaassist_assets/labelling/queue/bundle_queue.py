"""The review queue of one release bundle: a random sample of its traffic, and failures worth a person's minute."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import polars as pl

from mangaassist_assets.core.figures import Figures, Row, count_rows
from mangaassist_assets.labelling.queue.audit_sample import draw_audit
from mangaassist_assets.labelling.queue.review_queue import (
    BOTH_QUESTIONS,
    DEFAULT_QUEUE,
    QueueConfig,
    QueueItem,
    QueueOrigin,
    pick_for_review,
    review_candidates,
)
from mangaassist_assets.labelling.queue.stored_queue import ReviewQueue
from mangaassist_assets.labelling.reviews import is_reviewed
from mangaassist_assets.privacy import plain_placeholders
from mangaassist_assets.retrieval.types import Vectors
from mangaassist_assets.tracing.contract.turns import ChatTurn

if TYPE_CHECKING:
    from mangaassist_assets.mining.tracking.clusters import FailureCluster

_ROWS_SHOWN = 50
_DECIMALS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleQueue:
    """The queue, out of how many failed turns its failures were picked, and what is not in it.

    `excluded` counts failed turns that are not asked about by reason; `reviewed` names the reviewer of each turn that
    has an answer.
    """

    queue: ReviewQueue
    candidates: int
    excluded: Mapping[str, int]
    reviewed: Mapping[str, str]

    @property
    def trace_ids(self) -> list[str]:
        """The traces to review, in the order in which to review them."""
        return [item.trace_id for item in self.queue.items]

    def count(self, origin: QueueOrigin) -> int:
        """Return how many items are of an origin."""
        return sum(item.origin == origin for item in self.queue.items)

    def figures(self, trace_url: Callable[[str], str]) -> Figures:
        """Return counts, why failures are not in the queue, and its first rows with links to the traces."""
        sample = self.queue.audit_sample
        return {
            "dagster/row_count": len(self.queue.items),
            "asked_for_audit": self.count("audit"),
            "asked_as_failures": self.count("failure queue"),
            "audit_sample": f"{len(sample)} of {self.queue.turns} turns, {len(sample.keys() & self.reviewed)} reviewed",
            "reviewed_already": len(self.reviewed),
            "not_asked": count_rows(self.excluded),
            "queue": [_item_row(item, trace_url) for item in self.queue.items[:_ROWS_SHOWN]],
        }


def queue_bundle(
    turns: Sequence[ChatTurn],
    clusters: Sequence[FailureCluster],
    earlier: Sequence[ChatTurn],
    traffic: pl.DataFrame,
    *,
    before: ReviewQueue | None = None,
    handled: Collection[str],
    embed: Callable[[Sequence[str]], Vectors],
    budget: int,
    config: QueueConfig = DEFAULT_QUEUE,
) -> BundleQueue:
    """Draw turns of a bundle at random, and pick failed ones that are worth a person's minute.

    Both come in turns, so that whoever stops on the way has reviewed of both. The sample stays when the queue is made
    again: those that are reviewed are not asked about again, and failures fill the budget. It becomes larger with the
    budget and never smaller, for what was reviewed must stay in it.

    Args:
        turns: The bundle's turns, at least those that people reviewed and those of the clusters.
        clusters: Its failure clusters.
        earlier: The reviewed turns of this bundle and of those before it: their messages are not picked again.
        traffic: All turns of the bundle, see `read_traffic`.
        before: The queue of the bundle as it was.
        handled: See `review_candidates`.
        embed: Returns the vectors of messages, each of length one.
        budget: How many turns people have time for.
        config: What share is drawn at random; caps and floors of the failures.
    """
    before = before or ReviewQueue()
    share = budget * config.audit_share
    size = max(share, before.audit_size)
    drawn = draw_audit(traffic, size)
    sample = dict(drawn.select("trace_id", "inclusion_probability").iter_rows())
    by_id = {turn.trace_id: turn for turn in turns}
    reviewed = {turn.trace_id: turn.reviewer or "unknown" for turn in turns if is_reviewed(turn)}
    waiting = [trace_id for trace_id in sample if trace_id not in reviewed and trace_id not in handled]
    asked, later = set(waiting[: math.ceil(share)]), set(waiting[math.ceil(share) :])
    candidates = [
        # Asked about before its turn, it would be reviewed because it failed.
        replace(one, barred="drawn for the audit and asked about later") if one.trace_id in later else one
        for one in review_candidates(clusters, by_id, handled=handled)
    ]
    messages = drawn.filter(pl.col("trace_id").is_in(list(asked - {one.trace_id for one in candidates})))["message"]
    picking = pick_for_review(
        candidates,
        embed([by_id[one.trace_id].learnable_text for one in candidates]),
        seen=embed(sorted({turn.learnable_text for turn in earlier}.union(map(plain_placeholders, messages)))),
        asked_anyway=asked,
        budget=budget - len(asked),
        config=config,
    )
    picked = {item.trace_id: item for item in picking.items}
    named = {trace_id: cluster for cluster in clusters for trace_id in cluster.trace_ids}
    audit = [_drawn_item(one, sample[one], picked.pop(one, None), named.get(one)) for one in waiting if one in asked]
    items = tuple(
        replace(item, rank=rank) for rank, item in enumerate(_in_turns(audit, list(picked.values())), start=1)
    )
    return BundleQueue(
        queue=ReviewQueue(
            items=items,
            budget=budget,
            turns=traffic.height,
            audit_size=size,
            audit_sample=sample,
            asked=_ever_asked(before, items),
        ),
        candidates=len(candidates),
        excluded=picking.excluded,
        reviewed=reviewed,
    )


def _drawn_item(
    trace_id: str, probability: float, picked: QueueItem | None, cluster: FailureCluster | None
) -> QueueItem:
    """Return the item of a turn of the audit sample, which may have been picked as a failure as well."""
    such = f"1 of {1 / probability:,.1f} such turns" if probability < 1 else "every such turn"
    reason = f"drawn at random from all traffic: {such}"
    if picked is not None:
        return replace(
            picked,
            inclusion_probability=probability,
            questions=BOTH_QUESTIONS,
            reason=f"{picked.reason}; also {reason}",
        )
    return QueueItem(
        rank=0,
        trace_id=trace_id,
        origin="audit",
        inclusion_probability=probability,
        cluster_id=cluster.cluster_id if cluster else None,
        cluster_name=cluster.name if cluster else None,
        score=None,
        speaks_for=None,
        questions=BOTH_QUESTIONS,
        reason=reason,
    )


def _in_turns(*parts: Sequence[QueueItem]) -> list[QueueItem]:
    """Return the items of all parts, each part in its order and spread evenly over the whole."""
    placed = [((place + 0.5) / len(part), item) for part in parts for place, item in enumerate(part)]
    return [item for _, item in sorted(placed, key=lambda one: one[0])]


def _ever_asked(before: ReviewQueue, items: Sequence[QueueItem]) -> dict[str, QueueOrigin]:
    asked: dict[str, QueueOrigin] = dict(before.asked)
    for item in items:
        if asked.get(item.trace_id) != "failure queue":
            asked[item.trace_id] = item.origin
    return asked


def _item_row(item: QueueItem, trace_url: Callable[[str], str]) -> Row:
    return {
        "rank": item.rank,
        "asked_as": item.origin,
        "score": None if item.score is None else round(item.score, _DECIMALS),
        "speaks_for": item.speaks_for,
        "cluster": item.cluster_name,
        "why": item.reason,
        "trace": trace_url(item.trace_id),
    }
