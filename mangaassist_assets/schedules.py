"""Schedules: what runs by the clock. What runs on a signal is a sensor."""

import os
from zoneinfo import ZoneInfo

import dagster as dg

from mangaassist_assets.core.bundles import bundles_by_start, newest_bundle
from mangaassist_assets.jobs import CHAMPION_EVALUATION, RETRAINING, failure_mining, index_refresh, trigger_watch
from mangaassist_assets.partitions import release_bundles
from resources.mlflow.tracking import MlflowResource
from resources.store import StoreResource

TIME_ZONE = ZoneInfo(os.environ.get("MANGAASSIST_TIME_ZONE") or "UTC").key
"""In which the schedules' hours are; an unknown one stops loading with its name."""


def _newest(instance: dg.DagsterInstance, mlflow: MlflowResource, store: StoreResource) -> str | None:
    """Return the known release bundle whose first trace started last, or None before the first one.

    Imports register old bundles late: the order in which partitions were added says nothing. Bundles whose traces are
    stored have their start on record; of others the tracking server is asked.
    """
    known = release_bundles.get_partition_keys(dynamic_partitions_store=instance)
    stored = bundles_by_start(store.snapshots()) if known else {}
    return newest_bundle(known, stored, mlflow.bundle_start_ms)


@dg.schedule(
    job=failure_mining,
    cron_schedule="0 2 * * *",
    execution_timezone=TIME_ZONE,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every night: mine the newest release bundle, so that the morning starts with its failure clusters.",
)
def nightly_mining(
    context: dg.ScheduleEvaluationContext, mlflow: MlflowResource, store: StoreResource
) -> dg.RunRequest | dg.SkipReason:
    """Request one mining run of the newest bundle; the run key is the night."""
    bundle = _newest(context.instance, mlflow, store)
    if bundle is None:
        return dg.SkipReason("no release bundle with a trace is known yet")
    return dg.RunRequest(run_key=f"nightly-{context.scheduled_execution_time:%Y-%m-%d}-{bundle}", partition_key=bundle)


@dg.schedule(
    job_name=RETRAINING,
    cron_schedule="0 3 * * 0",
    execution_timezone=TIME_ZONE,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every Sunday: retrain and gate all models on the newest release bundle.",
)
def weekly_retraining(
    context: dg.ScheduleEvaluationContext, mlflow: MlflowResource, store: StoreResource
) -> dg.RunRequest | dg.SkipReason:
    """Request one retraining run of the newest bundle; the run key is the week."""
    bundle = _newest(context.instance, mlflow, store)
    if bundle is None:
        return dg.SkipReason("no release bundle with a trace is known yet")
    return dg.RunRequest(
        run_key=f"weekly-{context.scheduled_execution_time:%G-W%V}-{bundle}",
        partition_key=bundle,
        run_config={"ops": {"tagged_traces": {"config": {"sweep": True}}}},
    )


nightly_index_refresh = dg.ScheduleDefinition(
    name="nightly_index_refresh",
    job=index_refresh,
    cron_schedule="30 1 * * *",
    execution_timezone=TIME_ZONE,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every night: index what changed in the knowledge; unchanged content builds nothing.",
)

weekly_champion_evaluation = dg.ScheduleDefinition(
    name="weekly_champion_evaluation",
    job_name=CHAMPION_EVALUATION,
    cron_schedule="0 4 * * 1",
    execution_timezone=TIME_ZONE,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every Monday: judge the champions on fresh reviewed traffic, after Sunday's datasets are there.",
)

hourly_trigger_watch = dg.ScheduleDefinition(
    name="hourly_trigger_watch",
    job=trigger_watch,
    cron_schedule="15 * * * *",
    execution_timezone=TIME_ZONE,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every hour: what the feedback trigger saw and decided, and whether it is at work at all.",
)

ALL_SCHEDULES = (
    hourly_trigger_watch,
    nightly_mining,
    weekly_retraining,
    nightly_index_refresh,
    weekly_champion_evaluation,
)
