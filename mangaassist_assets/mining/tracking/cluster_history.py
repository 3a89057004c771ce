"""What the store knows of the clusters of other bundles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mangaassist_assets.core.bundles import bundles_by_start

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.mining.tracking.clusters import ClusterHistory, MinedBundle

CLUSTERS_ASSET = "failure_clusters"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownClusters:
    """The history of a bundle, and the bundles that could not be compared, by reason."""

    history: ClusterHistory
    left_out: dict[str, str]


def read_mined_bundle(store: SnapshotStore, release_bundle: str) -> MinedBundle | None:
    """Return the clusters of a bundle with their profiles; None if it was mined by a version that kept none."""
    from mangaassist_assets.mining.tracking.cluster_files import CARD_FILE, CLUSTERS_FILE, EVENTS_FILE, PROFILES_FILE
    from mangaassist_assets.mining.tracking.cluster_files import bundle_from_files as from_files

    snapshot = store.find(CLUSTERS_ASSET, partition=release_bundle)
    files = (CARD_FILE, CLUSTERS_FILE, EVENTS_FILE, PROFILES_FILE)
    if snapshot is None or not snapshot.files.keys() >= set(files):
        return None
    return from_files(release_bundle, {file: store.read(snapshot, file) for file in files})


def read_history(store: SnapshotStore, release_bundle: str, *, embedding_model_id: str) -> KnownClusters:
    """Return what was mined of this bundle and of those around it, in the order in which bundles began."""
    from mangaassist_assets.mining.tracking.clusters import ClusterHistory

    mined: dict[str, MinedBundle] = {}
    left_out: dict[str, str] = {}
    taken: set[str] = set()
    for bundle in store.partitions(CLUSTERS_ASSET):
        found = read_mined_bundle(store, bundle)
        if found is None:
            left_out[bundle] = "mined by a version that kept no profiles"
            continue
        taken |= {cluster.cluster_id for cluster in found.clusters}
        if found.embedding_model_id != embedding_model_id:
            left_out[bundle] = f"embedded by {found.embedding_model_id}"
        else:
            mined[bundle] = found
    order = list(bundles_by_start(store))
    place = order.index(release_bundle) if release_bundle in order else len(order)
    return KnownClusters(
        history=ClusterHistory(
            same=mined.get(release_bundle),
            earlier=[mined[bundle] for bundle in order[:place] if bundle in mined],
            following=next((mined[bundle] for bundle in order[place + 1 :] if bundle in mined), None),
            taken=frozenset(taken),
        ),
        left_out=left_out,
    )
