"""Ingestion: what shoppers said with their thumbs, and what the chatbot did, by release bundle."""

import dagster as dg
from pydantic import Field

from mangaassist_assets.assets.common import FEEDBACK_STREAM_POOL, NIGHTLY, PLATFORM, TRACE_INGESTION_POOL, materialized
from mangaassist_assets.assets.declaring import declared_asset
from mangaassist_assets.assets.inputs import FEEDBACK, RECORDED_BEFORE, VOCABULARY, through
from mangaassist_assets.partitions import release_bundles
from resources.feedback.feedback_stream import KinesisFeedbackResource
from resources.mlflow.tracking import MlflowResource
from resources.settings.privacy import PrivacyResource
from resources.settings.trace_mapping import TraceMappingResource
from resources.store import StoreResource


@declared_asset(
    outside="the feedback stream",
    partitions_def=release_bundles,
    group_name="feedback",
    owners=[PLATFORM],
    kinds={"kinesis", "deltalake", "parquet"},
    pool=FEEDBACK_STREAM_POOL,
    code_version="3",
)
def feedback_events(
    context: dg.AssetExecutionContext,
    feedback_stream: KinesisFeedbackResource,
    mlflow: MlflowResource,
    privacy: PrivacyResource,
    store: StoreResource,
) -> dg.MaterializeResult[None]:
    """Thumbs of one release bundle, distinct by event id, oldest first.

    One row is one feedback event from the Kinesis stream `mangaassist-feedback`, or from what Firehose delivers of it.
    Materializing any bundle first ingests what is new of all bundles, with the position in the source; records that are
    no events are kept with their reasons, events of erased users are not kept. An event that does not say its bundle
    or session is joined with its trace, and waits as long as there is none.
    """
    from datetime import UTC, datetime

    from mangaassist_assets.tracing.erasure import erased_users
    from mangaassist_assets.tracing.feedback.bundle_feedback import ingest_feedback
    from mangaassist_assets.tracing.feedback.joining import IngestedFacts
    from resources.mlflow.traces.search import MlflowTraceFinder

    bundle, step = context.partition_key, store.step(context)
    feedback = ingest_feedback(
        feedback_stream,
        store.feedback_ingestion(),
        [MlflowTraceFinder(*mlflow.traces()), IngestedFacts(store.trace_ingestion_table())],
        bundle,
        erased_users=lambda: erased_users(step),
        pseudonym_key=privacy.pseudonym_key(),
        now=datetime.now(UTC),
    )
    ingested = feedback.ingested
    context.log.info(f"ingested {ingested.events} new events of all bundles, {ingested.rejects} unreadable records")
    for warning in feedback.warnings():
        context.log.warning(warning)
    return materialized(step.keep(feedback.files()), feedback.figures())


class RecordingConfig(dg.Config):
    """Which traces are looked at."""

    verify_all: bool = Field(
        default=False,
        description=(
            "Look at every trace, also at those whose feedback was recorded before: after MLflow was restored from a "
            "backup, or traces were imported again."
        ),
    )


@declared_asset(
    outside="the traces in MLflow",
    reads=(
        FEEDBACK,
        RECORDED_BEFORE,
    ),
    partitions_def=release_bundles,
    group_name="feedback",
    owners=[PLATFORM],
    kinds={"mlflow", "parquet"},
    pool=FEEDBACK_STREAM_POOL,
    code_version="1",
)
def recorded_feedback(
    context: dg.AssetExecutionContext, config: RecordingConfig, mlflow: MlflowResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """Feedback events of one release bundle on their MLflow traces, each exactly once.

    One row is one event with what became of it: recorded as a human assessment `user_feedback`, or pending because its
    trace does not exist yet; pending ones are tried at every materialization. The newest event of a trace is also its
    tag `user_feedback`.
    """
    from mangaassist_assets.tracing.feedback.recording import record_events
    from resources.mlflow.assessments.feedback import MlflowFeedbackRecorder

    step = store.step(context)
    recording = record_events(
        step.load(FEEDBACK),
        MlflowFeedbackRecorder(*mlflow.traces()),
        remembered=frozenset() if config.verify_all else step.load(RECORDED_BEFORE),
    )
    context.log.info(
        f"{recording.added} thumbs recorded, {recording.found} found on their traces, "
        f"{recording.count('pending')} wait for their traces"
    )
    traces = dg.MetadataValue.url(mlflow.traces_url(context.partition_key))
    return materialized(step.keep(recording.files()), {**recording.figures(), "mlflow_traces": traces})


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


@declared_asset(
    outside="the traces in MLflow",
    reads=(
        FEEDBACK,
        VOCABULARY,
        through("recorded_feedback", "MLflow", bundles="same"),
    ),
    partitions_def=release_bundles,
    group_name="mining",
    owners=[PLATFORM],
    kinds={"mlflow", "deltalake", "parquet"},
    pool=TRACE_INGESTION_POOL,
    freshness_policy=NIGHTLY,
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
    from mangaassist_assets.tracing.erasure import erased_users
    from mangaassist_assets.tracing.feedback.events import latest_feedback
    from mangaassist_assets.tracing.ingestion.bundle_ingestion import ingest_bundle
    from mangaassist_assets.tracing.ingestion.trace_ingestion import TraceIngestion

    bundle, step = context.partition_key, store.step(context)
    ingestion = TraceIngestion(
        store.trace_ingestion_table(),
        mlflow.trace_source(),
        erased_users=erased_users(step),
        pseudonym_key=privacy.pseudonym_key(),
        vocabulary=step.load(VOCABULARY),
        mapping=trace_mapping.mapping(),
        page=config.page,
        progress=lambda traces: context.log.info(f"{traces} traces read"),
    )
    ingested = ingest_bundle(
        ingestion,
        bundle,
        feedback=latest_feedback(step.load(FEEDBACK)),
        compare_with_source=config.compare_with_source,
        sweep=config.sweep,
    )
    snapshot = step.keep(ingested.files())
    context.log.info(str(ingested))
    traces = dg.MetadataValue.url(mlflow.traces_url(bundle))
    return materialized(snapshot, {**ingested.figures(), "mlflow_traces": traces})
