"""Mined clusters as files (JSON, profiles as Parquet), and the history of clusters that the store holds."""

from __future__ import annotations

import io
import json
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl

from mangaassist_assets.core.bundles import bundles_by_start
from mangaassist_assets.core.codecs import from_json, to_parquet
from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.mining.tracking.cluster_events import IdentityEvent
from mangaassist_assets.mining.tracking.clusters import ClusterHistory, FailureCluster, MinedBundle
from mangaassist_assets.mining.tracking.profiles import ClusterProfile

CLUSTERS_ASSET = "failure_clusters"
CLUSTERS_FILE = "clusters.json"
PROFILES_FILE = "profiles.parquet"
EVENTS_FILE = "events.json"
CARD_FILE = "card.json"


def bundle_to_files(bundle: MinedBundle) -> dict[str, bytes]:
    """Return file name → content; the same clusters give the same bytes."""
    return {
        CLUSTERS_FILE: canonical_json(bundle.clusters),
        PROFILES_FILE: _profiles_to_parquet(bundle.profiles),
        EVENTS_FILE: canonical_json(bundle.events),
        CARD_FILE: canonical_json(
            {
                "release_bundle": bundle.release_bundle,
                "turns": bundle.turns,
                "embedding_model_id": bundle.embedding_model_id,
            }
        ),
    }


def bundle_from_files(release_bundle: str, files: dict[str, bytes]) -> MinedBundle:
    """Return what `bundle_to_files` stored.

    Raises:
        ValueError: the files do not belong together.
    """
    card: dict[str, Any] = json.loads(files[CARD_FILE])
    clusters = from_json(list[FailureCluster], files[CLUSTERS_FILE])
    profiles = {profile.cluster_id: profile for profile in _profiles_from_parquet(files[PROFILES_FILE])}
    if {cluster.cluster_id for cluster in clusters} != profiles.keys():
        raise ValueError(
            f"the clusters of {release_bundle!r} and their profiles differ: materialize failure_clusters again"
        )
    return MinedBundle(
        release_bundle=release_bundle,
        turns=card["turns"],
        embedding_model_id=card["embedding_model_id"],
        clusters=tuple(clusters),
        profiles=tuple(profiles[cluster.cluster_id] for cluster in clusters),
        events=from_json(tuple[IdentityEvent, ...], files[EVENTS_FILE]),
    )


def _profiles_to_parquet(profiles: tuple[ClusterProfile, ...]) -> bytes:
    rows = [
        {
            "cluster_id": profile.cluster_id,
            "stage": profile.stage,
            "size": profile.size,
            "is_centroid": number == 0,
            "vector": vector.tolist(),
        }
        for profile in profiles
        for number, vector in enumerate([profile.centroid, *profile.exemplars])
    ]
    schema = {
        "cluster_id": pl.String(),
        "stage": pl.String(),
        "size": pl.Int64(),
        "is_centroid": pl.Boolean(),
        "vector": pl.List(pl.Float32()),
    }
    return to_parquet(pl.DataFrame(rows, schema=schema, orient="row"))


def _profiles_from_parquet(content: bytes) -> list[ClusterProfile]:
    rows = pl.read_parquet(io.BytesIO(content)).to_dicts()
    found: list[ClusterProfile] = []
    for identity, group in groupby(rows, key=lambda row: str(row["cluster_id"])):
        members = list(group)
        vectors = np.array([row["vector"] for row in members], dtype=np.float32)
        found.append(
            ClusterProfile(
                cluster_id=identity,
                stage=members[0]["stage"],
                size=members[0]["size"],
                centroid=vectors[0],
                exemplars=vectors[1:],
            )
        )
    return found


def read_clusters(store: SnapshotStore, release_bundle: str) -> list[FailureCluster]:
    """Return the failure clusters of a bundle, the largest first."""
    return from_json(
        list[FailureCluster], store.read(store.latest(CLUSTERS_ASSET, partition=release_bundle), CLUSTERS_FILE)
    )


def read_history(
    store: SnapshotStore, release_bundle: str, *, embedding_model_id: str
) -> tuple[ClusterHistory, dict[str, str]]:
    """Return what was mined of this bundle and of those around it, in the order in which bundles began.

    Bundles that cannot be compared are left out, and returned with the reason.
    """
    mined: dict[str, MinedBundle] = {}
    left_out: dict[str, str] = {}
    taken: set[str] = set()
    for bundle in store.partitions(CLUSTERS_ASSET):
        snapshot = store.latest(CLUSTERS_ASSET, partition=bundle)
        found = bundle_from_files(bundle, {file: store.read(snapshot, file) for file in snapshot.files})
        taken |= {cluster.cluster_id for cluster in found.clusters}
        if found.embedding_model_id != embedding_model_id:
            left_out[bundle] = f"embedded by {found.embedding_model_id}"
        else:
            mined[bundle] = found
    order = list(bundles_by_start(store))
    place = order.index(release_bundle) if release_bundle in order else len(order)
    history = ClusterHistory(
        same=mined.get(release_bundle),
        earlier=[mined[bundle] for bundle in order[:place] if bundle in mined],
        following=next((mined[bundle] for bundle in order[place + 1 :] if bundle in mined), None),
        taken=frozenset(taken),
    )
    return history, left_out
