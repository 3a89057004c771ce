"""The check that registry and endpoint point at each other; it stops nothing, for what serves is no worse by it."""

from collections.abc import Sequence

import dagster as dg

from mangaassist_assets.checks.results import check_result
from mangaassist_assets.models.pipelines import ModelPipeline
from resources.aws.endpoints import SageMakerResource
from resources.mlflow.tracking import MlflowResource


def build_endpoint_checks(pipelines: Sequence[ModelPipeline]) -> tuple[dg.AssetChecksDefinition, ...]:
    """Return the checks of model pipelines' endpoints."""
    return tuple(build_endpoint_check(pipeline) for pipeline in pipelines)


def build_endpoint_check(pipeline: ModelPipeline) -> dg.AssetChecksDefinition:
    """Return the check that reads both sides of a model pipeline's deployment."""

    @dg.asset_check(
        asset=pipeline.endpoint_asset,
        name="registry_and_endpoint_agree",
        blocking=False,
        description=(
            f"The version in the registry says that `{pipeline.endpoint_name}` serves it, and the endpoint's SageMaker "
            "model names that version, its run, its dataset and its artifact. Materialize the endpoint to write both "
            "again."
        ),
    )
    def registry_and_endpoint_agree(endpoints: SageMakerResource, mlflow: MlflowResource) -> dg.AssetCheckResult:
        from mangaassist_assets.releases.deployment import disagreements

        served = endpoints.served_version(pipeline.endpoint_name)
        found = disagreements(
            served,
            mlflow.registry().versions(pipeline.model_name),
            model_name=pipeline.model_name,
            endpoint_name=pipeline.endpoint_name,
        )
        return check_result(
            found,
            {"disagreements": len(found), **(served.tags if served else {})},
            all_well="both sides name each other",
        )

    return registry_and_endpoint_agree
