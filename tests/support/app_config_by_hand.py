"""AppConfig as somebody with the console uses it."""

from __future__ import annotations

from resources.aws.app_config import AppConfigResource


def past_this_code(app_config: AppConfigResource, profile: str, content: bytes) -> None:
    """Deploy what this platform would refuse, as somebody with the console can."""
    client = app_config.aws.client("appconfig")
    application, environment = app_config._ensure_application()
    profile_id = app_config._ensure_profile(application, profile)
    number = app_config._store(application, profile_id, content, "by hand")
    client.start_deployment(
        ApplicationId=application,
        EnvironmentId=environment,
        DeploymentStrategyId="AppConfig.AllAtOnce",
        ConfigurationProfileId=profile_id,
        ConfigurationVersion=number,
    )
