"""Jobs and schedule of champions: judged again every week, and promoted by hand."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from mangaassist_assets.models.pipelines import MODEL_PIPELINES, ModelPipeline


def build_promotion_job(pipeline: ModelPipeline) -> Any:  # noqa: ANN401 - Dagster gives the type no public name
    """Return the job that promotes and deploys: `mangaassist models promote` runs it with an override."""
    return dg.define_asset_job(
        f"{pipeline.group}_promotion",
        selection=dg.AssetSelection.assets(*pipeline.deployment_assets),
        description=(
            f"The champion {pipeline.title} and its endpoint, by the stored verdicts, or by an override in the "
            "champion's configuration."
        ),
    )


def promotion_jobs(pipelines: Sequence[ModelPipeline] = MODEL_PIPELINES) -> tuple[Any, ...]:
    """Return the promotion jobs of model pipelines."""
    return tuple(build_promotion_job(pipeline) for pipeline in pipelines)


champion_evaluation = dg.define_asset_job(
    "champion_evaluation",
    selection=dg.AssetSelection.assets(*(pipeline.health_asset for pipeline in MODEL_PIPELINES)),
    description="Every champion on what people reviewed since its dataset was closed. Changes nothing.",
)

weekly_champion_evaluation = dg.ScheduleDefinition(
    name="weekly_champion_evaluation",
    job=champion_evaluation,
    cron_schedule="0 4 * * 1",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every Monday: judge the champions on fresh reviewed traffic, after Sunday's datasets are there.",
)
