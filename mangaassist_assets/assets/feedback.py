"""Feedback: what shoppers' thumbs said, by release bundle. Counting them for triggers belongs to the sensor."""

import dagster as dg
from pydantic import Field

from mangaassist_assets.assets.common import FEEDBACK_STREAM_POOL, PLATFORM, materialized, table
from mangaassist_assets.partitions import release_bundles
from resources.feedback.feedback_stream import KinesisFeedbackResource
from resources.mlflow.tracking import MlflowResource
from resources.settings.privacy import PrivacyResource
from resources.store import StoreResource

RECORDING_FILE = "recording.parquet"


@dg.asset(
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

    from mangaassist_assets.assets.reading import EVENTS_FILE
    from mangaassist_assets.tracing.erasure import erased_users
    from mangaassist_assets.tracing.feedback.ingested_facts import IngestedFacts
    from mangaassist_assets.tracing.feedback.ingestion import ingest_new
    from mangaassist_assets.tracing.feedback.joining import OVERDUE, join_waiting
    from resources.mlflow.traces.trace_finder import MlflowTraceFinder

    snapshots = store.snapshots()
    ingestion = store.feedback_ingestion()
    erased = erased_users(snapshots)
    key = privacy.pseudonym_key()
    ingested = ingest_new(feedback_stream, ingestion, erased=erased, pseudonym_key=key)
    joined = join_waiting(
        ingestion,
        [MlflowTraceFinder.of(mlflow), IngestedFacts(store.trace_ingestion_table())],
        pseudonym_key=key,
        now=datetime.now(UTC),
        erased=erased,
    )
    # A user may have been erased while events were being ingested.
    late = erased_users(snapshots) - erased
    if late:
        ingestion.erase(user_keys=late)
    found = ingestion.table(context.partition_key, erased=erased | late)
    context.log.info(f"ingested {ingested.events} new events of all bundles, {ingested.rejects} unreadable records")
    if joined.overdue:
        context.log.warning(
            f"{joined.overdue} feedback events have waited for their traces for more than {OVERDUE.days} days (the "
            f"oldest is of {joined.oldest}): they are kept, and joined if the traces are imported"
        )
    for gap in ingested.gaps:
        context.log.warning(f"feedback records may be lost at {gap.place}: {gap.reason}")
    snapshot = snapshots.write("feedback_events", {EVENTS_FILE: found.to_parquet()}, partition=context.partition_key)
    return materialized(
        snapshot,
        {
            "dagster/row_count": dg.MetadataValue.int(found.frame.height),
            "thumbs_up": dg.MetadataValue.int(found.count("thumbs_up")),
            "thumbs_down": dg.MetadataValue.int(found.count("thumbs_down")),
            "duplicates_dropped": dg.MetadataValue.int(found.duplicates),
            "conflicting_events": dg.MetadataValue.int(found.conflicts),
            "newly_ingested": dg.MetadataValue.int(ingested.events),
            "newly_rejected": dg.MetadataValue.int(ingested.rejects),
            "dropped_of_erased_users": dg.MetadataValue.int(ingested.erased + joined.erased),
            "newly_joined": dg.MetadataValue.int(joined.joined),
            "waiting_for_a_trace": dg.MetadataValue.int(joined.waiting),
            "oldest_waiting": dg.MetadataValue.text(joined.oldest or "none"),
            "waiting_too_long": dg.MetadataValue.int(joined.overdue),
            "times_clipped_to_arrival": dg.MetadataValue.int(ingested.clipped),
            "times_unreadable": dg.MetadataValue.int(ingested.unreadable_times),
            "gaps": table([{"place": gap.place, "reason": gap.reason} for gap in ingested.gaps]),
        },
    )


class RecordingConfig(dg.Config):
    """How much of what was recorded before is believed."""

    verify_all: bool = Field(
        default=False,
        description=(
            "Look at every trace, also at those whose feedback was recorded before: after MLflow was restored from a "
            "backup, or traces were imported again."
        ),
    )


@dg.asset(
    partitions_def=release_bundles,
    deps=[feedback_events],
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
    from mangaassist_assets.assets.reading import read_feedback
    from mangaassist_assets.tracing.feedback.recording import record_events, recorded_before
    from resources.mlflow.assessments.feedback import MlflowFeedbackRecorder

    bundle = context.partition_key
    snapshots = store.snapshots()
    events = read_feedback(snapshots, bundle)
    before = None if config.verify_all else snapshots.find("recorded_feedback", partition=bundle)
    recording = record_events(
        events,
        MlflowFeedbackRecorder.of(mlflow),
        remembered=frozenset() if before is None else recorded_before(snapshots.read(before, RECORDING_FILE)),
    )
    context.log.info(
        f"{recording.added} thumbs recorded, {recording.found} found on their traces, "
        f"{recording.count('pending')} wait for their traces"
    )
    snapshot = snapshots.write("recorded_feedback", {RECORDING_FILE: recording.to_parquet()}, partition=bundle)
    return materialized(
        snapshot,
        {
            "dagster/row_count": dg.MetadataValue.int(recording.frame.height),
            "recorded": dg.MetadataValue.int(recording.count("recorded")),
            "pending": dg.MetadataValue.int(recording.count("pending")),
            "oldest_pending": dg.MetadataValue.text(recording.oldest_pending() or "none"),
            "of_another_bundle": dg.MetadataValue.int(recording.count("other_bundle")),
            "refused": dg.MetadataValue.int(recording.count("refused")),
            "newly_recorded": dg.MetadataValue.int(recording.added),
            "found_on_traces": dg.MetadataValue.int(recording.found),
            "remembered": dg.MetadataValue.int(recording.remembered),
            "tags_set": dg.MetadataValue.int(recording.tags_set),
            "mlflow_traces": dg.MetadataValue.url(mlflow.traces_url(bundle)),
        },
    )
