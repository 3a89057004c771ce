"""What keeps a version out of production that does not answer as production asks."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import dagster as dg

from mangaassist_assets.models.pipelines import ModelPipeline

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.serving.request_forms import RequiredForms
    from mangaassist_assets.tracing.contract.turns import ChatTurn
    from resources.aws.endpoints import SageMakerResource
    from resources.mlflow.registry import ModelVersion
    from resources.mlflow.tracking import MlflowResource
    from resources.store import StoreResource


def require_contract(
    mlflow: "MlflowResource",
    store: "StoreResource",
    endpoints: "SageMakerResource",
    pipeline: ModelPipeline,
    version: "ModelVersion",
) -> "RequiredForms":
    """Let a version answer in the forms that production asks in, and return them.

    Raises:
        Failure: An answer breaks the endpoint's response schema, the version cannot be loaded, or the schemas or the
            configured forms cannot be used; says which.
    """
    from mangaassist_assets.serving.contract_check import artifact_breaches
    from mangaassist_assets.serving.endpoint_schemas import EndpointSchemaError
    from mangaassist_assets.serving.request_forms import UnknownFormError, required_forms

    subject = f"{pipeline.model_name} version {version.version} is not deployed to {pipeline.endpoint_name}"
    try:
        schemas = pipeline.endpoint_schemas()
        required = required_forms(
            observed_requests(newest_turns(store.snapshots()), pipeline),
            configured=endpoints.request_forms.get(pipeline.endpoint_name, pipeline.request_forms),
            known=schemas.forms,
        )
    except (EndpointSchemaError, UnknownFormError) as error:
        raise dg.Failure(f"{subject}: {error}", allow_retries=False) from error
    breaches = artifact_breaches(
        mlflow.artifact_directory(version),
        schemas,
        required.forms,
        name=pipeline.model_name,
        version=version.version,
        sha256=version.artifact_sha256,
    )
    if breaches:
        msg = (
            f"{subject}: production asks with {required.told()}, and it does not answer by "
            f"the endpoint's schemas: {'; '.join(breaches)}. What serves goes on serving."
        )
        raise dg.Failure(
            msg,
            metadata={
                "request_forms": dg.MetadataValue.text(required.told()),
                "breaches": dg.MetadataValue.md("\n".join(f"- {one}" for one in breaches)),
            },
            allow_retries=False,
        )
    return required


def newest_turns(snapshots: "SnapshotStore") -> "list[ChatTurn]":
    """Return the turns of the bundle that began last: how production asks now; none before there are traces."""
    from mangaassist_assets.assets.reading import read_turns
    from mangaassist_assets.core.bundles import bundles_by_start

    bundles = list(bundles_by_start(snapshots))
    return read_turns(snapshots, bundles[-1]) if bundles else []


def observed_requests(turns: "Iterable[ChatTurn]", pipeline: ModelPipeline) -> Iterator[tuple[str, ...]]:
    """Yield by which members turns asked the endpoint, for each stage that named it or is the pipeline's own.

    Empty where a trace does not tell.
    """
    for turn in turns:
        for stage in turn.stages:
            if stage.endpoint_name == pipeline.endpoint_name or stage.name == pipeline.stage:
                yield stage.request_keys
