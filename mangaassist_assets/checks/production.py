"""The checks of what is in production: the champion, the endpoint and the registry, the deployed configuration."""

import dagster as dg

from mangaassist_assets.assets.common import check_result
from mangaassist_assets.assets.declaring import declared_check
from mangaassist_assets.assets.inputs import CONFIGURATION, health_of, last_promotion_of
from mangaassist_assets.models.pipelines import ModelPipeline
from resources.aws.endpoints import SageMakerResource
from resources.mlflow.tracking import MlflowResource
from resources.store import StoreResource

_UNKNOWN_SHOWN = 10


def build_champion_check(pipeline: ModelPipeline) -> dg.AssetChecksDefinition:
    """Return the check that warns where a model pipeline's champion was found to have decayed."""

    @declared_check(
        asset=pipeline.health_asset,
        reads=[health_of(pipeline)],
        name="champion_not_decayed",
        blocking=False,
        description=(
            f"On the audit sample of the traffic the champion {pipeline.title} is not proven to be right less often "
            "than at its promotion. Without a change it warns in a champion's life with a chance of at most 5 % "
            "(`alpha`), however often one looks. A warning: retrain, or look at what shoppers ask now."
        ),
    )
    def champion_not_decayed(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
        health = store.step(context).load(health_of(pipeline))
        if health is None:
            return dg.AssetCheckResult(passed=True, description="there is no champion to judge yet")
        outcome = f"version {health['champion_version']}: {health['outcome']}: {'; '.join(health['reasons'])}"
        return check_result(
            [outcome] if health["outcome"] == "decayed" else [],
            {
                name: health[name]
                for name in (
                    "outcome",
                    "compared_reviews",
                    "fresh_reviews",
                    "evidence",
                    "needed_evidence",
                    "level",
                    "level_left",
                )
                if name in health
            },
            all_well=outcome,
            severity=dg.AssetCheckSeverity.WARN,
        )

    return champion_not_decayed


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


def build_record_check(pipeline: ModelPipeline) -> dg.AssetChecksDefinition:
    """Return the check that compares alias and endpoint of a model pipeline with the last promotion on record."""

    @declared_check(
        asset=pipeline.endpoint_asset,
        reads=[last_promotion_of(pipeline)],
        name="champion_is_on_record",
        blocking=False,
        description=(
            f"What the alias `champion` of `{pipeline.model_name}` names and what `{pipeline.endpoint_name}` serves is "
            "what the last promotion on record made champion. Whoever reaches MLflow or SageMaker can move them; the "
            "description says from what to what, and the two ways on."
        ),
    )
    def champion_is_on_record(
        context: dg.AssetCheckExecutionContext,
        endpoints: SageMakerResource,
        mlflow: MlflowResource,
        store: StoreResource,
    ) -> dg.AssetCheckResult:
        from mangaassist_assets.releases.deployment import off_record
        from mangaassist_assets.releases.named_champion import described

        last = store.step(context).load(last_promotion_of(pipeline))
        champion = mlflow.version_by_alias(pipeline.model_name, "champion")
        found = off_record(last, pipeline, champion, endpoints.served_version(pipeline.endpoint_name))
        figures = {} if last is None else {"version": last.version, "promoted_by": last.by}
        if last is not None:
            figures |= {"promoted_at": last.decided_at or "", "carried_out_by": described(last.carried_out_by)}
        return check_result(found, figures, all_well="alias and endpoint are the last promotion's")

    return champion_is_on_record


@declared_check(
    asset="runtime_configuration",
    reads=[CONFIGURATION],
    name="configuration_is_valid",
    # Nothing depends on runtime_configuration, so this fails the run and stops nothing else in it.
    blocking=True,
    description="Every deployed document that this platform knows is valid; experiments fit what they lie over.",
)
def configuration_is_valid(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
    """Judge the snapshot of the refresh; a failure names profile, version, field, reason, and the version in use."""
    from mangaassist_assets.chatbot.configuration.review import (
        describe_broken,
        describe_unknown_fields,
        problem_rows,
    )

    reviews = store.step(context).load(CONFIGURATION)
    broken, unknown = describe_broken(reviews), describe_unknown_fields(reviews)
    for problem in broken:
        context.log.error(problem)
    kept = f"kept, unknown to this platform: {', '.join(unknown[:_UNKNOWN_SHOWN])}"
    return check_result(
        broken,
        {"problems": problem_rows(reviews), "unknown_fields": len(unknown)},
        all_well=kept if unknown else f"{len(reviews)} profiles, nothing unknown in them",
    )
