"""The review queue of one release bundle: candidates out of its clusters, picked beside what was reviewed before."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mangaassist_assets.core.figures import Figures, Row, count_rows
from mangaassist_assets.labelling.queue.review_queue import (
    DEFAULT_QUEUE,
    Picking,
    QueueConfig,
    QueueItem,
    pick_for_review,
    review_candidates,
)
from mangaassist_assets.labelling.reviews import is_reviewed
from mangaassist_assets.retrieval.types import Vectors
from mangaassist_assets.tracing.contract.turns import ChatTurn

if TYPE_CHECKING:
    from mangaassist_assets.mining.tracking.clusters import FailureCluster

_ROWS_SHOWN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleQueue:
    """The queue, out of how many failed turns it was picked, and the reviewer of each turn that has an answer."""

    picking: Picking
    candidates: int
    reviewed: Mapping[str, str]

    @property
    def trace_ids(self) -> list[str]:
        """The traces to review, best first."""
        return [item.trace_id for item in self.picking.items]

    def figures(self, trace_url: Callable[[str], str]) -> Figures:
        """Return counts, why candidates are not in the queue, and its first rows with links to the traces."""
        return {
            "dagster/row_count": len(self.picking.items),
            "reviewed_already": len(self.reviewed),
            "not_asked": count_rows(self.picking.excluded),
            "queue": [_item_row(item, trace_url) for item in self.picking.items[:_ROWS_SHOWN]],
        }


def queue_bundle(
    turns: Sequence[ChatTurn],
    clusters: Sequence[FailureCluster],
    earlier: Sequence[ChatTurn],
    *,
    handled: Collection[str],
    embed: Callable[[Sequence[str]], Vectors],
    budget: int,
    config: QueueConfig = DEFAULT_QUEUE,
) -> BundleQueue:
    """Pick the failed turns of a bundle that are worth a person's minute.

    Args:
        turns: The bundle's turns, at least those that people reviewed and those of the clusters.
        clusters: Its failure clusters.
        earlier: The reviewed turns of this bundle and of those before it: their messages are not asked about again.
        handled: See `review_candidates`.
        embed: Returns the vectors of messages, each of length one.
        budget: How many turns people have time for.
        config: Caps and floors.
    """
    by_id = {turn.trace_id: turn for turn in turns}
    candidates = review_candidates(clusters, by_id, handled=handled)
    picking = pick_for_review(
        candidates,
        embed([by_id[one.trace_id].learnable_text for one in candidates]),
        seen=embed(sorted({turn.learnable_text for turn in earlier})),
        budget=budget,
        config=config,
    )
    reviewed = {turn.trace_id: turn.reviewer or "unknown" for turn in turns if is_reviewed(turn)}
    return BundleQueue(picking=picking, candidates=len(candidates), reviewed=reviewed)


def _item_row(item: QueueItem, trace_url: Callable[[str], str]) -> Row:
    return {
        "rank": item.rank,
        "score": round(item.score, 3),
        "uncertainty": round(item.uncertainty, 3),
        "cluster_weight": round(item.cluster_weight, 3),
        "novelty": round(item.novelty, 3),
        "cluster": item.cluster_name,
        "why": item.reason,
        "trace": trace_url(item.trace_id),
    }
