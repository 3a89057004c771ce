"""The champion on its endpoint, what registry and endpoint say of each other, and where the two disagree.

The registered version says where it serves and since when; the SageMaker model says which version it is of, from which
run and dataset. Both are written by whoever deploys, and either may be changed by hand, so both are read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.models.registration.registry import CHAMPION, ModelStore, ModelVersion, artifact_uri
from mangaassist_assets.releases.named_champion import NamedChampion, UnnamedChampionError, require_named

if TYPE_CHECKING:
    from mangaassist_assets.models.pipelines import ModelPipeline

ENDPOINT_TAG = "endpoint_name"
CONFIG_TAG = "endpoint_config"
STAGE_TAG = "endpoint_stage"
SINCE_TAG = "endpoint_deployed_at"
REPLACED_AT_TAG = "endpoint_replaced_at"
REPLACED_BY_TAG = "endpoint_replaced_by"

DEPLOYMENT_FILE = "deployment.json"
PRODUCTION = "production"
REPLACED = "replaced"

DATASET_TAG = "dataset_digest"
"""Of a registered version: the digest of the dataset that it learned from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointDeployment:
    """What serves after a deployment; `changed` is False where it served before.

    `since` is when the endpoint was last changed, `created` when it was made (ISO 8601, UTC).
    """

    endpoint_name: str
    endpoint_arn: str
    config_name: str
    changed: bool
    since: str
    created: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedVersion:
    """What an endpoint's SageMaker model says: its tags, and the digest that its container checks.

    `tags` are empty where nobody wrote any; `loads_sha256` is None where the container is none of ours.
    """

    endpoint_name: str
    config_name: str
    status: str
    loads_sha256: str | None
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TagChange:
    """Tags of one version to set, in this order, and to remove before."""

    version: str
    set: Mapping[str, str]
    remove: tuple[str, ...] = ()


def model_tags(version: ModelVersion) -> dict[str, str]:
    """Return the tags of the SageMaker model that serves a version; what the registry does not know is left out."""
    tags = {
        "mlflow_registered_model": version.name,
        "mlflow_model_version": version.version,
        "mlflow_run_id": version.run_id,
        "dataset_digest": version.tags.get(DATASET_TAG),
        "artifact_sha256": version.artifact_sha256,
    }
    return {name: value for name, value in tags.items() if value}


def deployment_changes(
    versions: Iterable[ModelVersion], *, version: str, deployment: EndpointDeployment
) -> list[TagChange]:
    """Return how the tags of a model's versions change when one of them serves; nothing where they say so already.

    The stage is set last, so a version that says `production` says everything; whoever was killed on the way finds the
    rest to do here again. A time on record stays where the version served before, unless it is from before the
    endpoint was made: then it is of another endpoint.
    """
    serves = {ENDPOINT_TAG: deployment.endpoint_name, CONFIG_TAG: deployment.config_name}
    changes: list[TagChange] = []
    replaced_at = deployment.since
    others: list[ModelVersion] = []
    for one in versions:
        if one.version != version:
            others.append(one)
        elif (
            not deployment.changed
            and {**serves, STAGE_TAG: PRODUCTION}.items() <= one.tags.items()
            and (on_record := _utc(one.tags.get(SINCE_TAG))) is not None
            and on_record >= datetime.fromisoformat(deployment.created)
        ):
            replaced_at = one.tags[SINCE_TAG]
        else:
            stale = tuple(tag for tag in (REPLACED_AT_TAG, REPLACED_BY_TAG) if tag in one.tags)
            recorded = {**serves, SINCE_TAG: deployment.since, STAGE_TAG: PRODUCTION}
            changes.append(TagChange(version=version, set=recorded, remove=stale))
    replaced = {REPLACED_AT_TAG: replaced_at, REPLACED_BY_TAG: version, STAGE_TAG: REPLACED}
    claiming = (one for one in others if _claims(one, deployment.endpoint_name))
    return [*changes, *(TagChange(version=one.version, set=replaced) for one in claiming)]


