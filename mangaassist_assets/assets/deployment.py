"""The SageMaker endpoint of the champion, the same for every model pipeline."""

from typing import TYPE_CHECKING

import dagster as dg

from mangaassist_assets.assets.common import LEFT_OUT, PLATFORM, PRODUCTION_POOL, as_failure, materialized
from mangaassist_assets.assets.declaring import declared_asset
from mangaassist_assets.assets.inputs import NEWEST_TURNS, last_promotion_of
from mangaassist_assets.core.markdown import bullets
from mangaassist_assets.models.pipelines import ModelPipeline
from resources.aws.endpoints import SageMakerResource
from resources.mlflow.tracking import MlflowResource
from resources.store import StoreResource

if TYPE_CHECKING:
    from mangaassist_assets.core.declared_inputs import StepStore
    from mangaassist_assets.models.registration.registry import ModelVersion
    from mangaassist_assets.serving.request_forms import RequiredForms


def build_endpoint_asset(pipeline: ModelPipeline) -> dg.AssetsDefinition:
    """Return the asset that keeps a model pipeline's SageMaker endpoint on the champion."""

    @declared_asset(
        outside="SageMaker",
        reads=[last_promotion_of(pipeline), NEWEST_TURNS],
        name=pipeline.endpoint_asset,
        group_name=pipeline.group,
        owners=[PLATFORM],
        kinds={"sagemaker"},
        pool=PRODUCTION_POOL,
        code_version="3",
        description=(
            f"The SageMaker endpoint `{pipeline.endpoint_name}`, serving the champion {pipeline.title}.\n\n"
            "Deploys what the registry alias names, if the last promotion on record made it champion, artifact and "
            "all, and once it answered as production asks, by the endpoint's response schema; a version "
            "that serves already is left alone. The container checks the artifact's hash before it loads. The "
            "registered version and the SageMaker model then name each other. Without a champion there is no endpoint, "
            "and none is made."
        ),
    )
    def endpoint(
        context: dg.AssetExecutionContext, endpoints: SageMakerResource, mlflow: MlflowResource, store: StoreResource
    ) -> dg.MaterializeResult[None]:
        from mangaassist_assets.releases.deployment import NothingToDeployError, deploy_champion, deployment_files
        from mangaassist_assets.releases.named_champion import UnnamedChampionError

        step = store.step(context)

        def admit(version: "ModelVersion") -> None:
            required = require_contract(mlflow, step, endpoints, pipeline, version)
            context.log.info(f"version {version.version} answers as production asks, with {required.described()}")

        with as_failure(NothingToDeployError, UnnamedChampionError):
            last = step.load(last_promotion_of(pipeline))
            deployed = deploy_champion(mlflow, endpoints, pipeline, last=last, admit=admit)
        if deployed is None:
            reason = f"{pipeline.model_name} has no champion: {pipeline.endpoint_name} serves nothing"
            context.log.warning(reason)
            return dg.MaterializeResult(
                data_version=dg.DataVersion("none"), metadata={LEFT_OUT: dg.MetadataValue.text(reason)}
            )
        version, deployment = deployed.version, deployed.deployment
        digest = version.artifact_sha256 or "unknown"
        as_before = "" if deployment.changed else " (as before)"
        context.log.info(f"{pipeline.endpoint_name} serves version {version.version}{as_before}")
        return materialized(
            step.keep(deployment_files(deployed)),
            data_version=f"{version.version}-{digest[:12]}",
            figures={
                "endpoint_arn": dg.MetadataValue.text(deployment.endpoint_arn),
                "endpoint_config": dg.MetadataValue.text(deployment.config_name),
                "changed": dg.MetadataValue.bool(deployment.changed),
                "version": dg.MetadataValue.text(version.version),
                "artifact_sha256": dg.MetadataValue.text(digest),
                "model_version": dg.MetadataValue.url(mlflow.model_version_url(pipeline.model_name, version.version)),
            },
        )

    return endpoint


def require_contract(
    mlflow: MlflowResource,
    step: "StepStore",
    endpoints: SageMakerResource,
    pipeline: ModelPipeline,
    version: "ModelVersion",
) -> "RequiredForms":
    """Let a version answer in the forms that production asks in, and return them.

    Raises:
        Failure: It does not; the page of the run shows the forms and what is wrong with its answers.
    """
    from mangaassist_assets.serving.deployment_contract import ContractBrokenError
    from mangaassist_assets.serving.deployment_contract import require_contract as require

    configured = endpoints.request_forms.get(pipeline.endpoint_name)
    try:
        return require(mlflow, step, pipeline, version, configured=configured)
    except ContractBrokenError as error:
        metadata: dict[str, dg.MetadataValue] = {}
        if error.required is not None:
            metadata = {
                "request_forms": dg.MetadataValue.text(error.required.described()),
                "breaches": dg.MetadataValue.md(bullets(error.breaches)),
            }
        raise dg.Failure(str(error), metadata=metadata, allow_retries=False) from error
