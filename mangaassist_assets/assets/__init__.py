"""Thin assets: read inputs, call the domain, return figures and links."""

from collections.abc import Sequence
from pkgutil import resolve_name

import dagster as dg

from mangaassist_assets.assets.bootstrap import golden_set, training_corpus
from mangaassist_assets.assets.ingestion import feedback_events, recorded_feedback, tagged_traces
from mangaassist_assets.assets.knowledge import (
    chunk_embeddings,
    knowledge_chunks,
    live_index,
    retrieval_evaluation,
    search_index,
)
from mangaassist_assets.assets.labels import review_queue
from mangaassist_assets.assets.mining import failed_traces, failure_clusters
from mangaassist_assets.assets.model_pipeline import build_pipeline_assets
from mangaassist_assets.assets.release import (
    CONFIGURATION_PROFILES,
    build_release_assets,
    configuration_evaluation,
    runtime_configuration,
)
from mangaassist_assets.assets.reports import (
    build_bundle_comparison,
    feedback_warehouse,
    satisfaction_report,
    usage_report,
)
from mangaassist_assets.assets.triggers import trigger_ledger
from mangaassist_assets.models.pipelines import ModelPipeline

SHARED_ASSETS = (
    training_corpus,
    golden_set,
    feedback_events,
    recorded_feedback,
    tagged_traces,
    failed_traces,
    failure_clusters,
    review_queue,
    feedback_warehouse,
    satisfaction_report,
    usage_report,
    knowledge_chunks,
    chunk_embeddings,
    search_index,
    retrieval_evaluation,
    live_index,
    runtime_configuration,
    configuration_evaluation,
    *CONFIGURATION_PROFILES,
    trigger_ledger,
)


def build_assets(pipelines: Sequence[ModelPipeline]) -> tuple[dg.AssetsDefinition | dg.AssetSpec, ...]:
    """Return all assets of a platform with these model pipelines."""
    return (
        *SHARED_ASSETS,
        *(resolve_name(name) for pipeline in pipelines for name in pipeline.definitions),
        *(asset for pipeline in pipelines for asset in build_pipeline_assets(pipeline)),
        *build_release_assets(pipelines),
        build_bundle_comparison(pipelines),
    )
