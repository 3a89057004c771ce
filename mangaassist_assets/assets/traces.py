"""Traces: what the chatbot did, by release bundle."""

import dagster as dg
from pydantic import Field

from mangaassist_assets.assets.common import PLATFORM, TRACE_INGESTION_POOL, materialized
from mangaassist_assets.assets.feedback import feedback_events, recorded_feedback
from mangaassist_assets.assets.knowledge import knowledge_chunks
from mangaassist_assets.partitions import release_bundles
from resources.mlflow.tracking import MlflowResource
from resources.settings.privacy import PrivacyResource
from resources.settings.trace_mapping import TraceMappingResource
from resources.store import StoreResource


class TraceReadingConfig(dg.Config):
    """How thoroughly traces are read."""

    compare_with_source: bool = Field(
        default=True,
        description=(
            "Compare each trace of the bundle with the tracking store, without spans: finds late tags, late imports "
            "and deletions, at the cost of one header a trace. Off, only what is new is read."
        ),
    )
    sweep: bool = Field(
        default=False,
        description="Compare the traces of all bundles too: finds late traces that name no bundle. Weekly is enough.",
    )
    page: int = Field(default=500, ge=1, le=10_000, description="Traces of one request and one commit.")


@dg.asset(
    partitions_def=release_bundles,
    deps=[feedback_events, recorded_feedback, knowledge_chunks],
    group_name="mining",
    owners=[PLATFORM],
    kinds={"mlflow", "deltalake", "parquet"},
    pool=TRACE_INGESTION_POOL,
    code_version="3",
)
def tagged_traces(
    context: dg.AssetExecutionContext,
    config: TraceReadingConfig,
    mlflow: MlflowResource,
    privacy: PrivacyResource,
    store: StoreResource,
    trace_mapping: TraceMappingResource,
) -> dg.MaterializeResult[None]:
    """Chat turns of one release bundle under the trace contract, free of personal data.

    One row is one finished MLflow trace with its tags, candidates, stages, model and tool calls, verdicts, feedback
    and reviews, found by the trace mapping. A trace without bundle, session or message is in the quarantine file with
    its reason; one that is still being written waits for the next reading. Materializing any bundle ingests what is new
    of all bundles first. Redaction leaves the words of `knowledge_chunks` alone.
    """
    from mangaassist_assets.retrieval.stored_knowledge import read_vocabulary
    from mangaassist_assets.tracing.erasure import erased_users
    from mangaassist_assets.tracing.feedback.events import latest_feedback
    from mangaassist_assets.tracing.feedback.ingestion import read_feedback
    from mangaassist_assets.tracing.ingestion.bundle_ingestion import ingest_bundle
    from mangaassist_assets.tracing.ingestion.trace_ingestion import TraceIngestion

    bundle, snapshots = context.partition_key, store.snapshots()
    ingestion = TraceIngestion(
        store.trace_ingestion_table(),
        mlflow.trace_source(),
        erased_users=erased_users(snapshots),
        pseudonym_key=privacy.pseudonym_key(),
        vocabulary=read_vocabulary(snapshots),
        mapping=trace_mapping.mapping(),
        page=config.page,
        progress=lambda traces: context.log.info(f"{traces} traces read"),
    )
    ingested = ingest_bundle(
        ingestion,
        bundle,
        feedback=latest_feedback(read_feedback(snapshots, bundle)),
        compare_with_source=config.compare_with_source,
        sweep=config.sweep,
    )
    snapshot = snapshots.write("tagged_traces", ingested.files(), partition=bundle)
    context.log.info(str(ingested))
    traces = dg.MetadataValue.url(mlflow.traces_url(bundle))
    return materialized(snapshot, {**ingested.figures(), "mlflow_traces": traces})
