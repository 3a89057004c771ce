"""The champion on its endpoint, and registry and endpoint that name each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mangaassist_assets.models.registration.registry import CHAMPION, ModelStore, ModelVersion, artifact_uri
from mangaassist_assets.releases.deployment_record import EndpointDeployment, deployment_changes, model_tags

if TYPE_CHECKING:
    from mangaassist_assets.models.pipelines import ModelPipeline


class NothingToDeployError(LookupError):
    """An endpoint serves, but no champion is registered that it should serve."""


class EndpointClient(Protocol):
    """SageMaker, as far as a deployment is concerned."""

    def describe(self, endpoint_name: str) -> object | None:
        """Return what an endpoint serves, None where there is none."""

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
    ) -> EndpointDeployment:
        """Bring a model version into service and wait until it is; `admit` is called before anything new is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """The version that an endpoint serves, and what came of its deployment."""

    version: ModelVersion
    deployment: EndpointDeployment


def deploy_champion(
    models: ModelStore, endpoints: EndpointClient, pipeline: ModelPipeline, *, admit: Callable[[ModelVersion], None]
) -> Deployed | None:
    """Deploy what the alias `champion` names, and write down on both sides who serves.

    Args:
        models: the registry.
        endpoints: SageMaker.
        pipeline: whose champion.
        admit: is asked about a version that is about to come into service, and raises where it must not.

    Returns:
        None where there is no champion and no endpoint.

    Raises:
        NothingToDeployError: the endpoint is there, but no champion with an artifact hash.
    """
    version = models.version_by_alias(pipeline.model_name, CHAMPION)
    if version is None and endpoints.describe(pipeline.endpoint_name) is None:
        return None
    if version is None or version.artifact_sha256 is None:
        raise NothingToDeployError(
            f"{pipeline.model_name} has no champion to deploy: run `mangaassist bootstrap` first"
        )
    deployment = endpoints.deploy(
        pipeline.endpoint_name,
        model_name=pipeline.model_name,
        model_version=version.version,
        artifact_uri=artifact_uri(version),
        artifact_sha256=version.artifact_sha256,
        tags=model_tags(version),
        admit=lambda: admit(version),
    )
    _record(models, version, deployment)
    return Deployed(version=version, deployment=deployment)


def _record(models: ModelStore, version: ModelVersion, deployment: EndpointDeployment) -> None:
    """Let the registered versions say where they serve, or that they no longer do."""
    registry = models.registry()
    for change in deployment_changes(registry.versions(version.name), version=version.version, deployment=deployment):
        registry.delete_tags(version.name, change.version, change.remove)
        registry.set_tags(version.name, change.version, change.set)
