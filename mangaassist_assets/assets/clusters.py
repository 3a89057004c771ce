"""Failure clusters: which failures are the same failure."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from mangaassist_assets.assets.common import ML_ENGINEERING, image, materialized, table
from mangaassist_assets.assets.failures import failed_traces
from mangaassist_assets.partitions import release_bundles
from resources.aws.judge import JudgeResource
from resources.search.embeddings import EmbeddingsResource
from resources.store import StoreResource

if TYPE_CHECKING:
    from mangaassist_assets.mining.cluster_building import ClusterMining
    from mangaassist_assets.mining.tracking.clusters import FailureCluster
    from mangaassist_assets.mining.tracking.timeline import TimelineRow

_SHOWN = 50


@dg.asset(
    partitions_def=release_bundles,
    deps=[failed_traces],
    group_name="mining",
    owners=[ML_ENGINEERING],
    kinds={"json", "parquet", "scikitlearn"},
    code_version="2",
)
def failure_clusters(
    context: dg.AssetExecutionContext, embeddings: EmbeddingsResource, judge: JudgeResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """Groups of failed turns that mean alike and are blamed on the same stage, with an identity that lives on.

    One row is one cluster: id, name, size, stage, what became of it since the bundle before (birth, continuation,
    merge, split, return), whether it grows by more than chance, how stable it is, whether it is noise, and redacted
    examples. Mining a bundle again, or an older one late, renames nothing.
    """
    from mangaassist_assets.assets.message_vectors import message_vectors
    from mangaassist_assets.mining.blame.stored_failures import read_failures
    from mangaassist_assets.mining.cluster_building import ClustersConfig, mine_clusters
    from mangaassist_assets.mining.tracking.cluster_files import bundle_to_files
    from mangaassist_assets.mining.tracking.cluster_history import read_history
    from mangaassist_assets.mining.tracking.timeline import cluster_timeline, timeline_rows
    from mangaassist_assets.mining.tracking.timeline_chart import timeline_chart
    from mangaassist_assets.retrieval.stored_knowledge import read_vocabulary
    from mangaassist_assets.tracing.ingestion.stored_turns import read_turns

    bundle = context.partition_key
    snapshots = store.snapshots()
    failures = read_failures(snapshots, bundle)
    words = read_vocabulary(snapshots)
    vectors, report = message_vectors(
        [failure.turn.learnable_text for failure in failures],
        embeddings,
        store,
        progress=lambda done, of: context.log.info(f"{done} of {of} messages embedded"),
    )
    known = read_history(snapshots, bundle, embedding_model_id=report.model_id)
    mining = mine_clusters(
        failures,
        vectors,
        release_bundle=bundle,
        turns=len(read_turns(snapshots, bundle)),
        embedding_model_id=report.model_id,
        history=known.history,
        namer=judge.cluster_namer(vocabulary=words),
        config=ClustersConfig(vocabulary=words),
    )
    clusters = mining.bundle.clusters
    timeline = cluster_timeline([*known.history.earlier, mining.bundle])
    # Pictures and history are no part of the snapshot: they hang on fonts and other bundles, its digest must not.
    snapshot = snapshots.write("failure_clusters", bundle_to_files(mining.bundle), partition=bundle)
    before = known.history.previous.release_bundle if known.history.previous else None
    noise = sum(cluster.noise for cluster in clusters)
    context.log.info(
        f"{len(clusters)} clusters of {len(failures)} failed turns, {noise} of them noise; "
        f"compared with {before or 'no bundle'}; {report.embedded} messages embedded, {report.reused} known"
    )
    return materialized(
        snapshot,
        {
            "dagster/row_count": dg.MetadataValue.int(len(clusters)),
            "noise": dg.MetadataValue.int(noise),
            "compared_with": dg.MetadataValue.text(before or "no earlier bundle"),
            "not_compared": dg.MetadataValue.json(known.left_out),
            "map": image("Failed messages by meaning", _map(mining, vectors)),
            "clusters": table([_row(cluster) for cluster in clusters[:30]]),
            "examples": table(
                [
                    {
                        "name": cluster.name,
                        "at_the_centre": " / ".join(cluster.examples[:3]),
                        "at_the_edge": " / ".join(cluster.edge_examples),
                        "noise_because": cluster.noise_reason or "",
                    }
                    for cluster in clusters[:30]
                ]
            ),
            "events": table(
                [
                    {
                        "event": event.kind,
                        "clusters": ", ".join(event.cluster_ids),
                        "of_the_bundle_before": ", ".join(event.previous_ids),
                        "similarity": None if event.similarity is None else round(event.similarity, 3),
                    }
                    for event in mining.bundle.events[:_SHOWN]
                ]
            ),
            "timeline": image("Clusters from bundle to bundle", timeline_chart(timeline)),
            "history": table([_history_row(row) for row in timeline_rows(timeline)[-_SHOWN:]]),
        },
    )


def _row(cluster: "FailureCluster") -> dict[str, Any]:
    growth = cluster.growth
    words = growth.verdict.replace("_", " ")
    return {
        "cluster_id": cluster.cluster_id,
        "name": cluster.name,
        "state": cluster.state,
        "size": cluster.size,
        "users": cluster.users,
        "stage": cluster.stage,
        "feeds": cluster.loop,
        "growth": words if growth.ratio is None else f"{words}, ×{growth.ratio:.2f}",
        "stability": None if cluster.stability is None else round(cluster.stability, 2),
        "noise": cluster.noise,
    }


def _history_row(row: "TimelineRow") -> dict[str, Any]:
    return {**row, "share": round(row["share"], 4)}


def _map(mining: "ClusterMining", vectors: Any) -> bytes:  # noqa: ANN401 - an array; numpy is not imported here
    import numpy as np

    from mangaassist_assets.mining.clustering.layout import map_points
    from mangaassist_assets.mining.clustering.map_chart import cluster_map

    clusters = mining.bundle.clusters
    number = {cluster.cluster_id: row for row, cluster in enumerate(clusters)}
    groups = np.array([number[identity] for identity in mining.cluster_ids], dtype=np.int64)
    return cluster_map(
        map_points(vectors, groups=groups),
        groups,
        {row: cluster.name for row, cluster in enumerate(clusters)},
        noise=frozenset(row for row, cluster in enumerate(clusters) if cluster.noise),
        title=f"Failed messages of {mining.bundle.release_bundle}",
    )
