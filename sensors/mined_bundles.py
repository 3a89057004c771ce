"""What Dagster knows of the mining of a release bundle: whether it was mined, and by which run it was asked for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import dagster as dg

from mangaassist_assets.jobs import BUNDLE_BACKFILL, RETRAINING, failure_mining
from mangaassist_assets.partitions import release_bundles

if TYPE_CHECKING:
    from collections.abc import Collection

MINED = dg.AssetKey("tagged_traces")
SENSOR = "new_release_bundles"
_MINING_JOBS = frozenset({failure_mining.name, RETRAINING, BUNDLE_BACKFILL})
_PARTITION_TAG = "dagster/partition"
_RUNS_LOOKED_AT = 50
# Dagster's daemon says every 30 seconds that it lives.
_HEARTBEAT_S = 120.0


def mined_bundles(instance: dg.DagsterInstance) -> set[str]:
    """Return the bundles that were mined, by whomever."""
    return instance.get_materialized_partitions(MINED)


def mining_run(instance: dg.DagsterInstance, release_bundle: str) -> dg.DagsterRun | None:
    """Return the newest run that mines a bundle, whatever became of it, or None."""
    runs = instance.get_runs(dg.RunsFilter(tags={_PARTITION_TAG: release_bundle}), limit=_RUNS_LOOKED_AT)
    return next((run for run in runs if run.job_name in _MINING_JOBS or MINED in (run.asset_selection or ())), None)


def mining_runs_of_unmined(instance: dg.DagsterInstance, mined: Collection[str]) -> dict[str, dg.DagsterRun]:
    """Return the newest mining run of each bundle that is a partition, is not mined, and has one."""
    partitions = release_bundles.get_partition_keys(dynamic_partitions_store=instance)
    runs = {bundle: mining_run(instance, bundle) for bundle in partitions if bundle not in mined}
    return {bundle: run for bundle, run in runs.items() if run is not None}


def sensor_is_on(instance: dg.DagsterInstance) -> bool:
    """Return whether a daemon of this instance runs that ticks the sensor, and nobody stopped the sensor."""
    heartbeat = instance.get_daemon_heartbeats().get("SENSOR")
    if heartbeat is None or time.time() - heartbeat.timestamp > _HEARTBEAT_S:
        return False
    return not any(
        state.instigator_name == SENSOR and state.status.value == "STOPPED" for state in instance.all_instigator_state()
    )
