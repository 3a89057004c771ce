"""Jobs: which assets are materialized together, and in which run.

One job is one model pipeline of the loop, so what breaks in one stops no other. A gate that says no breaks nothing: the
champion stays, and the run is green. What touches production is unpartitioned and in no job that backfills.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import dagster as dg

from mangaassist_assets.models.pipelines import ModelPipeline

Job: TypeAlias = Any  # Dagster gives the type of an asset job that is not resolved yet no public name

RETRAINING = "retraining"
BUNDLE_BACKFILL = "bundle_backfill"
CHAMPION_EVALUATION = "champion_evaluation"

MINING_ASSETS = (
    "feedback_events",
    "recorded_feedback",
    "tagged_traces",
    "failed_traces",
    "failure_clusters",
    "review_queue",
)
MINING = dg.AssetSelection.assets(*MINING_ASSETS)
REPORTS = dg.AssetSelection.assets("feedback_warehouse", "satisfaction_report", "usage_report")
INDEX_BUILD = dg.AssetSelection.assets("knowledge_chunks", "chunk_embeddings", "search_index", "retrieval_evaluation")
INDEX_DEPLOYMENT = dg.AssetSelection.assets("live_index")
CONFIGURATION = dg.AssetSelection.assets("runtime_configuration")
PRODUCTION_STATE = CONFIGURATION | dg.AssetSelection.assets("active_release")
MANIFEST = dg.AssetSelection.assets("release_manifest")

failure_mining = dg.define_asset_job(
    "failure_mining",
    selection=MINING | REPORTS,
    description="From traces and feedback of one release bundle to its failure clusters and its reports.",
)

reports = dg.define_asset_job(
    "reports",
    selection=REPORTS,
    description="How satisfied the shoppers of one release bundle were, and what its turns took and cost.",
)

comparison = dg.define_asset_job(
    "comparison",
    selection=dg.AssetSelection.assets("bundle_comparison"),
    description="All release bundles side by side: what to look at after a backfill.",
)

index_refresh = dg.define_asset_job(
    "index_refresh",
    selection=INDEX_BUILD | INDEX_DEPLOYMENT,
    description="Chunks, embeds and indexes the knowledge, verifies the new generation, then swaps the alias.",
)

configuration_refresh = dg.define_asset_job(
    "configuration_refresh",
    selection=PRODUCTION_STATE | dg.AssetSelection.assets("configuration_evaluation"),
    description="Records the deployed AppConfig versions, and says what each changes: searches under both routing "
    "policies, guardrails on stored turns, answers under both prompts.",
)

release = dg.define_asset_job(
    "release",
    selection=MANIFEST | PRODUCTION_STATE,
    description="Writes the manifest of one release bundle and what production runs now.",
)

trigger_watch = dg.define_asset_job(
    "trigger_watch",
    selection=dg.AssetSelection.assets("trigger_ledger"),
    description="What the feedback trigger saw and decided lately, and whether it is at work.",
)


def build_jobs(pipelines: Sequence[ModelPipeline]) -> tuple[Job, ...]:
    """Return all jobs of a platform with these model pipelines."""
    learning = _assets(asset for pipeline in pipelines for asset in pipeline.learning_assets)
    deployment = _assets(asset for pipeline in pipelines for asset in pipeline.deployment_assets)
    return (
        failure_mining,
        reports,
        comparison,
        index_refresh,
        configuration_refresh,
        release,
        trigger_watch,
        *(job for pipeline in pipelines for job in _pipeline_jobs(pipeline)),
        dg.define_asset_job(
            RETRAINING,
            selection=MINING | learning | deployment,
            description="Mining and all model pipelines of one release bundle in one run: what sensors and schedules "
            "start.",
        ),
        dg.define_asset_job(
            BUNDLE_BACKFILL,
            selection=MINING | learning | MANIFEST,
            description="Mines, trains and gates past bundles again with today's code. Deploys nothing.",
        ),
        dg.define_asset_job(
            CHAMPION_EVALUATION,
            selection=_assets(pipeline.health_asset for pipeline in pipelines)
            | dg.AssetSelection.checks(
                *(
                    dg.AssetCheckKey(dg.AssetKey(pipeline.endpoint_asset), "champion_is_on_record")
                    for pipeline in pipelines
                )
            ),
            description="Every champion on what people reviewed since its dataset was closed, and whether it is the "
            "one on record. Changes nothing.",
        ),
        _bootstrap_job(pipelines),
    )


def _pipeline_jobs(pipeline: ModelPipeline) -> tuple[Job, ...]:
    return (
        dg.define_asset_job(
            pipeline.job,
            selection=_assets((*pipeline.learning_assets, *pipeline.deployment_assets)),
            description=f"Dataset, challenger, gate and, if the gate says pass, deployment of the {pipeline.title}.",
        ),
        # `mangaassist models promote` runs it with an override.
        dg.define_asset_job(
            pipeline.promotion_job,
            selection=_assets(pipeline.deployment_assets),
            description=(
                f"The champion {pipeline.title} and its endpoint, by the stored verdicts, or by an override in the "
                "champion's configuration."
            ),
        ),
    )


def _bootstrap_job(pipelines: Sequence[ModelPipeline]) -> Job:
    firsts = {one.first_asset: one.endpoint_asset for one in pipelines if one.first_asset is not None}
    return dg.define_asset_job(
        "bootstrap",
        selection=_assets(("training_corpus", "golden_set", *firsts, *firsts.values())) | PRODUCTION_STATE,
        description="First champions from the training corpus, and their endpoints.",
    )


def _assets(names: Iterable[str]) -> dg.AssetSelection:
    return dg.AssetSelection.assets(*names)
