"""Starts a configuration refresh when a deployed AppConfig version changes."""

import dagster as dg

from mangaassist_assets.jobs import configuration_refresh
from resources.aws.app_config import AppConfigResource

_KIND = "configuration_changes"
_VERSION = 1


@dg.sensor(
    name="configuration_versions",
    job=configuration_refresh,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Evaluates retrieval again and records production's state when a configuration profile changes.",
)
def configuration_versions(context: dg.SensorEvaluationContext, app_config: AppConfigResource) -> dg.SensorResult:
    """Compare the deployed versions with those of the last tick; request one run for all changes of this tick."""
    from mangaassist_assets.triggers.configuration_changes import ConfigurationState, find_configuration_changes
    from mangaassist_assets.triggers.cursors import from_cursor, to_cursor

    deployed = app_config.deployed_versions()
    before = from_cursor(_KIND, _VERSION, context.cursor, ConfigurationState)
    changes = find_configuration_changes(before, deployed)
    cursor = to_cursor(_KIND, _VERSION, changes.state)
    if not changes.changed:
        return dg.SensorResult(skip_reason=dg.SkipReason(changes.reason), cursor=cursor)
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
    )
