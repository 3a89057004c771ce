"""Writes the release manifest when a retraining run has ended, however it ended.

A run that something broke skips what is downstream, and its bundle needs a manifest all the same, so manifest and
production state are no steps of that run: they are requested when it is over. `mangaassist loop` writes its own and
runs other jobs.
"""

import dagster as dg

from mangaassist_assets.jobs import Job, release

PARTITION_TAG = "dagster/partition"
WILL_RETRY_TAG = "dagster/will_retry"
MANIFEST_SOURCE = dg.AssetKey("tagged_traces")


def request_release(context: dg.RunStatusSensorContext) -> dg.RunRequest | dg.SkipReason:
    """Request one run of `release` for the bundle of a retraining run; the run key is that run."""
    run = context.dagster_run
    bundle = run.tags.get(PARTITION_TAG)
    if bundle is None:
        return dg.SkipReason(f"retraining run {run.run_id} was of no release bundle")
    if run.tags.get(WILL_RETRY_TAG) == "true":
        return dg.SkipReason(f"retraining run {run.run_id} of {bundle} lost its worker and is tried again")
    mined = context.instance.get_materialized_partitions(MANIFEST_SOURCE)
    if bundle not in mined:
        return dg.SkipReason(
            f"retraining run {run.run_id} ended before the traces of {bundle} were read: there is nothing to write a "
            "manifest of; materialize tagged_traces, then run the job release"
        )
    return dg.RunRequest(
        run_key=f"release-after-{run.run_id}",
        partition_key=bundle,
        tags={"mangaassist/trigger": "release_after_retraining", "mangaassist/retraining_run": run.run_id},
    )


def build_release_sensors(retraining: Job) -> tuple[dg.SensorDefinition, ...]:
    """Return a sensor for each way in which a run of the job `retraining` ends: Dagster watches one status a sensor."""
    return (
        _release_sensor(
            "release_after_retraining",
            retraining,
            status=dg.DagsterRunStatus.SUCCESS,
            when="that ran to its end, whatever its gates said",
        ),
        _release_sensor(
            "release_after_failed_retraining",
            retraining,
            status=dg.DagsterRunStatus.FAILURE,
            when="that something stopped",
        ),
    )


def _release_sensor(name: str, retraining: Job, *, status: dg.DagsterRunStatus, when: str) -> dg.SensorDefinition:

    @dg.run_status_sensor(
        name=name,
        run_status=status,
        monitored_jobs=[retraining],
        request_job=release,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Writes the release manifest and production's state after a retraining run {when}.",
    )
    def release_sensor(context: dg.RunStatusSensorContext) -> dg.RunRequest | dg.SkipReason:
        return request_release(context)

    return release_sensor
