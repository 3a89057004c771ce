"""AppConfig: deploying the chatbot's documents, which versions are in force, and polling them.

Every document is validated here before it is stored: AppConfig's validators do it again on AWS, and nothing else does
it locally.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mangaassist_assets.chatbot.configuration.profiles import APPLICATION, ENVIRONMENT, PROFILES
from mangaassist_assets.core.errors import OperatorError
from resources.aws.clients import AwsResource, error_code, poll_until

if TYPE_CHECKING:
    # The documents' models take long to build: nothing that loads with the definitions imports them.
    from mypy_boto3_appconfig import AppConfigClient
    from mypy_boto3_appconfigdata import AppConfigDataClient

    from mangaassist_assets.chatbot.configuration.documents import Document
    from mangaassist_assets.chatbot.configuration.review import ProfileReview
    from mangaassist_assets.triggers.configuration_changes import ConfigurationDeployment
    from resources.aws.app_config_poller import ConfigurationPoller

_ENDED = frozenset({"COMPLETE", "ROLLED_BACK", "REVERTED"})
_DEPLOYMENTS_PER_PAGE = 50
_HISTORY = 20


class ConfigurationNotDeployedError(OperatorError, RuntimeError):
    """A document did not come into force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedDocument:
    """The version of a profile that is in force after `deploy`; `changed` is False where it was before."""

    profile: str
    version_number: str
    document_version: str
    changed: bool


class AppConfigResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The control plane of the chatbot's configuration."""

    aws: AwsResource = Field(description="How AWS is reached.")
    application: str = Field(default=APPLICATION, description="AppConfig application.")
    environment: str = Field(default=ENVIRONMENT, description="AppConfig environment.")
    deployment_strategy_id: str = Field(
        default="AppConfig.AllAtOnce", description="Deployment strategy, predefined or an id of your own."
    )
    deployment_timeout_s: float = Field(default=1_800.0, gt=0, description="Seconds a deployment may take.")

    def deploy(self, profile: str, document: "Document |  Mapping[str, Any]") -> DeployedDocument:
        """Bring a document into force and wait until it is.

        The content that is in force already makes no new version. Other content needs another `version`, or traces
        could not distinguish the two.

        Raises:
            ConfigurationDocumentError: The document is not valid for this profile, or names an experiment that does not
                fit the documents in force.
            ConfigurationNotDeployedError: Its version names other content, or the deployment was rolled back.
        """
        from mangaassist_assets.chatbot.configuration.documents import dump_document

        valid = _validated(profile, document)
        if profile == "experiments":
            self._check_experiments(valid)
        application, environment = self._ensure_application()
        profile_id = self._ensure_profile(application, profile)
        current = self._in_force(application, environment).get(profile)
        if current is not None:
            stored = _document_of(profile, self._content(application, profile_id, current))
            if stored == valid:
                return DeployedDocument(
                    profile=profile, version_number=current, document_version=valid.version, changed=False
                )
            if stored is not None and stored.version == valid.version:
                raise ConfigurationNotDeployedError(
                    f"the {profile} document in force is version {valid.version!r} too, with other content: give the "
                    "new document another version"
                )
        number = self._store(application, profile_id, dump_document(valid), valid.version)
        self._start(application, environment, profile, profile_id, number)
        return DeployedDocument(profile=profile, version_number=number, document_version=valid.version, changed=True)

    def deployed_versions(self) -> dict[str, str]:
        """Return the AppConfig version number in force by profile.

        Only a COMPLETE deployment counts: one under way or rolled back is no change. A profile that never had one is
        not in the answer, and before bootstrap the answer is empty.
        """
        application = self._find_application()
        if application is None:
            return {}
        environment = self._find_environment(application)
        return {} if environment is None else self._in_force(application, environment)

    def deployments(self) -> "list[ConfigurationDeployment]":
        """Return all deployments that AppConfig remembers, whatever became of them; before bootstrap there is none."""
        from mangaassist_assets.triggers.configuration_changes import ConfigurationDeployment

        application = self._find_application()
        environment = None if application is None else self._find_environment(application)
        if application is None or environment is None:
            return []
        return [
            ConfigurationDeployment(
                number=number,
                profile=str(item["ConfigurationName"]),
                version=str(item["ConfigurationVersion"]),
                state=str(item["State"]),
                percentage=item.get("PercentageComplete"),
            )
            for number, item in self._deployments(application, environment)
        ]

    def in_force(self, count: int) -> "dict[str, list[tuple[str, Document]]]":
        """Return by profile the newest valid documents that were ever in force with their numbers, `count` at most."""
        from mangaassist_assets.chatbot.configuration.review import valid_documents

        return {
            profile: list(itertools.islice(valid_documents(profile, history), count))
            for profile, history in self._histories().items()
            if profile in PROFILES
        }

    def review(self) -> "tuple[ProfileReview, ...]":
        """Judge every deployed profile: unknown fields, problems, and the version that serves."""
        from mangaassist_assets.chatbot.configuration.review import review_configuration

        return review_configuration(self._histories())

    def document(self, profile: str) -> "Document | None":
        """Return the document that serves: the newest valid one that was ever in force, or None."""
        from mangaassist_assets.chatbot.configuration.review import review_profile

        history = self._histories().get(profile)
        return None if history is None else review_profile(profile, history).document

    def deploy_first(self, document: "Document") -> DeployedDocument | None:
        """Bring a document into force where its profile has none yet; returns None where it has one."""
        from mangaassist_assets.chatbot.configuration.documents import profile_of

        profile = profile_of(document)
        return None if profile in self.deployed_versions() else self.deploy(profile, document)

    def configuration(self) -> "ConfigurationPoller":
        """Return a reader of the data plane, for a chatbot that runs."""
        from resources.aws.app_config_poller import ConfigurationPoller

        return ConfigurationPoller(
            self.aws, application=self.application, environment=self.environment, last_good=self.document
        )

    def _check_experiments(self, document: "Document") -> None:
        from mangaassist_assets.chatbot.configuration.fields import ConfigurationDocumentError
        from mangaassist_assets.chatbot.configuration.review import experiment_problems

        in_force = {one.profile: one.document for one in self.review()}
        if problems := experiment_problems({**in_force, "experiments": document}):
            raise ConfigurationDocumentError("experiments", problems)

    def _client(self) -> "AppConfigClient":
        client: AppConfigClient = self.aws.client("appconfig")
        return client

    def _find_application(self) -> str | None:
        pages = self._client().get_paginator("list_applications").paginate()
        return next(
            (str(item["Id"]) for page in pages for item in page["Items"] if item["Name"] == self.application), None
        )

    def _find_environment(self, application: str) -> str | None:
        pages = self._client().get_paginator("list_environments").paginate(ApplicationId=application)
        return next(
            (str(item["Id"]) for page in pages for item in page["Items"] if item["Name"] == self.environment), None
        )

    def _ensure_application(self) -> tuple[str, str]:
        client = self._client()
        application = self._find_application() or client.create_application(Name=self.application)["Id"]
        environment = self._find_environment(application)
        if environment is None:
            environment = client.create_environment(ApplicationId=application, Name=self.environment)["Id"]
        return application, environment

    def _ensure_profile(self, application: str, profile: str) -> str:
        found = self._profiles(application).get(profile)
        if found is not None:
            return str(found["Id"])
        created = self._client().create_configuration_profile(
            ApplicationId=application, Name=profile, LocationUri="hosted", Type="AWS.Freeform"
        )
        return created["Id"]

    def _profiles(self, application: str) -> dict[str, Mapping[str, Any]]:
        pages = self._client().get_paginator("list_configuration_profiles").paginate(ApplicationId=application)
        return {str(item["Name"]): item for page in pages for item in page["Items"]}

    def _histories(self) -> dict[str, Iterator[tuple[str, bytes | None]]]:
        application = self._find_application()
        environment = None if application is None else self._find_environment(application)
        if application is None or environment is None:
            return {}
        profiles = self._profiles(application)
        return {
            profile: self._contents(application, profiles[profile], versions)
            for profile, versions in self._completed(application, environment).items()
            # One that was deleted is listed with its deployments, and serves nobody.
            if profile in profiles
        }

    def _contents(
        self, application: str, profile: Mapping[str, Any], versions: Sequence[str]
    ) -> Iterator[tuple[str, bytes | None]]:
        """Yield the version in force and those before it with their content, which is read only when it is asked for.

        A profile that AppConfig does not host (S3, Parameter Store) has no history here: the data plane states what is
        in force.
        """
        from botocore.exceptions import ClientError

        if profile["LocationUri"] != "hosted" or profile["Name"] not in PROFILES:
            # Nobody here reads a profile that is unknown.
            yield versions[0], self._served(profile["Name"]) if profile["Name"] in PROFILES else None
            return
        for version in versions[:_HISTORY]:
            try:
                content = self._content(application, str(profile["Id"]), version)
            except ClientError as error:
                if error_code(error) != "ResourceNotFoundException":
                    raise
                yield version, None
            else:
                yield version, content

    def _served(self, profile: str) -> bytes:
        client: AppConfigDataClient = self.aws.client("appconfigdata")
        token = client.start_configuration_session(
            ApplicationIdentifier=self.application,
            EnvironmentIdentifier=self.environment,
            ConfigurationProfileIdentifier=profile,
        )["InitialConfigurationToken"]
        return client.get_latest_configuration(ConfigurationToken=token)["Configuration"].read()

    def _content(self, application: str, profile_id: str, version: str) -> bytes:
        answer = self._client().get_hosted_configuration_version(
            ApplicationId=application, ConfigurationProfileId=profile_id, VersionNumber=int(version)
        )
        return answer["Content"].read()

    def _store(self, application: str, profile_id: str, content: bytes, label: str) -> str:
        answer = self._client().create_hosted_configuration_version(
            ApplicationId=application,
            ConfigurationProfileId=profile_id,
            Content=content,
            ContentType="application/json",
            Description=f"document version {label}",
        )
        return str(answer["VersionNumber"])

    def _in_force(self, application: str, environment: str) -> dict[str, str]:
        return {profile: versions[0] for profile, versions in self._completed(application, environment).items()}

    def _completed(self, application: str, environment: str) -> dict[str, list[str]]:
        """Return by profile the versions that came into force, the last one first, each once."""
        found: dict[str, list[str]] = {}
        deployments = sorted(self._deployments(application, environment), key=lambda one: one[0], reverse=True)
        for _, deployment in deployments:
            if deployment["State"] == "COMPLETE":
                versions = found.setdefault(str(deployment["ConfigurationName"]), [])
                if (version := str(deployment["ConfigurationVersion"])) not in versions:
                    versions.append(version)
        return dict(sorted(found.items()))

    def _deployments(self, application: str, environment: str) -> list[tuple[int, Mapping[str, Any]]]:
        from botocore.exceptions import ClientError

        client = self._client()
        found: list[tuple[int, Mapping[str, Any]]] = []
        token: dict[str, str] = {}
        while True:
            answer = client.list_deployments(
                ApplicationId=application, EnvironmentId=environment, MaxResults=_DEPLOYMENTS_PER_PAGE, **token
            )
            found += [(int(item["DeploymentNumber"]), item) for item in answer["Items"]]
            if not answer.get("NextToken"):
                break
            token = {"NextToken": answer["NextToken"]}
        # AWS pages newest first. MiniStack gives the oldest page and no token: ask for what follows it by number.
        while len(found) >= _DEPLOYMENTS_PER_PAGE:
            following = max(number for number, _ in found) + 1
            try:
                deployment = client.get_deployment(
                    ApplicationId=application, EnvironmentId=environment, DeploymentNumber=following
                )
            except ClientError as error:
                if error_code(error) != "ResourceNotFoundException":
                    raise
                break
            found.append((following, deployment))
        return found

    def _start(self, application: str, environment: str, profile: str, profile_id: str, version: str) -> None:
        client = self._client()
        number = client.start_deployment(
            ApplicationId=application,
            EnvironmentId=environment,
            DeploymentStrategyId=self.deployment_strategy_id,
            ConfigurationProfileId=profile_id,
            ConfigurationVersion=version,
        )["DeploymentNumber"]

        def ended() -> str | None:
            state = client.get_deployment(
                ApplicationId=application, EnvironmentId=environment, DeploymentNumber=number
            )["State"]
            return state if state in _ENDED else None

        state = poll_until(
            ended,
            what=f"AppConfig deployment {number} of {profile} version {version}",
            timeout_s=self.deployment_timeout_s,
            interval_s=1.0,
        )
        if state != "COMPLETE":
            raise ConfigurationNotDeployedError(
                f"AppConfig deployment {number} of {profile} version {version} ended {state}: the earlier version is "
                "still in force; see the deployment's event log in AppConfig"
            )


def _validated(profile: str, document: "Document | Mapping[str, Any]") -> "Document":
    from mangaassist_assets.chatbot.configuration.documents import dump_document, parse_document

    if isinstance(document, Mapping):
        return parse_document(profile, json.dumps(dict(document)))
    return parse_document(profile, dump_document(document))


def _document_of(profile: str, content: bytes) -> "Document | None":
    from mangaassist_assets.chatbot.configuration.documents import parse_document

    try:
        # Compared as documents: one that was deployed before a field existed is the one with its default.
        return parse_document(profile, content)
    except ValueError:
        # Somebody deployed an invalid document past this code: any valid one replaces it.
        return None
