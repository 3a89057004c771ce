"""The champion's health: does it still answer as well as when it was promoted? Judged on fresh reviewed traffic."""

from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from mangaassist_assets.assets.common import ML_ENGINEERING, WEEKLY, image, materialized, table
from mangaassist_assets.assets.declaring import declared_asset
from mangaassist_assets.assets.inputs import reviewed_traffic_of
from mangaassist_assets.models.pipelines import ModelPipeline
from resources.mlflow.tracking import MlflowResource
from resources.settings.learning import LearningResource
from resources.store import StoreResource

if TYPE_CHECKING:
    from mangaassist_assets.monitoring.champion_health import ChampionHealth
    from mangaassist_assets.monitoring.decay_report import DecayReport


class ChampionHealthConfig(dg.Config):
    """What counts as decay."""

    alpha: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="Chance of a false alarm over a champion's life, at any number of looks.",
    )
    power: float = Field(default=0.8, gt=0, lt=1, description="Power that numbers of reviews are given for.")
    loss: float = Field(
        default=0.08, gt=0, lt=1, description="Loss of the metric that is worth an alarm; holding proves a smaller one."
    )


def build_champion_health_asset(pipeline: ModelPipeline) -> dg.AssetsDefinition:
    """Return the asset that judges a model pipeline's present champion on what people reviewed since."""

    @declared_asset(
        outside="the registry in MLflow",
        reads=reviewed_traffic_of(pipeline),
        name=pipeline.health_asset,
        group_name=pipeline.group,
        owners=[ML_ENGINEERING],
        kinds={"mlflow", "json"},
        freshness_policy=WEEKLY,
        code_version="2",
        description=(
            f"Whether the champion {pipeline.title} still answers the traffic as well as before: `holding`, `decayed` "
            "or `too_few`, with figures of each bundle.\n\n"
            "Fresh are messages that people reviewed since its dataset was closed and that are nothing it learned "
            "from. Those of the audit sample stand for the traffic and decide: they are compared with those at its "
            "promotion and right after, by evidence that may be looked at as often as one likes. Other reviews are "
            "mostly complaints; they are compared with earlier ones that came about in the same way, and are a hint at "
            "most. Changes nothing in production."
        ),
    )
    def champion_health(
        context: dg.AssetExecutionContext,
        config: ChampionHealthConfig,
        learning: LearningResource,
        mlflow: MlflowResource,
        store: StoreResource,
    ) -> dg.MaterializeResult[None]:
        from mangaassist_assets.monitoring.champion_health import judge_champion, keep_health, log_health
        from mangaassist_assets.monitoring.decay_report import DecayConfig, decay_chart

        step = store.step(context)
        champion = mlflow.version_by_alias(pipeline.model_name, "champion")
        if champion is None:
            context.log.info(f"{pipeline.model_name} has no champion yet: there is nothing to judge")
            return dg.MaterializeResult(metadata={"outcome": dg.MetadataValue.text("no champion yet")})
        settings = DecayConfig(alpha=config.alpha, power=config.power, loss=config.loss)
        health = judge_champion(mlflow, step, pipeline, learning.model_type(pipeline), champion, config=settings)
        snapshot = keep_health(step, pipeline, health)
        chart = decay_chart(health.report, title=f"champion {pipeline.title}")
        run_id = log_health(mlflow, pipeline, health, chart=chart, dagster_run_id=context.run.run_id)
        report = health.report
        context.log.info(f"version {champion.version}: {report.outcome}: {'; '.join(report.reasons)}")
        return materialized(
            snapshot,
            {
                **_metadata(health),
                "chart": image(f"{report.metric} and evidence of a loss, bundle by bundle", chart),
                "mlflow_run": dg.MetadataValue.url(mlflow.run_url(run_id, experiment=mlflow.evaluation_experiment)),
                "model_version": dg.MetadataValue.url(mlflow.model_version_url(pipeline.model_name, champion.version)),
            },
        )

    return champion_health


def _metadata(health: "ChampionHealth") -> dict[str, dg.MetadataValue]:
    report = health.report
    return {
        "outcome": dg.MetadataValue.text(report.outcome),
        "reasons": dg.MetadataValue.text("; ".join(report.reasons)),
        "version": dg.MetadataValue.text(health.champion.version),
        "fresh_reviews": dg.MetadataValue.int(report.fresh_reviews),
        "compared_reviews": dg.MetadataValue.int(report.compared_reviews),
        "needed_reviews": dg.MetadataValue.text(_needed(report)),
        "evidence": dg.MetadataValue.float(report.audited.evidence),
        "needed_evidence": dg.MetadataValue.float(report.config.needed_evidence),
        "level": dg.MetadataValue.float(report.config.alpha),
        "level_left": dg.MetadataValue.float(report.level_left),
        "unknown_to_champion": dg.MetadataValue.int(health.unknown),
        "report": dg.MetadataValue.md(report.markdown()),
        "left_out": table([{"why": why, "reviews": count} for why, count in health.gathered.excluded.items()]),
    }


def _needed(report: "DecayReport") -> str:
    audited = report.audited
    if audited.needed_reviews is not None:
        return str(audited.needed_reviews)
    few = audited.reference_reviews >= report.config.minimum_reviews
    return "no number: more to compare with first" if few else "unknown"
