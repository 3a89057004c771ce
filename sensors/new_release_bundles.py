"""Makes a partition of every release bundle that appears in the traces, and mines it."""

import dagster as dg

from mangaassist_assets.jobs import failure_mining
from mangaassist_assets.partitions import release_bundles
from mangaassist_assets.triggers.cursors import cursor_from_json, cursor_to_json
from mangaassist_assets.triggers.new_bundles import find_new_bundles
from resources.mlflow_tracking import MlflowResource

_KIND = "new_release_bundles"
_VERSION = 1
OVERLAP_MS = 10 * 60 * 1000
"""Traces appear after they started and may come late: each tick looks back this far behind the newest one seen."""


@dg.sensor(
    name="new_release_bundles",
    job=failure_mining,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Registers release bundles seen in traces as partitions and requests their first mining.",
)
def new_release_bundles(context: dg.SensorEvaluationContext, mlflow: MlflowResource) -> dg.SensorResult:
    """Look through traces newer than the cursor for bundles that are no partition yet."""
    since_ms = int(cursor_from_json(_KIND, _VERSION, context.cursor)["newest_ms"]) if context.cursor else 0
    known = release_bundles.get_partition_keys(dynamic_partitions_store=context.instance)
    # Replayed or imported traces are older than the cursor: bundles that are no partition are looked for at any time.
    seen = mlflow.release_bundles_since(max(0, since_ms - OVERLAP_MS), known=known)
    found = find_new_bundles(known, seen.bundles)
    cursor = cursor_to_json(_KIND, _VERSION, {"newest_ms": max(since_ms, seen.newest_ms)})
    for rejected in found.rejected:
        context.log.warning(f"release_bundle {rejected.key!r} of a trace is no partition key: {rejected.reason}")
    if not found.new:
        reason = f"{len(seen.bundles)} bundles in {seen.traces} traces since the last look, all known"
        if found.rejected:
            reason += f"; {len(found.rejected)} keys rejected"
        return dg.SensorResult(skip_reason=dg.SkipReason(reason), cursor=cursor)
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key=f"new-bundle-{bundle}",
                partition_key=bundle,
                tags={"mangaassist/trigger": "new_release_bundles"},
            )
            for bundle in found.new
        ],
        dynamic_partitions_requests=[release_bundles.build_add_request(list(found.new))],
        cursor=cursor,
    )
