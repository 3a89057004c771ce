"""SageMaker endpoints: deploying a hash-checked model artifact, describing what is served, invoking.

Names of models and endpoint configurations are made of what they hold, so deploying the same thing twice makes the
same names and does nothing.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mangaassist_assets.chatbot.parts import StageError
from mangaassist_assets.core.errors import OperatorError
from resources.aws.clients import AwsResource, error_code, error_message, poll_until
from resources.aws.endpoint_tags import TagError
from resources.aws.sagemaker_models import create_once, ensure_model, model_of, tags_of

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

    from mangaassist_assets.releases.deployment import EndpointDeployment, ServedVersion
    from resources.aws.endpoint_leftovers import Leftover

VARIANT = "primary"
MODEL_NAME_VARIABLE = "MANGAASSIST_MODEL_NAME"
MODEL_VERSION_VARIABLE = "MANGAASSIST_MODEL_VERSION"
MODEL_SHA256_VARIABLE = "MANGAASSIST_MODEL_SHA256"

_RESTING = frozenset({"InService", "Failed", "OutOfService", "UpdateRollbackFailed"})
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9]|-(?=[A-Za-z0-9])){0,62}")


class EndpointDeploymentError(OperatorError, RuntimeError):
    """An endpoint does not serve the version it was asked to serve."""


class EndpointInvocationError(StageError):
    """An endpoint gave no valid answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointDescription:
    """What an endpoint serves by its configuration; the model fields are None where it is none of ours."""

    endpoint_name: str
    endpoint_arn: str
    status: str
    config_name: str
    model_name: str | None
    model_version: str | None
    artifact_sha256: str | None
    artifact_uri: str | None
    failure_reason: str | None


class SageMakerResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Deploys and invokes model endpoints."""

    aws: AwsResource = Field(description="How AWS is reached.")
    image: str = Field(
        default="mangaassist-inference:local",
        description="Container image that runs the inference code; local: a name.",
    )
    role_arn: str = Field(
        default="arn:aws:iam::000000000000:role/mangaassist-endpoints",
        description="Execution role of the endpoints; it needs to read the artifacts.",
    )
    instance_type: str = Field(default="ml.c7i.xlarge", description="Instance type of the variant `primary`.")
    instance_count: int = Field(default=1, ge=1, description="Instances of the variant `primary`.")
    container_environment: dict[str, str] = Field(
        default={}, description="Further environment variables of the container, for example OMP_NUM_THREADS."
    )
    request_forms: dict[str, list[str]] = Field(
        default={},
        description="By endpoint name the forms of request that production uses, in place of the model pipeline's own: "
        "text, inputs, query_passages. They count where traces do not state it.",
    )
    deployment_timeout_s: float = Field(default=1_800.0, gt=0, description="Seconds a deployment may take.")
    poll_interval_s: float = Field(default=0.5, gt=0, description="Seconds between two looks at a deployment.")

    def deploy(
        self,
        endpoint_name: str,
        *,
        model_name: str,
        model_version: str,
        artifact_uri: str,
        artifact_sha256: str,
        tags: Mapping[str, str] | None = None,
        admit: Callable[[], None] | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> "EndpointDeployment":
        """Bring a model version into service and wait until it is.

        Args:
            endpoint_name: Endpoint to create or update.
            model_name: Registered model.
            model_version: Its version in the registry.
            artifact_uri: Folder of the artifact, `s3://…` or locally `file://…`.
            artifact_sha256: Digest of the artifact; the container refuses to load anything else.
            tags: Of the SageMaker model: where the version comes from. Others that it has stay.
            admit: Called where something new is about to come into service; raises where it must not. Nothing is made
                before.
            progress: Told about every change of the endpoint's status.

        Raises:
            EndpointDeploymentError: The endpoint failed, SageMaker went back to the former configuration, or AWS takes
                no such tag.
            DeadlineExceededError: It took longer than `deployment_timeout_s`.
        """
        if not _SHA256.fullmatch(artifact_sha256):
            raise EndpointDeploymentError(f"artifact digest {artifact_sha256[:80]!r} is not a SHA-256 in hex")
        say = progress or (lambda _: None)
        container = {
            "Image": self.image,
            "Mode": "SingleModel",
            "ModelDataSource": {
                "S3DataSource": {
                    # A prefix ends in a slash, or it would name its siblings too.
                    "S3Uri": artifact_uri.rstrip("/") + "/",
                    "S3DataType": "S3Prefix",
                    "CompressionType": "None",
                }
            },
            "Environment": {
                **self.container_environment,
                MODEL_NAME_VARIABLE: model_name,
                MODEL_VERSION_VARIABLE: str(model_version),
                MODEL_SHA256_VARIABLE: artifact_sha256,
            },
        }
        config_name = self._config_name(endpoint_name, model_version, artifact_sha256, [container, self.role_arn])
        before = self._settled(endpoint_name, say)
        in_service = before is not None and before["EndpointStatus"] == "InService"
        serves = in_service and before is not None and before.get("EndpointConfigName") == config_name
        if admit is not None and not serves:
            admit()
        self._ensure_config(config_name, container, tags or {})
        if before is not None and serves:
            return _deployment(before, changed=False)
        if in_service:
            self._client().update_endpoint(EndpointName=endpoint_name, EndpointConfigName=config_name)
        else:
            if before is not None:
                # An endpoint that failed can only be deleted.
                self._delete(endpoint_name, say)
            self._client().create_endpoint(EndpointName=endpoint_name, EndpointConfigName=config_name)
        after = self._settled(endpoint_name, say)
        if after is None or after["EndpointStatus"] != "InService" or after.get("EndpointConfigName") != config_name:
            reason = "it is gone" if after is None else after.get("FailureReason") or after["EndpointStatus"]
            raise EndpointDeploymentError(
                f"endpoint {endpoint_name} does not serve {model_name} version {model_version}: {reason}"
                + (
                    "; the former configuration is in service"
                    if after and after["EndpointStatus"] == "InService"
                    else ""
                )
            )
        return _deployment(after, changed=True)

    def describe(self, endpoint_name: str) -> EndpointDescription | None:
        """Return what an endpoint serves, or None where there is no endpoint of this name."""
        found = self._describe_endpoint(endpoint_name)
        if found is None:
            return None
        config_name = found.get("EndpointConfigName", "")
        container = model_of(self._client(), config_name, VARIANT).get("PrimaryContainer", {}) if config_name else {}
        environment = container.get("Environment", {})
        source = container.get("ModelDataSource", {}).get("S3DataSource", {})
        return EndpointDescription(
            endpoint_name=endpoint_name,
            endpoint_arn=found["EndpointArn"],
            status=found["EndpointStatus"],
            config_name=config_name,
            model_name=environment.get(MODEL_NAME_VARIABLE),
            model_version=environment.get(MODEL_VERSION_VARIABLE),
            artifact_sha256=environment.get(MODEL_SHA256_VARIABLE),
            artifact_uri=source.get("S3Uri"),
            failure_reason=found.get("FailureReason"),
        )

    def served_version(self, endpoint_name: str) -> "ServedVersion | None":
        """Return which version an endpoint says it serves, by its SageMaker model's tags; None without an endpoint."""
        described = self.describe(endpoint_name)
        if described is None:
            return None
        model = model_of(self._client(), described.config_name, VARIANT) if described.config_name else {}
        from mangaassist_assets.releases.deployment import ServedVersion

        return ServedVersion(
            endpoint_name=endpoint_name,
            config_name=described.config_name,
            status=described.status,
            loads_sha256=described.artifact_sha256,
            tags=tags_of(self._client(), model["ModelArn"]) if model else {},
        )

    def invoke(self, endpoint_name: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request of the inference contract.

        Raises:
            EndpointInvocationError: No endpoint, no connection, an error of the model, or an answer that is no JSON
                object; says which. Request texts are never part of it.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        client: SageMakerRuntimeClient = self.aws.client("sagemaker-runtime")
        body = json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace")
        try:
            answer = client.invoke_endpoint(
                EndpointName=endpoint_name, ContentType="application/json", Accept="application/json", Body=body
            )
            content = answer["Body"].read()
        except ClientError as error:
            raise EndpointInvocationError(
                f"endpoint {endpoint_name}: {error_code(error)}: {error_message(error)[:500]}"
            ) from error
        except BotoCoreError as error:
            raise EndpointInvocationError(f"endpoint {endpoint_name} could not be reached: {error}") from error
        try:
            parsed = json.loads(content)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            raise EndpointInvocationError(
                f"endpoint {endpoint_name} answered with {len(content)} bytes that are no JSON object"
            )
        return parsed

    def leftovers(self, endpoint_names: Collection[str], **kept: Any) -> "list[Leftover]":  # noqa: ANN401 - of `leftovers`
        """Return what deployments of some endpoints left; see `endpoint_leftovers.leftovers` for the rest."""
        from resources.aws.endpoint_leftovers import leftovers

        return leftovers(self._client(), endpoint_names, **kept)

    def delete_leftovers(self, found: "Collection[Leftover]") -> None:
        """Delete what deployments left; what is gone already is fine."""
        from resources.aws.endpoint_leftovers import delete_leftovers

        delete_leftovers(self._client(), found)

    def endpoint(self, endpoint_name: str) -> "SageMakerEndpoint":
        """Return one endpoint as the chatbot takes it."""
        return SageMakerEndpoint(self, endpoint_name)

    def endpoint_url(self, endpoint_name: str) -> str:
        """Return the endpoint's page in the AWS console of the region, or its address on a stand-in."""
        client = self._client()
        region, base = client.meta.region_name, client.meta.endpoint_url
        if "amazonaws.com" in base:
            return f"https://{region}.console.aws.amazon.com/sagemaker/home?region={region}#/endpoints/{endpoint_name}"
        return f"{base.rstrip('/')}/endpoints/{endpoint_name}/invocations"

    def _client(self) -> "SageMakerClient":
        client: SageMakerClient = self.aws.client("sagemaker")
        return client

    def _describe_endpoint(self, name: str) -> dict[str, Any] | None:
        from botocore.exceptions import ClientError

        try:
            return dict(self._client().describe_endpoint(EndpointName=name))
        except ClientError as error:
            # SageMaker says ValidationException for what it cannot find.
            if error_code(error) == "ValidationException" and "could not find" in error_message(error).lower():
                return None
            raise

    def _settled(self, name: str, say: Callable[[str], None]) -> dict[str, Any] | None:
        """Wait until an endpoint is neither created nor updated nor deleted any more; None where there is none."""
        last = ""

        def resting() -> tuple[dict[str, Any] | None] | None:
            nonlocal last
            found = self._describe_endpoint(name)
            status = "deleted" if found is None else found["EndpointStatus"]
            if status != last:
                last = status
                say(f"endpoint {name}: {status}")
            return (found,) if found is None or status in _RESTING else None

        return poll_until(
            resting,
            what=f"endpoint {name} to come to rest",
            timeout_s=self.deployment_timeout_s,
            interval_s=self.poll_interval_s,
        )[0]

    def _delete(self, name: str, say: Callable[[str], None]) -> None:
        self._client().delete_endpoint(EndpointName=name)
        poll_until(
            lambda: True if self._describe_endpoint(name) is None else None,
            what=f"failed endpoint {name} to be deleted",
            timeout_s=self.deployment_timeout_s,
            interval_s=self.poll_interval_s,
        )
        say(f"endpoint {name}: deleted after it had failed")

    def _variant(self) -> dict[str, Any]:
        return {
            "VariantName": VARIANT,
            "InitialInstanceCount": self.instance_count,
            "InstanceType": self.instance_type,
            "InitialVariantWeight": 1.0,
        }

    def _config_name(self, endpoint_name: str, version: str, sha256: str, plan: list[Any]) -> str:
        # The whole plan is part of the name: the same artifact in another image or place is another model.
        digest = hashlib.sha256(json.dumps([*plan, self._variant()], sort_keys=True).encode()).hexdigest()
        name = f"{endpoint_name}-v{version}-{sha256[:8]}-{digest[:6]}"
        if not _NAME.fullmatch(name):
            raise EndpointDeploymentError(
                f"{name!r} is not a SageMaker name: endpoint name and model version make at most 63 letters, digits "
                "and single dashes"
            )
        return name

    def _ensure_config(self, name: str, container: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        client = self._client()
        try:
            ensure_model(client, name, container=container, role_arn=self.role_arn, tags=tags)
        except TagError as error:
            raise EndpointDeploymentError(f"model {name} cannot say what it is made of: {error}") from error
        create_once(
            lambda: client.create_endpoint_config(
                EndpointConfigName=name,
                ProductionVariants=[{**self._variant(), "ModelName": name}],  # type: ignore[list-item]
            )
        )


def _deployment(endpoint: Mapping[str, Any], *, changed: bool) -> "EndpointDeployment":
    from mangaassist_assets.releases.deployment import EndpointDeployment

    return EndpointDeployment(
        endpoint_name=endpoint["EndpointName"],
        endpoint_arn=endpoint["EndpointArn"],
        config_name=endpoint["EndpointConfigName"],
        changed=changed,
        since=_utc(endpoint["LastModifiedTime"]),
        created=_utc(endpoint["CreationTime"]),
    )


def _utc(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds")


class SageMakerEndpoint:
    """One endpoint behind the chatbot's `Endpoint` protocol."""

    def __init__(self, resource: SageMakerResource, name: str) -> None:
        self._resource = resource
        self._name = name

    @property
    def name(self) -> str:
        """Name of the endpoint."""
        return self._name

    def invoke(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request; raises EndpointInvocationError."""
        return self._resource.invoke(self._name, payload)
