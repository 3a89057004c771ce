"""Mined clusters as files: the clusters as JSON, their profiles as Parquet, and what happened to them as JSON."""

from __future__ import annotations

import io
import json
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl

from mangaassist_assets.core.codecs import from_json, to_parquet
from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.mining.tracking.cluster_events import IdentityEvent
from mangaassist_assets.mining.tracking.clusters import FailureCluster, MinedBundle
from mangaassist_assets.mining.tracking.profiles import ClusterProfile

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
                "schema": 2,
                "release_bundle": bundle.release_bundle,
                "turns": bundle.turns,
                "embedding_model_id": bundle.embedding_model_id,
            }
        ),
    }


def clusters_from_json(content: bytes) -> list[FailureCluster]:
    """Return the clusters of `CLUSTERS_FILE`, the largest first."""
    return from_json(list[FailureCluster], content)


def bundle_from_files(release_bundle: str, files: dict[str, bytes]) -> MinedBundle:
    """Return what `bundle_to_files` stored.

    Raises:
        ValueError: the files are those of another version, or do not belong together.
    """
    card: dict[str, Any] = json.loads(files[CARD_FILE])
    clusters = clusters_from_json(files[CLUSTERS_FILE])
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
    return clusters_from_json(store.read(store.latest("failure_clusters", partition=release_bundle), CLUSTERS_FILE))
