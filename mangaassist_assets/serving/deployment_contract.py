"""What keeps a version out of production that does not answer as production asks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mangaassist_assets.core.bundles import bundles_by_start
from mangaassist_assets.serving.endpoint_schemas import EndpointSchemaError, EndpointSchemas, pipeline_schemas
from mangaassist_assets.serving.inference import (
    JSON_CONTENT_TYPE,
    LoadedModel,
    input_fn,
    load_model,
    output_fn,
    predict_fn,
)
from mangaassist_assets.serving.request_forms import RequiredForms, UnknownFormError, required_forms
from mangaassist_assets.tracing.ingestion.stored_turns import read_turn_batches

if TYPE_CHECKING:
    import polars as pl

    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.models.pipelines import ModelPipeline
    from mangaassist_assets.models.registration.registry import ModelStore, ModelVersion

_MESSAGE_CHARACTERS = 300


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

    The newest turns record how production asks; `configured` forms count where they record none, in place of the
    pipeline's own.

    Raises:
        ContractBrokenError: An answer breaks the endpoint's response schema, the version cannot be loaded, or the
            schemas or the configured forms cannot be used; says which.
    """
    subject = f"{pipeline.model_name} version {version.version} is not deployed to {pipeline.endpoint_name}"
    try:
        schemas = pipeline_schemas(pipeline)
        required = required_forms(
            observed_requests(newest_stages(snapshots), pipeline),
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


def newest_stages(snapshots: SnapshotStore) -> Iterator[pl.DataFrame]:
    """Yield the `stages` of the bundle that began last: how production asks now; nothing before there are traces."""
    for bundle in list(bundles_by_start(snapshots))[-1:]:
        yield from read_turn_batches(snapshots, bundle, columns=["stages"])


def observed_requests(turns: Iterable[pl.DataFrame], pipeline: ModelPipeline) -> Iterator[tuple[str, ...]]:
    """Yield by which members turns asked the endpoint, for each stage that named it or is the pipeline's own.

    `turns` are frames of stored turns with their `stages`. Empty where a trace does not record it.
    """
    import polars as pl

    asked = (pl.col("endpoint_name") == pipeline.endpoint_name) | (pl.col("name") == pipeline.stage)
    for frame in turns:
        stages = frame.select(pl.col("stages").explode(empty_as_null=False).struct.unnest()).filter(asked)
        yield from (tuple(keys or ()) for keys in stages["request_keys"].to_list())


def artifact_breaches(
    directory: Path, schemas: EndpointSchemas, forms: Iterable[str], *, name: str, version: str, sha256: str | None
) -> list[str]:
    """Load an artifact as a container does, and return where its answers break the contract; nothing if nowhere."""
    try:
        model = load_model(directory, name=name, version=version, sha256=sha256)
    except Exception as error:  # noqa: BLE001 - a version that cannot be loaded, for whatever reason, cannot serve
        return [f"it cannot be loaded: {type(error).__name__}: {error}"]
    return contract_breaches(model, schemas, forms)


def contract_breaches(model: LoadedModel, schemas: EndpointSchemas, forms: Iterable[str]) -> list[str]:
    """Ask a loaded model the examples of each form, and return where its answers break the response schema."""
    return [
        f"asked {_shown(request)}: {problem}"
        for form in forms
        for request in schemas.examples(form)
        for problem in _problems(model, schemas, form, request)
    ]


def _problems(model: LoadedModel, schemas: EndpointSchemas, form: str, request: Mapping[str, Any]) -> list[str]:
    body = json.dumps(request).encode("ascii")
    try:
        answer = output_fn(predict_fn(input_fn(body, JSON_CONTENT_TYPE), model), JSON_CONTENT_TYPE)
    except Exception as error:  # noqa: BLE001 - the model's errors, of any kind, are what is looked for
        return [f"{type(error).__name__}: {str(error)[:_MESSAGE_CHARACTERS]}"]
    return schemas.problems(form, request, json.loads(answer))


def _shown(request: Mapping[str, Any]) -> str:
    """Return the outline of a request: its members, and how many of what each holds."""
    return "{" + ", ".join(f'"{name}": {_outline(value)}' for name, value in request.items()) + "}"


def _outline(value: object) -> str:
    if isinstance(value, list):
        return f"[{_outline(value[0])}, …]" if value else "[]"
    return '"…"' if isinstance(value, str) else json.dumps(value)[:40]
