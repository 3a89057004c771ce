"""The champion's honesty: does it still answer as well as when it was promoted? Judged on fresh reviewed traffic."""

from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mangaassist_assets.assets.common import ML_ENGINEERING, image, materialized, table
from mangaassist_assets.models.pipelines import ModelPipeline
from resources.mlflow.tracking import MlflowResource
from resources.settings.learning import LearningResource
from resources.store import StoreResource

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.models.model_types import ModelType
    from mangaassist_assets.monitoring.decay_report import DecayConfig, DecayReport, Reviews
    from mangaassist_assets.monitoring.fresh_reviews import FreshReviews, ReviewRows
    from resources.mlflow.registry import ModelVersion

HEALTH_FILE = "health.json"
HEALTH_TEXT_FILE = "health.md"
HEALTH_TAG = "champion_health"


class ChampionHealthConfig(dg.Config):
    """What counts as decay."""

    alpha: float = Field(default=0.05, gt=0, lt=0.5, description="Chance of a false alarm at one evaluation.")
    power: float = Field(default=0.8, gt=0, lt=1, description="Power that numbers of reviews are given for.")
    loss: float = Field(
        default=0.05, gt=0, lt=1, description="Loss of the metric that is worth seeing; holding proves a smaller one."
    )


def build_champion_health_asset(pipeline: ModelPipeline) -> dg.AssetsDefinition:
    """Return the asset that judges a model pipeline's present champion on what people reviewed since."""

    @dg.asset(
        name=pipeline.health_asset,
        deps=[pipeline.champion_asset, pipeline.dataset_asset],
        group_name=pipeline.group,
        owners=[ML_ENGINEERING],
        kinds={"mlflow", "json"},
        code_version="1",
        description=(
            f"Whether the champion {pipeline.title} still answers reviewed messages as well as before: `holding`, "
            "`decayed` or `too_few`, with figures of each bundle.\n\n"
            "Fresh are messages that people reviewed since its dataset was closed and that are nothing it learned "
            "from. Reviews are mostly complaints and no sample of the traffic, so they are compared with earlier "
            "reviews that came about in the same way, never with the score at promotion: complaints about the model "
            "before it with those of its test side at promotion, complaints about itself with the first of those. The "
            "accuracy on all traffic cannot be told from them. Changes nothing in production."
        ),
    )
    def champion_health(
        context: dg.AssetExecutionContext,
        config: ChampionHealthConfig,
        learning: LearningResource,
        mlflow: MlflowResource,
        store: StoreResource,
    ) -> dg.MaterializeResult[None]:
        from mangaassist_assets.core.snapshots import canonical_json
        from mangaassist_assets.monitoring.decay_report import DecayConfig

        champion = mlflow.version_by_alias(pipeline.model_name, "champion")
        if champion is None:
            context.log.info(f"{pipeline.model_name} has no champion yet: there is nothing to judge")
            return dg.MaterializeResult(metadata={"outcome": dg.MetadataValue.text("no champion yet")})
        snapshots = store.snapshots()
        settings = DecayConfig(alpha=config.alpha, power=config.power, loss=config.loss)
        judged = judge_champion(mlflow, snapshots, pipeline, learning.model_type(pipeline), champion, config=settings)
        report, gathered, unknown = judged
        text = report.markdown()
        content = {
            **report.to_dict(),
            "champion_version": champion.version,
            "dataset_digest": champion.tags.get("dataset_digest"),
            "as_of_ms": gathered.as_of_ms,
            "excluded": dict(gathered.excluded),
            "unknown_to_champion": unknown,
        }
        snapshot = snapshots.write(
            pipeline.health_asset, {HEALTH_FILE: canonical_json(content), HEALTH_TEXT_FILE: text.encode()}
        )
        chart = _chart(report, pipeline)
        run_id = _log(context, mlflow, pipeline, champion, report, text, chart)
        context.log.info(f"version {champion.version}: {report.outcome}: {'; '.join(report.reasons)}")
        return materialized(
            snapshot,
            {
                "outcome": dg.MetadataValue.text(report.outcome),
                "reasons": dg.MetadataValue.text("; ".join(report.reasons)),
                "version": dg.MetadataValue.text(champion.version),
                "fresh_reviews": dg.MetadataValue.int(report.fresh_reviews),
                "compared_reviews": dg.MetadataValue.int(report.compared_reviews),
                "needed_reviews": dg.MetadataValue.text(_needed(report)),
                "unknown_to_champion": dg.MetadataValue.int(unknown),
                "report": dg.MetadataValue.md(text),
                "chart": image(f"{report.metric} on reviews, bundle by bundle", chart),
                "left_out": table([{"why": why, "reviews": count} for why, count in gathered.excluded.items()]),
                "mlflow_run": dg.MetadataValue.url(mlflow.run_url(run_id, experiment=mlflow.evaluation_experiment)),
                "model_version": dg.MetadataValue.url(mlflow.model_version_url(pipeline.model_name, champion.version)),
            },
        )

    return champion_health


