"""The failure clusters of a bundle as a person reads them: tables, a map of the messages, a chart of the history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mangaassist_assets.core.figures import Figures, Row
from mangaassist_assets.mining.clustering.layout import map_points
from mangaassist_assets.mining.clustering.map_chart import cluster_map
from mangaassist_assets.mining.tracking.timeline import build_timeline, timeline_rows
from mangaassist_assets.mining.tracking.timeline_chart import timeline_chart

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mangaassist_assets.mining.cluster_building import ClusterMining
    from mangaassist_assets.mining.tracking.cluster_events import IdentityEvent
    from mangaassist_assets.mining.tracking.clusters import ClusterHistory, FailureCluster

_CLUSTERS_SHOWN = 30
_ROWS_SHOWN = 50


class ClusterReport:
    """What there is to show of a bundle's clusters and of those of the bundles before."""

    def __init__(self, mining: ClusterMining, history: ClusterHistory) -> None:
        """Take the clusters of the bundle, and what was known of other bundles when they were mined."""
        self._mining = mining
        self._clusters = mining.bundle.clusters
        self._compared_with = history.previous.release_bundle if history.previous else None
        self._timeline = build_timeline([*history.earlier, mining.bundle])

    def __str__(self) -> str:
        return (
            f"{len(self._clusters)} clusters of {len(self._mining.cluster_ids)} failed turns, {self._noise()} of them "
            f"noise; compared with {self._compared_with or 'no bundle'}"
        )

    def figures(self) -> Figures:
        """Return counts and tables; of long ones the largest clusters, and the newest rows of the history."""
        return {
            "dagster/row_count": len(self._clusters),
            "noise": self._noise(),
            "compared_with": self._compared_with or "no earlier bundle",
            "clusters": [_cluster_row(cluster) for cluster in self._clusters[:_CLUSTERS_SHOWN]],
            "examples": _example_rows(self._clusters[:_CLUSTERS_SHOWN]),
            "events": _event_rows(self._mining.bundle.events[:_ROWS_SHOWN]),
            "history": timeline_rows(self._timeline)[-_ROWS_SHOWN:],
        }

    def map(self, vectors: NDArray[np.float32]) -> bytes:
        """Return a PNG of the failed messages by meaning.

        Args:
            vectors: of the messages, as `mine_clusters` was given them.
        """
        number = {cluster.cluster_id: row for row, cluster in enumerate(self._clusters)}
        groups = np.array([number[identity] for identity in self._mining.cluster_ids], dtype=np.int64)
        return cluster_map(
            map_points(vectors, groups=groups),
            groups,
            {row: cluster.name for row, cluster in enumerate(self._clusters)},
            noise=frozenset(row for row, cluster in enumerate(self._clusters) if cluster.noise),
            title=f"Failed messages of {self._mining.bundle.release_bundle}",
        )

    def timeline(self) -> bytes:
        """Return a PNG of the clusters from bundle to bundle."""
        return timeline_chart(self._timeline)

    def _noise(self) -> int:
        return sum(cluster.noise for cluster in self._clusters)


def _example_rows(clusters: Sequence[FailureCluster]) -> list[Row]:
    return [
        {
            "name": cluster.name,
            "at_the_centre": " / ".join(cluster.examples[:3]),
            "at_the_edge": " / ".join(cluster.edge_examples),
            "noise_because": cluster.noise_reason or "",
        }
        for cluster in clusters
    ]


def _event_rows(events: Sequence[IdentityEvent]) -> list[Row]:
    return [
        {
            "event": event.kind,
            "clusters": ", ".join(event.cluster_ids),
            "of_the_bundle_before": ", ".join(event.previous_ids),
            "similarity": None if event.similarity is None else round(event.similarity, 3),
        }
        for event in events
    ]


def _cluster_row(cluster: FailureCluster) -> Row:
    growth = cluster.growth
    verdict = growth.verdict.replace("_", " ")
    return {
        "cluster_id": cluster.cluster_id,
        "name": cluster.name,
        "state": cluster.state,
        "size": cluster.size,
        "users": cluster.users,
        "stage": cluster.stage,
        "feeds": cluster.loop,
        "growth": verdict if growth.ratio is None else f"{verdict}, ×{growth.ratio:.2f}",
        "stability": None if cluster.stability is None else round(cluster.stability, 2),
        "noise": cluster.noise,
    }
