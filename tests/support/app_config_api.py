"""AppConfig in memory, both planes, by AWS's rules: tokens for one call, an empty body for what did not change."""

# ruff: noqa: N803  # the arguments are boto3's

from __future__ import annotations

import io
import json
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from resources.aws.app_config import AppConfigResource
from resources.aws.clients import AwsResource


def app_config_error(code: str, operation: str, message: str = "") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message or code}}, operation)


class AppConfigInMemory:
    """Profiles, hosted versions and deployments of one application and environment.

    `put` deploys whatever it is given, as somebody with the console does. `interval_s` is what the data plane says
    about the next poll. `down` makes every call of the data plane fail.
    """

    def __init__(self, *, interval_s: float = 0.0) -> None:
        self.interval_s = interval_s
        self.down = False
        self.profiles: dict[str, dict[str, str]] = {}
        self.versions: dict[tuple[str, int], bytes] = {}
        self.deployments: list[dict[str, Any]] = []
        self.sessions = 0
        self._tokens: dict[str, tuple[str, str | None]] = {}

    def put(self, profile: str, document: object, *, state: str = "COMPLETE", location: str = "hosted") -> str:
        """Store and deploy a document (JSON of anything but bytes) and return its version number."""
        self.profiles.setdefault(profile, {"Id": f"id-{profile}", "Name": profile, "LocationUri": location})
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        number = 1 + sum(1 for name, _ in self.versions if name == profile)
        self.versions[profile, number] = content
        self.deployments.append(
            {
                "DeploymentNumber": len(self.deployments) + 1,
                "ConfigurationName": profile,
                "ConfigurationVersion": str(number),
                "State": state,
            }
        )
        return str(number)

    # The control plane

    def get_paginator(self, operation: str) -> _Pages:
        items = {
            "list_applications": [{"Id": "app", "Name": "mangaassist"}],
            "list_environments": [{"Id": "env", "Name": "production"}],
            "list_configuration_profiles": list(self.profiles.values()),
        }
        return _Pages(items[operation])

    def list_deployments(self, **_: object) -> dict[str, Any]:
        return {"Items": list(reversed(self.deployments[-49:]))}

    def get_hosted_configuration_version(
        self, *, ConfigurationProfileId: str, VersionNumber: int, **_: object
    ) -> dict[str, Any]:
        profile = self.profiles[ConfigurationProfileId.removeprefix("id-")]
        content = self.versions.get((profile["Name"], VersionNumber))
        if profile["LocationUri"] != "hosted" or content is None:
            raise app_config_error("ResourceNotFoundException", "GetHostedConfigurationVersion")
        return {"Content": io.BytesIO(content)}

    def create_configuration_profile(self, *, Name: str, LocationUri: str, **_: object) -> dict[str, Any]:
        self.profiles[Name] = {"Id": f"id-{Name}", "Name": Name, "LocationUri": LocationUri}
        return self.profiles[Name]

    def create_hosted_configuration_version(
        self, *, ConfigurationProfileId: str, Content: bytes, **_: object
    ) -> dict[str, Any]:
        profile = ConfigurationProfileId.removeprefix("id-")
        number = 1 + sum(1 for name, _ in self.versions if name == profile)
        self.versions[profile, number] = Content
        return {"VersionNumber": number}

    def start_deployment(
        self, *, ConfigurationProfileId: str, ConfigurationVersion: str, **_: object
    ) -> dict[str, Any]:
        self.deployments.append(
            {
                "DeploymentNumber": len(self.deployments) + 1,
                "ConfigurationName": ConfigurationProfileId.removeprefix("id-"),
                "ConfigurationVersion": ConfigurationVersion,
                "State": "COMPLETE",
            }
        )
        return {"DeploymentNumber": len(self.deployments)}

    def get_deployment(self, *, DeploymentNumber: int, **_: object) -> dict[str, Any]:
        if DeploymentNumber > len(self.deployments):
            raise app_config_error("ResourceNotFoundException", "GetDeployment")
        return self.deployments[DeploymentNumber - 1]

    # The data plane

    def start_configuration_session(self, *, ConfigurationProfileIdentifier: str, **_: object) -> dict[str, Any]:
        self._answer("StartConfigurationSession")
        if ConfigurationProfileIdentifier not in self.profiles:
            raise app_config_error("ResourceNotFoundException", "StartConfigurationSession")
        self.sessions += 1
        return {"InitialConfigurationToken": self._token(ConfigurationProfileIdentifier, None)}

    def get_latest_configuration(self, *, ConfigurationToken: str) -> dict[str, Any]:
        self._answer("GetLatestConfiguration")
        if ConfigurationToken not in self._tokens:
            raise app_config_error("BadRequestException", "GetLatestConfiguration", "the token is used or expired")
        profile, seen = self._tokens.pop(ConfigurationToken)
        current = next(
            (
                one["ConfigurationVersion"]
                for one in reversed(self.deployments)
                if one["ConfigurationName"] == profile and one["State"] == "COMPLETE"
            ),
            None,
        )
        content = b"" if current in (None, seen) else self.versions[profile, int(current)]
        return {
            "Configuration": io.BytesIO(content),
            "NextPollConfigurationToken": self._token(profile, current),
            "NextPollIntervalInSeconds": self.interval_s,
        }

    def _token(self, profile: str, seen: str | None) -> str:
        token = f"token-{len(self._tokens)}-{profile}-{seen}-{self.sessions}-{id(object())}"
        self._tokens[token] = (profile, seen)
        return token

    def _answer(self, operation: str) -> None:
        if self.down:
            raise app_config_error("InternalServerException", operation, "try again")


class _Pages:
    def __init__(self, items: list[dict[str, str]]) -> None:
        self._items = items

    def paginate(self, **_: object) -> list[dict[str, Any]]:
        return [{"Items": self._items}]


class InMemoryAws(AwsResource):
    """Hands out the AppConfig in memory for both planes."""

    api: ClassVar[AppConfigInMemory]

    def client(self, service: str) -> AppConfigInMemory:
        assert service in {"appconfig", "appconfigdata"}
        return self.api


def app_config_in_memory(api: AppConfigInMemory) -> AppConfigResource:
    """Return the resource over one AppConfig in memory; one at a time."""
    InMemoryAws.api = api
    return AppConfigResource(aws=InMemoryAws())
