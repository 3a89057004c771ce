"""Traces: what the chatbot did, by release bundle."""

import dagster as dg
from pydantic import Field

from mangaassist_assets.assets.common import PLATFORM, TRACE_INGESTION_POOL, materialized, table
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
    from collections import Counter

    from mangaassist_assets.assets.reading import (
        PRESENCE_FILE,
        QUARANTINE_FILE,
        TURNS_FILE,
        read_feedback,
        read_vocabulary,
    )
    from mangaassist_assets.core.bundles import TURNS_CARD_FILE
    from mangaassist_assets.core.codecs import to_parquet
    from mangaassist_assets.core.snapshots import canonical_json
    from mangaassist_assets.tracing.erasure import erased_users
    from mangaassist_assets.tracing.feedback.events import latest_feedback
    from mangaassist_assets.tracing.ingestion.trace_ingestion import TraceIngestion
    from mangaassist_assets.tracing.ingestion.turn_frames import with_feedback

    bundle = context.partition_key
    snapshots = store.snapshots()
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
    new = ingestion.advance()
    changed = ingestion.reconcile(bundle) if config.compare_with_source else None
    if config.sweep:
        ingestion.sweep()
    found = ingestion.bundle(bundle)
    turns = with_feedback(found.turns, latest_feedback(read_feedback(snapshots, bundle)))
    card = {
        "schema": 2,
        "release_bundle": bundle,
        "turns": turns.height,
        "quarantined": found.quarantined.height,
        "first_timestamp_ms": turns["timestamp_ms"].min(),
        "last_timestamp_ms": turns["timestamp_ms"].max(),
    }
    snapshot = snapshots.write(
        "tagged_traces",
        {
            TURNS_FILE: to_parquet(turns),
            QUARANTINE_FILE: to_parquet(found.quarantined),
            PRESENCE_FILE: to_parquet(found.presence),
            TURNS_CARD_FILE: canonical_json(card),
        },
        partition=bundle,
    )
    unassigned = ingestion.unassigned()
    context.log.info(f"{turns.height} turns, {found.quarantined.height} quarantined, {new.waiting} still being written")
    shapes = turns["shape"].value_counts().sort("shape")
    reasons = Counter(found.quarantined["reason"].to_list())
    return materialized(
        snapshot,
        {
            "dagster/row_count": dg.MetadataValue.int(turns.height),
            "quarantined": dg.MetadataValue.int(found.quarantined.height),
            "quarantine_reasons": table([{"reason": why, "traces": n} for why, n in reasons.most_common()]),
            "without_a_bundle": dg.MetadataValue.int(unassigned.height),
            "in_progress": dg.MetadataValue.int(new.waiting),
            "newly_read": dg.MetadataValue.int(new.turns + new.quarantined),
            "changed_since_read": dg.MetadataValue.int(0 if changed is None else changed.turns + changed.quarantined),
            "of_erased_users": dg.MetadataValue.int(found.erased),
            "reviewed": dg.MetadataValue.int(turns["reviewer"].count()),
            "shapes": table([{"shape": shape, "turns": n} for shape, n in shapes.iter_rows()]),
            "mlflow_traces": dg.MetadataValue.url(mlflow.traces_url(bundle)),
        },
    )
