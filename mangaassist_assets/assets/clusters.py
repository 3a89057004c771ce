"""Failure clusters: which failures are the same failure."""

import dagster as dg

from mangaassist_assets.assets.common import ML_ENGINEERING, materialized, table
from mangaassist_assets.assets.traces import failed_traces
from mangaassist_assets.partitions import release_bundles
from resources.embeddings import EmbeddingsResource
from resources.store import StoreResource


@dg.asset(
    partitions_def=release_bundles,
    deps=[failed_traces],
    group_name="mining",
    owners=[ML_ENGINEERING],
    kinds={"json", "scipy"},
    code_version="1",
)
def failure_clusters(
    context: dg.AssetExecutionContext, embeddings: EmbeddingsResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """Groups of failed turns that mean alike, with an identity that lives on from bundle to bundle.

    One row is one cluster: id, name, size, the stage most of its members are blamed on, the trend against the bundle
    before, and redacted examples.
    """
    from mangaassist_assets.assets.reading import (
        CLUSTERS_FILE,
        clusters_to_json,
        previous_bundle,
        read_clusters,
        read_failures,
        read_turns,
        read_vocabulary,
    )
    from mangaassist_assets.mining.clusters import ClustersConfig, build_clusters, dead_clusters

    bundle = context.partition_key
    snapshots = store.snapshots()
    failures = read_failures(snapshots, bundle)
    before = previous_bundle(snapshots, bundle, having="failure_clusters")
    earlier = read_clusters(snapshots, before) if before else []
    vectors = embeddings.embedder().embed([failure.turn.learnable_text for failure in failures])
    clusters = build_clusters(
        failures,
        vectors,
        release_bundle=bundle,
        turns=len(read_turns(snapshots, bundle)),
        previous=earlier,
        config=ClustersConfig(vocabulary=read_vocabulary(snapshots)),
    )
    snapshot = snapshots.write("failure_clusters", {CLUSTERS_FILE: clusters_to_json(clusters)}, partition=bundle)
    context.log.info(f"{len(clusters)} clusters of {len(failures)} failed turns; compared with {before or 'no bundle'}")
    return materialized(
        snapshot,
        {
            "dagster/row_count": dg.MetadataValue.int(len(clusters)),
            "compared_with": dg.MetadataValue.text(before or "no earlier bundle"),
            "ended": dg.MetadataValue.int(len(dead_clusters(clusters, earlier))),
            "clusters": table(
                [
                    {
                        "cluster_id": cluster.cluster_id,
                        "name": cluster.name,
                        "state": cluster.state,
                        "size": cluster.size,
                        "users": cluster.users,
                        "stage": cluster.stage,
                        "feeds": cluster.loop,
                        "example": cluster.examples[0] if cluster.examples else "",
                    }
                    for cluster in clusters[:30]
                ]
            ),
        },
    )
