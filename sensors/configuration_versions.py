"""Starts a configuration refresh when a deployed AppConfig version changes, and observes every version in the graph."""

from typing import TYPE_CHECKING

import dagster as dg

from mangaassist_assets.assets.release import configuration_key
from mangaassist_assets.jobs import configuration_refresh
from resources.aws.app_config import AppConfigResource
from resources.aws.clients import error_code

if TYPE_CHECKING:
    from mangaassist_assets.triggers.configuration_changes import ConfigurationDeployment

_KIND = "configuration_changes"
_VERSION = 2
_BUSY = frozenset({"ThrottlingException", "TooManyRequestsException", "InternalServerException"})


@dg.sensor(
    name="configuration_versions",
    job=configuration_refresh,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "When a deployment of a configuration profile is complete: says what the new version changes (the asset "
        "configuration_evaluation) and records production's state. One under way is waited for, one that was rolled "
        "back or reverted is recorded only."
    ),
)
def configuration_versions(
    context: dg.SensorEvaluationContext, app_config: AppConfigResource
) -> dg.SensorResult | dg.SkipReason:
    """Compare the deployments with those of the last tick; request one run for all changes of this tick."""
    from botocore.exceptions import ClientError

    from mangaassist_assets.triggers.configuration_changes import ConfigurationState, find_configuration_changes
    from mangaassist_assets.triggers.cursors import cursor_version, from_cursor, to_cursor

    # What an earlier version remembered has no deployments: this look is a baseline.
    cursor_now = context.cursor if cursor_version(_KIND, context.cursor) == _VERSION else None
    before = from_cursor(_KIND, _VERSION, cursor_now, ConfigurationState)
    try:
        deployments = app_config.deployments()
    except ClientError as error:
        if error_code(error) not in _BUSY:
            raise
        return dg.SkipReason(f"AppConfig does not answer ({error_code(error)}): the next tick asks again")
    changes = find_configuration_changes(before, deployments)
    cursor = to_cursor(_KIND, _VERSION, changes.state)
    observed = [
        _observation(key, one)
        for one in (*changes.in_force, *changes.undone)
        if (key := configuration_key(one.profile)) is not None
    ]
    if not changes.changed:
        return dg.SensorResult(skip_reason=dg.SkipReason(changes.reason), cursor=cursor, asset_events=observed)
    context.log.info(changes.reason)
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key="+".join(change.run_key for change in changes.changed),
                tags={
                    "mangaassist/trigger": "configuration_versions",
                    "mangaassist/changed": ",".join(change.profile for change in changes.changed),
                },
            )
        ],
        cursor=cursor,
        asset_events=observed,
    )


def _observation(key: dg.AssetKey, deployment: "ConfigurationDeployment") -> dg.AssetObservation:
    """Return a deployment as an event of its profile; only one that is in force is a version of the data."""
    in_force = deployment.state == "COMPLETE"
    return dg.AssetObservation(
        asset_key=key,
        description=str(deployment),
        metadata={
            "version": dg.MetadataValue.text(deployment.version),
            "deployment": dg.MetadataValue.int(deployment.number),
            "state": dg.MetadataValue.text(deployment.state),
        },
        tags={"dagster/data_version": deployment.version} if in_force else {},
    )
