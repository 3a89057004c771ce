"""What keeps a version out of production that does not answer as production asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from mangaassist_assets.core.bundles import bundles_by_start
from mangaassist_assets.serving.contract_check import artifact_breaches
from mangaassist_assets.serving.endpoint_schemas import EndpointSchemaError, pipeline_schemas
from mangaassist_assets.serving.request_forms import RequiredForms, UnknownFormError, required_forms
from mangaassist_assets.tracing.ingestion.stored_turns import read_turns

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.models.pipelines import ModelPipeline
    from mangaassist_assets.models.registration.registry import ModelStore, ModelVersion
    from mangaassist_assets.tracing.contract.turns import ChatTurn


class ContractBrokenError(RuntimeError):
    """A version does not answer as production asks, or schemas or configured forms cannot be used.

    `required` are the forms that it was asked in, None where they could not be found out; `breaches` where its answers
    break the endpoint's response schema.
    """

    def __init__(self, message: str, required: RequiredForms | None = None, breaches: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.required = required
        self.breaches = tuple(breaches)


def require_contract(
    models: ModelStore,
    snapshots: SnapshotStore,
    pipeline: ModelPipeline,
    version: ModelVersion,
    *,
    configured: Sequence[str] | None = None,
) -> RequiredForms:
    """Let a version answer in the forms that production asks in, and return them.

    Args:
        models: for the artifact.
        snapshots: whose newest turns record how production asks.
        pipeline: whose endpoint.
        version: the one that would be deployed.
        configured: forms that count where traces record none, in place of the pipeline's own.

    Raises:
        ContractBrokenError: An answer breaks the endpoint's response schema, the version cannot be loaded, or the
            schemas or the configured forms cannot be used; says which.
    """
    subject = f"{pipeline.model_name} version {version.version} is not deployed to {pipeline.endpoint_name}"
    try:
        schemas = pipeline_schemas(pipeline)
        required = required_forms(
            observed_requests(newest_turns(snapshots), pipeline),
            configured=pipeline.request_forms if configured is None else configured,
            known=schemas.forms,
        )
    except (EndpointSchemaError, UnknownFormError) as error:
        raise ContractBrokenError(f"{subject}: {error}") from error
    breaches = artifact_breaches(
        models.artifact_directory(version),
        schemas,
        required.forms,
        name=pipeline.model_name,
        version=version.version,
        sha256=version.artifact_sha256,
    )
    if breaches:
        raise ContractBrokenError(
            f"{subject}: production asks with {required.described()}, and it does not answer by "
            f"the endpoint's schemas: {'; '.join(breaches)}. What serves goes on serving.",
            required,
            breaches,
        )
    return required


def newest_turns(snapshots: SnapshotStore) -> list[ChatTurn]:
    """Return the turns of the bundle that began last: how production asks now; none before there are traces."""
    bundles = list(bundles_by_start(snapshots))
    return read_turns(snapshots, bundles[-1]) if bundles else []


def observed_requests(turns: Iterable[ChatTurn], pipeline: ModelPipeline) -> Iterator[tuple[str, ...]]:
    """Yield by which members turns asked the endpoint, for each stage that named it or is the pipeline's own.

    Empty where a trace does not record it.
    """
    for turn in turns:
        for stage in turn.stages:
            if stage.endpoint_name == pipeline.endpoint_name or stage.name == pipeline.stage:
                yield stage.request_keys
