"""Jobs: which assets are materialized together, and in which run.

One job is one model pipeline of the loop. A gate is a blocking check inside its pipeline's run, so one that says no
stops its own deployment and nothing else. What touches production is unpartitioned and in no job that backfills.
"""

from typing import Any

import dagster as dg

from mangaassist_assets.champion_jobs import champion_evaluation, promotion_jobs
from mangaassist_assets.models.pipelines import INTENT, MODEL_PIPELINES, RERANKER, ModelPipeline

MINING = dg.AssetSelection.assets(
    "feedback_events", "recorded_feedback", "tagged_traces", "failed_traces", "failure_clusters", "review_queue"
)
REPORTS = dg.AssetSelection.assets("satisfaction_report", "usage_report")
LEARNING = dg.AssetSelection.assets(*(asset for pipeline in MODEL_PIPELINES for asset in pipeline.learning_assets))
DEPLOYMENT = dg.AssetSelection.assets(*(asset for pipeline in MODEL_PIPELINES for asset in pipeline.deployment_assets))
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


def build_pipeline_job(pipeline: ModelPipeline) -> Any:  # noqa: ANN401 - Dagster gives the type no public name
    """Return the job that takes a model pipeline from its dataset to its endpoint."""
    return dg.define_asset_job(
        pipeline.job,
        selection=dg.AssetSelection.assets(*pipeline.learning_assets, *pipeline.deployment_assets),
        description=f"Dataset, challenger, gate and, if the gate says pass, deployment of the {pipeline.title}.",
    )


intent_retraining = build_pipeline_job(INTENT)
reranker_retraining = build_pipeline_job(RERANKER)

retraining = dg.define_asset_job(
    "retraining",
    selection=MINING | LEARNING | DEPLOYMENT,
    description="Mining and all model pipelines of one release bundle in one run: what sensors and schedules start.",
)

bundle_backfill = dg.define_asset_job(
    "bundle_backfill",
    selection=MINING | LEARNING | MANIFEST,
    description="Mines, trains and gates past bundles again with today's code. Deploys nothing.",
)

index_refresh = dg.define_asset_job(
    "index_refresh",
    selection=INDEX_BUILD | INDEX_DEPLOYMENT,
    description="Chunks, embeds and indexes the knowledge, verifies the new generation, then swaps the alias.",
)

configuration_refresh = dg.define_asset_job(
    "configuration_refresh",
    selection=PRODUCTION_STATE | dg.AssetSelection.assets("retrieval_evaluation"),
    description="Records the deployed AppConfig versions and evaluates retrieval under the new routing policy.",
)

release = dg.define_asset_job(
    "release",
    selection=MANIFEST | PRODUCTION_STATE,
    description="Writes the manifest of one release bundle and what production runs now.",
)

bootstrap = dg.define_asset_job(
    "bootstrap",
    selection=dg.AssetSelection.assets("training_corpus", "golden_set", "first_intent_classifier", "first_reranker")
    | dg.AssetSelection.assets("intent_endpoint", "reranker_endpoint")
    | PRODUCTION_STATE,
    description="First champions from the training corpus, and their endpoints.",
)

ALL_JOBS = (
    champion_evaluation,
    *promotion_jobs(),
    failure_mining,
    reports,
    intent_retraining,
    reranker_retraining,
    retraining,
    bundle_backfill,
    index_refresh,
    configuration_refresh,
    release,
    bootstrap,
)
