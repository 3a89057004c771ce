"""Mines every release bundle that appears in the traces, live or imported, and makes a partition of it.

What decides is whether the bundle was mined or a run was asked for, not whether it is a partition: an import makes
partitions as well. A mining that failed is not asked for again; the reason of the tick names it.
"""

from dataclasses import dataclass

import dagster as dg

from mangaassist_assets.jobs import failure_mining
from mangaassist_assets.partitions import release_bundles
from resources.mlflow.tracking import MlflowResource
from sensors.mined_bundles import SENSOR, mined_bundles, mining_runs_of_unmined

_KIND = "new_release_bundles"
_VERSION = 1
OVERLAP_MS = 10 * 60 * 1000
"""Traces appear after they started and may come late: each tick looks back this far behind the newest one seen."""
_NO_BUNDLE = "_"
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How far the traces were looked through: the start of the newest one, in milliseconds since the epoch."""

    newest_ms: int


@dg.sensor(
    name=SENSOR,
    job=failure_mining,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Requests the first mining of release bundles seen in traces, and registers them as partitions.",
)
def new_release_bundles(context: dg.SensorEvaluationContext, mlflow: MlflowResource) -> dg.SensorResult:
    """Look through the traces for bundles that were not mined yet and have no run that does it."""
    from mangaassist_assets.triggers.cursors import from_cursor, to_cursor
    from mangaassist_assets.triggers.new_bundles import find_new_bundles

    since_ms = (from_cursor(_KIND, _VERSION, context.cursor, Seen) or Seen(newest_ms=0)).newest_ms
    mined = mined_bundles(context.instance)
    requested = mining_runs_of_unmined(context.instance, mined)
    # Replayed or imported traces are older than the cursor: bundles that are not known are looked for at any time,
    # which takes a known one.
    known = mined | set(requested) or {_NO_BUNDLE}
    seen = mlflow.release_bundles_since(max(0, since_ms - OVERLAP_MS), known=known)
    found = find_new_bundles(known, seen.bundles)
    cursor = to_cursor(_KIND, _VERSION, Seen(newest_ms=max(since_ms, seen.newest_ms)))
    for key, reason in found.rejected.items():
        context.log.warning(f"release_bundle {key!r} of a trace is no partition key: {reason}")
    if not found.new:
        reason = f"{len(seen.bundles)} bundles in {seen.traces} traces since the last look, all known"
        if found.rejected:
            reason += f"; {len(found.rejected)} keys rejected"
        return dg.SensorResult(skip_reason=dg.SkipReason(reason + _unmined(requested)), cursor=cursor)
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key=f"new-bundle-{bundle}",
                partition_key=bundle,
                tags={"mangaassist/trigger": SENSOR},
            )
            for bundle in found.new
        ],
        dynamic_partitions_requests=[release_bundles.build_add_request(list(found.new))],
        cursor=cursor,
    )


def _unmined(requested: dict[str, dg.DagsterRun]) -> str:
    ended = [(bundle, run) for bundle, run in sorted(requested.items()) if run.is_finished]
    under_way = len(requested) - len(ended)
    said = f"; {under_way} being mined" if under_way else ""
    if ended:
        named = ", ".join(f"{bundle} (run {run.run_id[:8]} {run.status.value})" for bundle, run in ended[:_SHOWN])
        said += f"; not mined: {named}{' …' if len(ended) > _SHOWN else ''}: run failure_mining of them again"
    return said