def judge_champion(
    mlflow: MlflowResource,
    snapshots: "SnapshotStore",
    pipeline: ModelPipeline,
    model_type: "ModelType[Any]",
    champion: "ModelVersion",
    *,
    config: "DecayConfig | None" = None,
) -> "tuple[DecayReport, FreshReviews, int]":
    """Let a champion answer reviewed messages of before and after its promotion, and judge it.

    Returns:
        The report, what it rests on, and how many fresh messages have an answer that the champion never learned: they
        count as wrong, for so they were answered.

    Raises:
        ArtifactMismatchError: the artifact is damaged.
        ChampionDatasetGoneError: what it learned from is not stored any more.
    """
    from mangaassist_assets.monitoring.decay import judge_decay, with_references
    from mangaassist_assets.monitoring.fresh_reviews import fresh_reviews

    gathered = fresh_reviews(snapshots, pipeline, champion)
    groups = [*gathered.promotion, *gathered.later]
    promotion: list[Reviews] = []
    later: list[Reviews] = []
    unknown = 0
    if groups:
        model = model_type.load(mlflow.artifact_directory(champion), champion.artifact_sha256)
        promotion = [_answered(model_type, model, rows, champion.version)[0] for rows in gathered.promotion]
        for rows in gathered.later:
            reviews, never_learned = _answered(model_type, model, rows, champion.version)
            later.append(reviews)
            unknown += never_learned
    report = judge_decay(
        with_references(promotion, later, config=config),
        metric=model_type.metric,
        binary=model_type.binary,
        promotion_score=_promotion_score(snapshots, pipeline, champion),
        config=config,
    )
    return report, gathered, unknown


def _answered(model_type: "ModelType[Any]", model: object, rows: "ReviewRows", version: str) -> "tuple[Reviews, int]":
    from mangaassist_assets.monitoring.decay_report import Reviews

    examples = model_type.examples(rows.frame, "test")
    results = model_type.evaluate(model, examples, version=version)
    never_learned = model_type.unknown_to(model, examples)
    reviews = Reviews(
        release_bundle=rows.release_bundle,
        selection=rows.selection,
        outcomes=results.outcomes,
        confidences=results.confidences,
    )
    return reviews, 0 if never_learned is None else int(never_learned.sum())


def _promotion_score(snapshots: "SnapshotStore", pipeline: ModelPipeline, champion: "ModelVersion") -> float | None:
    """Return what a champion scored in the evaluation by which it was promoted; None where there is none."""
    from mangaassist_assets.assets.reading import EVALUATION_FILE, read_json

    bundle = champion.tags.get("release_bundle")
    if bundle is None or bundle not in set(snapshots.partitions(pipeline.evaluation_asset)):
        return None
    evaluation = read_json(snapshots, snapshots.latest(pipeline.evaluation_asset, partition=bundle), EVALUATION_FILE)
    same = evaluation["challenger_version"] == champion.version
    return float(evaluation["challenger_score"]) if same else None


def _chart(report: "DecayReport", pipeline: ModelPipeline) -> bytes:
    from mangaassist_assets.monitoring.decay_chart import decay_chart

    return decay_chart(report, title=f"champion {pipeline.title}")


def _log(
    context: dg.AssetExecutionContext,
    mlflow: MlflowResource,
    pipeline: ModelPipeline,
    champion: "ModelVersion",
    report: "DecayReport",
    text: str,
    chart: bytes,
) -> str:
    """Log an evaluation as a run, tag the version with its outcome, and return the run's id."""
    figures = {
        "fresh_reviews": report.fresh_reviews,
        "compared_reviews": report.compared_reviews,
        "reference_reviews": report.reference_reviews,
        "fresh_score": report.fresh_score,
        "reference_score": report.reference_score,
        "promotion_score": report.promotion_score,
        "difference": report.difference.difference if report.difference else None,
        "difference_low": report.difference.low if report.difference else None,
        "difference_high": report.difference.high if report.difference else None,
        "p_lower": report.difference.p_lower if report.difference else None,
        "needed_reviews": report.needed_reviews,
        "calibration_error": report.calibration.expected_error if report.calibration else None,
        "overconfidence": report.calibration.overconfidence if report.calibration else None,
    }
    tags = {
        "dagster_run_id": context.run.run_id,
        "champion_version": champion.version,
        "registered_model": pipeline.model_name,
        HEALTH_TAG: report.outcome,
    }
    params = {"alpha": report.config.alpha, "power": report.config.power, "loss": report.config.loss}
    with mlflow.training_run(
        f"{pipeline.health_asset} of version {champion.version}",
        tags=tags,
        params=params,
        experiment=mlflow.evaluation_experiment,
    ) as run:
        run.log_metrics({name: float(value) for name, value in figures.items() if value is not None})
        for step, one in enumerate(report.bundles):
            run.log_metrics({"bundle_score": one.score, "bundle_reviews": float(one.reviews)}, step=step)
        run.log_text(text, HEALTH_TEXT_FILE)
        run.log_png(chart, "health.png")
    found = {HEALTH_TAG: report.outcome, f"{HEALTH_TAG}_reviews": str(report.compared_reviews)}
    if report.fresh_score is not None:
        found[f"{HEALTH_TAG}_score"] = f"{report.fresh_score:.4f}"
    mlflow.registry().set_tags(pipeline.model_name, champion.version, found)
    return run.run_id


def _needed(report: "DecayReport") -> str:
    if report.needed_reviews is not None:
        return str(report.needed_reviews)
    return "unknown" if report.needed_reference is None else f"no number: {report.needed_reference} earlier ones first"
