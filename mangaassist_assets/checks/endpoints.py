"""The check that registry and endpoint point at each other; it stops nothing, for what serves is no worse by it."""

from collections.abc import Sequence

import dagster as dg

from mangaassist_assets.models.pipelines import LANES, Lane
from resources.aws.endpoints import SageMakerResource
from resources.mlflow.tracking import MlflowResource


def build_endpoint_checks(lanes: Sequence[Lane] = LANES) -> tuple[dg.AssetChecksDefinition, ...]:
    """Return the checks of lanes' endpoints."""
    return tuple(build_endpoint_check(lane) for lane in lanes)


def build_endpoint_check(lane: Lane) -> dg.AssetChecksDefinition:
    """Return the check that reads both sides of a lane's deployment."""

    @dg.asset_check(
        asset=lane.endpoint_asset,
        name="registry_and_endpoint_agree",
        blocking=False,
        description=(
            f"The version in the registry says that `{lane.endpoint_name}` serves it, and the endpoint's SageMaker "
            "model names that version, its run, its dataset and its artifact. Materialize the endpoint to write both "
            "again."
        ),
    )
    def registry_and_endpoint_agree(endpoints: SageMakerResource, mlflow: MlflowResource) -> dg.AssetCheckResult:
        from mangaassist_assets.releases.deployment_record import disagreements

        served = endpoints.served_version(lane.endpoint_name)
        found = disagreements(
            served,
            mlflow.registry().versions(lane.model_name),
            model_name=lane.model_name,
            endpoint_name=lane.endpoint_name,
        )
        return dg.AssetCheckResult(
            passed=not found,
            severity=dg.AssetCheckSeverity.ERROR,
            description="; ".join(found) or "both sides name each other",
            metadata={
                "disagreements": dg.MetadataValue.int(len(found)),
                **{name: dg.MetadataValue.text(value) for name, value in (served.tags if served else {}).items()},
            },
        )

    return registry_and_endpoint_agree