def disagreements(
    served: ServedVersion | None, versions: Sequence[ModelVersion], *, model_name: str, endpoint_name: str
) -> list[str]:
    """Return where endpoint and registry do not point at each other, a sentence each; nothing where they do."""
    claiming = [one for one in versions if _claims(one, endpoint_name)]
    if served is None:
        return [
            f"{model_name} version {one.version} says that {endpoint_name} serves it, but there is no such endpoint"
            for one in claiming
        ]
    number = served.tags.get("mlflow_model_version", "")
    version = next((one for one in versions if one.version == number), None)
    if version is None or served.tags.get("mlflow_registered_model") != model_name:
        who = f"{served.tags.get('mlflow_registered_model', '?')} version {number or '?'}"
        found = [f"the model of {endpoint_name} says it is {who}, which {model_name} does not have"]
    else:
        found = [*_model_disagrees(served, version), *_version_disagrees(served, version)]
    found += [
        f"{model_name} version {one.version} says that {endpoint_name} serves it, which serves "
        f"{'version ' + number if number else 'no version that it names'}"
        for one in claiming
        if one.version != number
    ]
    return found


def off_record(
    last: NamedChampion | None, pipeline: ModelPipeline, champion: ModelVersion | None, served: ServedVersion | None
) -> list[str]:
    """Return where alias or endpoint are not what the last promotion made champion, a sentence each."""
    try:
        require_named(last, pipeline, champion)
    except UnnamedChampionError as error:
        found = [str(error)]
    else:
        found = []
    if last is None or served is None:
        return found
    number = served.tags.get("mlflow_model_version")
    if (number, served.loads_sha256) != (last.version, last.artifact_sha256):
        found.append(
            f"{served.endpoint_name} serves version {number or '?'} with artifact {_shown(served.loads_sha256)}, but "
            f"the last promotion on record made version {last.version} champion: materialize {pipeline.endpoint_asset}"
        )
    return found


def _model_disagrees(served: ServedVersion, version: ModelVersion) -> list[str]:
    wanted = model_tags(version)
    found = [
        f"tag {name} of the model of {served.endpoint_name} is {_shown(served.tags.get(name))}, the registry has "
        f"{_shown(wanted.get(name))}"
        for name in sorted({*wanted, "mlflow_run_id", "dataset_digest", "artifact_sha256"})
        if served.tags.get(name) != wanted.get(name)
    ]
    if served.loads_sha256 != version.artifact_sha256:
        found.append(
            f"the container of {served.endpoint_name} loads the artifact {_shown(served.loads_sha256)}, the registry "
            f"has {_shown(version.artifact_sha256)}"
        )
    return found


def _version_disagrees(served: ServedVersion, version: ModelVersion) -> list[str]:
    wanted = {ENDPOINT_TAG: served.endpoint_name, CONFIG_TAG: served.config_name, STAGE_TAG: PRODUCTION}
    found = [
        f"tag {name} of {version.name} version {version.version} is {_shown(version.tags.get(name))}, the endpoint "
        f"says {value}"
        for name, value in wanted.items()
        if version.tags.get(name) != value
    ]
    if _utc(since := version.tags.get(SINCE_TAG)) is None:
        found.append(f"tag {SINCE_TAG} of {version.name} version {version.version} is {_shown(since)}, no time in UTC")
    return found


def _claims(version: ModelVersion, endpoint_name: str) -> bool:
    """Return whether a version says, or was about to say, that an endpoint serves it."""
    return version.tags.get(ENDPOINT_TAG) == endpoint_name and version.tags.get(STAGE_TAG) != REPLACED


def _utc(text: str | None) -> datetime | None:
    """Read a time in UTC, None where it is none."""
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time if time.utcoffset() == timedelta(0) else None


def _shown(value: str | None) -> str:
    return "missing" if value is None else repr(value[:80])


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


def deployment_files(deployed: Deployed) -> dict[str, bytes]:
    """Return what an endpoint serves, as it is stored."""
    serves = {"version": deployed.version.version, "artifact_sha256": deployed.version.artifact_sha256}
    return {DEPLOYMENT_FILE: canonical_json({**serves, "endpoint_config": deployed.deployment.config_name})}


def deploy_champion(
    models: ModelStore,
    endpoints: EndpointClient,
    pipeline: ModelPipeline,
    *,
    last: NamedChampion | None,
    admit: Callable[[ModelVersion], None],
) -> Deployed | None:
    """Deploy what the alias `champion` names, and write down on both sides who serves.

    `last` is the last promotion on record. `admit` is asked about a version that is about to come into service, and
    raises where it must not.

    Returns:
        None where there is no champion and no endpoint.

    Raises:
        NothingToDeployError: the endpoint is there, but no champion with an artifact hash.
        UnnamedChampionError: the alias names something else than the last promotion made champion.
    """
    version = models.version_by_alias(pipeline.model_name, CHAMPION)
    require_named(last, pipeline, version)
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
