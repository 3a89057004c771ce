"""The registry's alias `champion` of any model pipeline: moved by the gate's verdict, or by a person's override."""

from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from mangaassist_assets.assets.common import (
    ML_ENGINEERING,
    PRODUCTION_POOL,
    as_failure,
    carried_out_by,
    materialized,
    table,
)
from mangaassist_assets.assets.declaring import declared_asset
from mangaassist_assets.assets.deployment import require_contract
from mangaassist_assets.assets.inputs import (
    NEWEST_TURNS,
    OVERRIDES,
    VOCABULARY,
    evaluations_of,
    last_promotion_of,
)
from mangaassist_assets.models.pipelines import ModelPipeline
from mangaassist_assets.releases.overrides import DEFAULT_BY, Override, OverrideRequest
from resources.aws.endpoints import SageMakerResource
from resources.mlflow.tracking import MlflowResource
from resources.store import StoreResource

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import Snapshot
    from mangaassist_assets.privacy import Vocabulary
    from mangaassist_assets.releases.champion import Promoted


class OverrideConfig(dg.Config):
    """A version that is to be champion whatever its verdict, who says so and why."""

    version: str = Field(description="The version to promote.")
    against: str = Field(
        description="The version that is champion now, or none. If another one is by the time this runs, nothing is "
        "moved."
    )
    reason: str = Field(
        description="Why, in 10 to 500 characters. It is kept redacted; Dagster keeps what is typed here as it is, so "
        "name nobody."
    )
    by: str = Field(default=DEFAULT_BY, description="A name or a role that answers for it.")


class ChampionConfig(dg.Config):
    """By default the gate decides."""

    override: OverrideConfig | None = Field(
        default=None, description="Acts once, against the champion it names; running it again changes nothing."
    )


def build_champion_asset(pipeline: ModelPipeline) -> dg.AssetsDefinition:
    """Return the asset that moves the `champion` alias of a model pipeline's registered model."""

    @declared_asset(
        outside="the registry in MLflow",
        reads=[
            evaluations_of(pipeline),
            last_promotion_of(pipeline, own=True),
            NEWEST_TURNS,
            OVERRIDES,
            VOCABULARY,
        ],
        name=pipeline.champion_asset,
        group_name=pipeline.group,
        owners=[ML_ENGINEERING],
        kinds={"mlflow"},
        pool=PRODUCTION_POOL,
        code_version="4",
        description=(
            f"The {pipeline.title} that the registry alias `champion` names.\n\n"
            "Moves to the newest challenger that passed its gate against the present champion, and never to one of an "
            "older bundle. Without such a challenger it stays, and says why. A person may override the gate in the run "
            "configuration, with a reason that is kept. Each promotion goes on record with who carried it out; an "
            "alias that was moved past the record fails. A version that does not answer as production asks becomes no "
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
        from mangaassist_assets.models.champion_challenger import NoChampionError
        from mangaassist_assets.releases.champion import promote
        from mangaassist_assets.releases.named_champion import UnnamedChampionError
        from mangaassist_assets.releases.overrides import OverrideRefusedError

        step = store.step(context)
        with as_failure(NoChampionError, OverrideRefusedError, UnnamedChampionError):
            promoted = promote(
                mlflow,
                step,
                pipeline,
                override=requested_override(config, step.load(VOCABULARY)),
                admit=lambda version: require_contract(mlflow, step, endpoints, pipeline, version),
                carried_out_by=carried_out_by(context, endpoints.aws),
            )
        context.log.info(promoted.reason)
        if promoted.named.by == "nothing":
            context.log.warning(f"nothing on record made version {promoted.version.version} champion")
        return champion_result(mlflow, pipeline, promoted, step.keep(promoted.named.files()))

    return champion


def requested_override(config: ChampionConfig, vocabulary: "Vocabulary") -> OverrideRequest | None:
    """Return the checked and redacted request of a champion asset's configuration.

    Raises:
        OverrideRefusedError: it cannot be one; says why.
    """
    from mangaassist_assets.releases.overrides import OverrideRefusedError, override_request

    asked = config.override
    if asked is None:
        return None
    try:
        return override_request(
            version=asked.version,
            against=asked.against,
            reason=asked.reason,
            by=asked.by,
            vocabulary=vocabulary,
        )
    except OverrideRefusedError as error:
        raise OverrideRefusedError(f"no override: {error}") from error


def champion_result(
    mlflow: MlflowResource, pipeline: ModelPipeline, promoted: "Promoted", snapshot: "Snapshot"
) -> dg.MaterializeResult[None]:
    """Return the materialization of a model pipeline's champion."""
    from mangaassist_assets.releases.named_champion import described

    version, override = promoted.version, promoted.override
    metadata: dict[str, dg.MetadataValue] = {
        "version": dg.MetadataValue.text(version.version),
        "previous_version": dg.MetadataValue.text(promoted.previous.version if promoted.previous else "none"),
        "promoted": dg.MetadataValue.bool(promoted.moved),
        "reason": dg.MetadataValue.text(promoted.reason),
        "champion_by": dg.MetadataValue.text(promoted.named.by),
        "promoted_at": dg.MetadataValue.text(promoted.named.decided_at or "unknown"),
        "carried_out_by": dg.MetadataValue.text(described(promoted.named.carried_out_by)),
        "artifact_sha256": dg.MetadataValue.text(version.artifact_sha256 or "unknown"),
        "model_version": dg.MetadataValue.url(mlflow.model_version_url(pipeline.model_name, version.version)),
    }
    if override is not None:
        metadata |= {
            "override_by": dg.MetadataValue.text(override.by),
            "override_reason": dg.MetadataValue.text(override.reason),
            "override_at": dg.MetadataValue.text(override.decided_at),
            "overridden_verdict": dg.MetadataValue.text(override.verdict or "never judged"),
        }
    if promoted.overrides:
        metadata["overrides"] = table([_override_row(one) for one in reversed(promoted.overrides)])
    return materialized(snapshot, metadata, data_version=version.version)


def _override_row(override: Override) -> dict[str, str | int | float | bool | None]:
    from mangaassist_assets.releases.named_champion import described

    return {
        "decided": override.decided_at,
        "by": override.by,
        "carried out by": described(override.carried_out_by),
        "version": override.version,
        "in place of": override.replaced,
        "the gate had said": override.verdict or "nothing",
        "reason": override.reason,
    }
