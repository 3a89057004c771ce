"""Traces: what the chatbot did, by release bundle, and which of it failed."""

import dagster as dg

from mangaassist_assets.assets.common import ML_ENGINEERING, PLATFORM, materialized, table
from mangaassist_assets.assets.feedback import feedback_events
from mangaassist_assets.partitions import release_bundles
from resources.mlflow_tracking import MlflowResource
from resources.store import StoreResource


@dg.asset(
    partitions_def=release_bundles,
    deps=[feedback_events],
    group_name="mining",
    owners=[PLATFORM],
    kinds={"mlflow", "parquet"},
    code_version="1",
)
def tagged_traces(
    context: dg.AssetExecutionContext, mlflow: MlflowResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """Chat turns of one release bundle under the trace contract, free of personal data.

    One row is one finished MLflow trace with its tags, candidates, feedback and reviews. A trace that breaks the
    contract is in the quarantine file with its reason; one that is still being written waits for the next reading.
    """
    from collections import Counter

    from mangaassist_assets.assets.reading import QUARANTINE_FILE, TURNS_CARD_FILE, TURNS_FILE
    from mangaassist_assets.storage import canonical_json
    from mangaassist_assets.tracing.contract import read_turns
    from mangaassist_assets.tracing.snapshot import quarantine_frame, to_parquet, turns_frame

    bundle = context.partition_key
    reading = read_turns(mlflow.read_traces(bundle))
    times = [turn.timestamp_ms for turn in reading.turns]
    card = {
        "schema": 1,
        "release_bundle": bundle,
        "turns": len(reading.turns),
        "quarantined": len(reading.quarantined),
        "first_timestamp_ms": min(times, default=None),
        "last_timestamp_ms": max(times, default=None),
    }
    snapshot = store.snapshots().write(
        "tagged_traces",
        {
            TURNS_FILE: to_parquet(turns_frame(reading.turns)),
            QUARANTINE_FILE: to_parquet(quarantine_frame(reading.quarantined)),
            TURNS_CARD_FILE: canonical_json(card),
        },
        partition=bundle,
    )
    context.log.info(
        f"{len(reading.turns)} turns, {len(reading.quarantined)} quarantined, {reading.in_progress} still being written"
    )
    reasons = Counter(item.reason for item in reading.quarantined)
    return materialized(
        snapshot,
        {
            "dagster/row_count": dg.MetadataValue.int(len(reading.turns)),
            "quarantined": dg.MetadataValue.int(len(reading.quarantined)),
            "quarantine_reasons": table([{"reason": why, "traces": n} for why, n in reasons.most_common()]),
            "in_progress": dg.MetadataValue.int(reading.in_progress),
            "reviewed": dg.MetadataValue.int(sum(1 for turn in reading.turns if turn.reviewer is not None)),
            "mlflow_traces": dg.MetadataValue.url(mlflow.traces_url(bundle)),
        },
    )


@dg.asset(
    partitions_def=release_bundles,
    deps=[tagged_traces],
    group_name="mining",
    owners=[ML_ENGINEERING],
    kinds={"json"},
    code_version="1",
)
def failed_traces(context: dg.AssetExecutionContext, store: StoreResource) -> dg.MaterializeResult[None]:
    """Failed turns of one release bundle, each blamed on a stage with its evidence.

    One row is one turn with at least one explicit failure signal (thumbs-down, failed review, guardrail block, error,
    empty retrieval). The blame decides which loop the failure feeds: retrain, reindex, or a configuration change.
    """
    from collections import Counter

    from mangaassist_assets.assets.reading import FAILURES_FILE, failures_to_json, read_turns
    from mangaassist_assets.mining.blame import STAGES, find_failures

    bundle = context.partition_key
    snapshots = store.snapshots()
    turns = read_turns(snapshots, bundle)
    failures = find_failures(turns)
    snapshot = snapshots.write("failed_traces", {FAILURES_FILE: failures_to_json(failures)}, partition=bundle)
    blamed = Counter(failure.blame.stage for failure in failures)
    signals = Counter(signal.name for failure in failures for signal in failure.signals)
    context.log.info(f"{len(failures)} of {len(turns)} turns failed")
    return materialized(
        snapshot,
        {
            "dagster/row_count": dg.MetadataValue.int(len(failures)),
            "turns": dg.MetadataValue.int(len(turns)),
            "failure_rate": dg.MetadataValue.float(len(failures) / len(turns) if turns else 0.0),
            "blame": table([{"stage": stage, "turns": blamed[stage]} for stage in STAGES if blamed[stage]]),
            "signals": table([{"signal": name, "turns": count} for name, count in signals.most_common()]),
            "worst": table(
                [
                    {
                        "trace_id": failure.turn.trace_id,
                        "stage": failure.blame.stage,
                        "evidence": failure.blame.evidence,
                        "confidence": failure.blame.confidence,
                    }
                    for failure in sorted(failures, key=lambda one: (-one.severity, one.turn.trace_id))[:20]
                ]
            ),
        },
    )
