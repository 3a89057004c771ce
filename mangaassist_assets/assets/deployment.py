"""Promotion and deployment, the same for every model pipeline: the registry's `champion` alias, then the endpoint."""

from typing import TYPE_CHECKING

import dagster as dg

from mangaassist_assets.assets.common import LEFT_OUT, ML_ENGINEERING, PLATFORM, PRODUCTION_POOL
from mangaassist_assets.models.pipelines import ModelPipeline
from mangaassist_assets.releases.champion import ChampionConfig, champion_result, promote, requested_override
from mangaassist_assets.serving.deployment_contract import require_contract
from resources.aws.endpoints import SageMakerResource
from resources.mlflow.tracking import MlflowResource
from resources.store import StoreResource

if TYPE_CHECKING:
    from resources.aws.endpoints import EndpointDeployment
    from resources.mlflow.registry import ModelVersion


def first_asset(pipeline: ModelPipeline) -> tuple[str, ...]:
    """Return the asset of the bootstrap that makes a model pipeline's first champion, if it has one."""
    return (pipeline.first_asset,) if pipeline.first_asset else ()


def build_champion_asset(pipeline: ModelPipeline) -> dg.AssetsDefinition:
    """Return the asset that moves the `champion` alias of a model pipeline's registered model."""

    @dg.asset(
        name=pipeline.champion_asset,
        deps=[pipeline.evaluation_asset, "tagged_traces", *first_asset(pipeline)],
        group_name=pipeline.group,
        owners=[ML_ENGINEERING],
        kinds={"mlflow"},
        pool=PRODUCTION_POOL,
        code_version="3",
        description=(
            f"The {pipeline.title} that the registry alias `champion` names.\n\n"
            "Moves to the newest challenger that passed its gate against the present champion, and never to one of an "
            "older bundle. Without such a challenger it stays, and says why. A person may override the gate in the run "
            "configuration, with a reason that is kept. A version that does not answer as production asks becomes no "
            "champion either way."
        ),
    )
    def champion(
        context: dg.AssetExecutionContext,
        config: ChampionConfig,
        endpoints: SageMakerResource,
        mlflow: MlflowResource,
        store: StoreResource,
    ) -> dg.MaterializeResult[None]:
        promoted = promote(
            mlflow,
            store,
            pipeline,
            override=requested_override(config, store),
            admit=lambda version: require_contract(mlflow, store, endpoints, pipeline, version),
        )
        context.log.info(promoted.reason)
        return champion_result(mlflow, pipeline, promoted)

    return champion


def build_endpoint_asset(pipeline: ModelPipeline) -> dg.AssetsDefinition:
    """Return the asset that keeps a model pipeline's SageMaker endpoint on the champion."""

    @dg.asset(
        name=pipeline.endpoint_asset,
        deps=[pipeline.champion_asset, "tagged_traces", *first_asset(pipeline)],
        group_name=pipeline.group,
        owners=[PLATFORM],
        kinds={"sagemaker"},
        pool=PRODUCTION_POOL,
        code_version="2",
        description=(
            f"The SageMaker endpoint `{pipeline.endpoint_name}`, serving the champion {pipeline.title}.\n\n"
            "Deploys what the registry alias names, once it answered as production asks, by the endpoint's response "
            "schema; a version that serves already is left alone. The container checks the artifact's hash before it "
            "loads. The registered version and the SageMaker model then name each other. Without a champion there is "
            "no endpoint, and none is made."
        ),
    )
    def endpoint(
        context: dg.AssetExecutionContext, endpoints: SageMakerResource, mlflow: MlflowResource, store: StoreResource
    ) -> dg.MaterializeResult[None]:
        from mangaassist_assets.releases.deployment_record import model_tags
        from resources.mlflow.registry import artifact_uri

        version = mlflow.version_by_alias(pipeline.model_name, "champion")
        if version is None and endpoints.describe(pipeline.endpoint_name) is None:
            reason = f"{pipeline.model_name} has no champion: {pipeline.endpoint_name} serves nothing"
            context.log.warning(reason)
            return dg.MaterializeResult(
                data_version=dg.DataVersion("none"), metadata={LEFT_OUT: dg.MetadataValue.text(reason)}
            )
        if version is None or version.artifact_sha256 is None:
            msg = f"{pipeline.model_name} has no champion to deploy: run `mangaassist bootstrap` first"
            raise dg.Failure(msg)

        def admit() -> None:
            required = require_contract(mlflow, store, endpoints, pipeline, version)
            context.log.info(f"version {version.version} answers as production asks, with {required.told()}")

        deployment = endpoints.deploy(
            endpoint_name=pipeline.endpoint_name,
            model_name=pipeline.model_name,
            model_version=version.version,
            artifact_uri=artifact_uri(version),
            artifact_sha256=version.artifact_sha256,
            tags=model_tags(version),
            admit=admit,
        )
        _record(mlflow, version, deployment)
        context.log.info(
            f"{pipeline.endpoint_name} serves version {version.version}"
            + ("" if deployment.changed else " (as before)")
        )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(f"{version.version}-{version.artifact_sha256[:12]}"),
            metadata={
                "endpoint_arn": dg.MetadataValue.text(deployment.endpoint_arn),
                "endpoint_config": dg.MetadataValue.text(deployment.config_name),
                "changed": dg.MetadataValue.bool(deployment.changed),
                "version": dg.MetadataValue.text(version.version),
                "artifact_sha256": dg.MetadataValue.text(version.artifact_sha256 or "unknown"),
                "model_version": dg.MetadataValue.url(mlflow.model_version_url(pipeline.model_name, version.version)),
            },
        )

    return endpoint


def _record(mlflow: MlflowResource, version: "ModelVersion", deployment: "EndpointDeployment") -> None:
    """Let the registered versions say where they serve, or that they no longer do."""
    from mangaassist_assets.releases.deployment_record import deployment_changes

    registry = mlflow.registry()
    for change in deployment_changes(
        registry.versions(version.name),
        version=version.version,
        endpoint_name=deployment.endpoint_name,
        config_name=deployment.config_name,
        since=deployment.since,
        created=deployment.created,
        changed=deployment.changed,
    ):
        registry.delete_tags(version.name, change.version, change.remove)
        registry.set_tags(version.name, change.version, change.set)
