"""Thin assets: read inputs, call the domain, return figures and links."""

from mangaassist_assets.assets.clusters import failure_clusters
from mangaassist_assets.assets.corpus import first_intent_classifier, first_reranker, training_corpus
from mangaassist_assets.assets.failures import failed_traces
from mangaassist_assets.assets.feedback import feedback_events, recorded_feedback
from mangaassist_assets.assets.golden import golden_set
from mangaassist_assets.assets.intent_dataset import intent_dataset
from mangaassist_assets.assets.knowledge import (
    chunk_embeddings,
    knowledge_chunks,
    live_index,
    retrieval_evaluation,
    search_index,
)
from mangaassist_assets.assets.labels import intent_labels, review_queue
from mangaassist_assets.assets.model_pipeline import build_pipeline_assets
from mangaassist_assets.assets.release import build_release_assets, runtime_configuration
from mangaassist_assets.assets.reports import satisfaction_report, usage_report
from mangaassist_assets.assets.reranker_dataset import reranker_dataset
from mangaassist_assets.assets.traces import tagged_traces
from mangaassist_assets.models.pipelines import MODEL_PIPELINES

ALL_ASSETS = (
    training_corpus,
    golden_set,
    first_intent_classifier,
    first_reranker,
    feedback_events,
    recorded_feedback,
    tagged_traces,
    failed_traces,
    failure_clusters,
    review_queue,
    satisfaction_report,
    usage_report,
    intent_labels,
    intent_dataset,
    reranker_dataset,
    *(asset for pipeline in MODEL_PIPELINES for asset in build_pipeline_assets(pipeline)),
    knowledge_chunks,
    chunk_embeddings,
    search_index,
    retrieval_evaluation,
    live_index,
    runtime_configuration,
    *build_release_assets(),
)
