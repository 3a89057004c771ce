"""Reports for people: how satisfied a bundle's shoppers are, what its turns took and cost, all bundles side by side."""

from collections.abc import Sequence

import dagster as dg

from mangaassist_assets.assets.common import ML_ENGINEERING, PLATFORM, image, materialized
from mangaassist_assets.assets.declaring import declared_asset
from mangaassist_assets.assets.inputs import ALL_MINED, FEEDBACK, TURN_FRAME, WAREHOUSE_LOADS, evaluations_of
from mangaassist_assets.core.declared_inputs import Read
from mangaassist_assets.models.pipelines import ModelPipeline
from mangaassist_assets.partitions import release_bundles
from resources.mlflow.tracking import MlflowResource
from resources.settings.prices import PricesResource
from resources.store import StoreResource
from resources.warehouse.warehouse import WarehouseResource

WAREHOUSE_POOL = "warehouse"
_AFTER_ALL_OF_IT = (
    dg.AutomationCondition.any_deps_updated().since_last_handled()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
)


@declared_asset(
    outside="the warehouse",
    reads=[TURN_FRAME, FEEDBACK],
    partitions_def=release_bundles,
    group_name="reports",
    owners=[PLATFORM],
    kinds={"sql"},
    pool=WAREHOUSE_POOL,
    code_version="1",
)
def feedback_warehouse(
    context: dg.AssetExecutionContext, store: StoreResource, warehouse: WarehouseResource
) -> dg.MaterializeResult[None]:
    """Turns, stages, model calls and feedback of one release bundle in the warehouse, where anybody asks in SQL.

    One row is one table of the bundle. The rows of a bundle are replaced together, in one transaction; what is there
    already is not written again. The load number is the position: how often the bundle's rows were replaced.
    """
    from contextlib import closing

    from mangaassist_assets.reporting.warehouse.loading import load_bundle

    step = store.step(context)
    turns, feedback = step.load(TURN_FRAME), step.load(FEEDBACK)
    with closing(warehouse.open()) as database:
        loaded = load_bundle(database, turns, feedback, release_bundle=context.partition_key)
    context.log.info(str(loaded))
    return materialized(step.keep(loaded.load.files()), loaded.figures())


@declared_asset(
    reads=WAREHOUSE_LOADS,
    partitions_def=release_bundles,
    group_name="reports",
    owners=[ML_ENGINEERING],
    kinds={"sql", "parquet"},
    pool=WAREHOUSE_POOL,
    code_version="3",
)
def satisfaction_report(
    context: dg.AssetExecutionContext, mlflow: MlflowResource, store: StoreResource, warehouse: WarehouseResource
) -> dg.MaterializeResult[None]:
    """Thumbs of one release bundle by prompt, model, intent, retrieval policy, tenant and team, against the one before.

    One row is one group: turns, rated turns, the share of thumbs up with its Wilson interval, and the difference to the
    bundle before, flagged only where its interval excludes 0. It is counted in the warehouse; the newest thumb of a
    turn counts.
    """
    from contextlib import closing

    from mangaassist_assets.models.pipelines import INTENT
    from mangaassist_assets.reporting.satisfaction.bundle_report import report_links, report_satisfaction
    from mangaassist_assets.reporting.satisfaction.chart import satisfaction_chart
    from mangaassist_assets.reporting.stored_reports import report_files

    bundle, step = context.partition_key, store.step(context)
    with closing(warehouse.open()) as database:
        satisfaction = report_satisfaction(database, step, bundle)
    report = satisfaction.report
    snapshot = step.keep(report_files(report, {"groups": report.frame()}))
    context.log.info(str(satisfaction))
    links = report_links(
        report,
        traces_url=mlflow.traces_url(bundle),
        intent_model_url=lambda version: mlflow.model_version_url(INTENT.model_name, version),
    )
    return materialized(
        snapshot,
        {
            "chart": image("Satisfaction by group", satisfaction_chart(report)),
            **satisfaction.figures(),
            "mlflow": dg.MetadataValue.md(links),
        },
    )


@declared_asset(
    reads=[TURN_FRAME],
    partitions_def=release_bundles,
    group_name="reports",
    owners=[PLATFORM],
    kinds={"polars", "parquet"},
    code_version="2",
)
def usage_report(
    context: dg.AssetExecutionContext, mlflow: MlflowResource, prices: PricesResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """What the turns of one release bundle took and cost, by prompt version, experiment arm, tenant and team.

    Latency p50, p95 and p99 by stage, tokens, prompt cache reads and writes, cost by model as a proxy charged it or at
    the price that was valid when the turn began, cache hits of the turns that state them, errors and blocked turns,
    each with its count. A call without a price has no cost: its model is named with the reason. A price that has ended
    counts until another is known, and is named as well.
    """
    from mangaassist_assets.reporting.stored_reports import report_files
    from mangaassist_assets.reporting.usage.chart import cost_chart, customer_chart, latency_chart
    from mangaassist_assets.reporting.usage.figures import describe_usage, usage_figures
    from mangaassist_assets.reporting.usage.report import build_usage_report

    bundle, step = context.partition_key, store.step(context)
    report = build_usage_report(
        step.load(TURN_FRAME), prices.table(), release_bundle=bundle, region=prices.priced_region()
    )
    snapshot = step.keep(report_files(report.to_dict(), report.tables()))
    for line in (describe_usage(report), *report.price_notes):
        context.log.info(line)
    customers = customer_chart(report)
    return materialized(
        snapshot,
        {
            "latency_chart": image("Latency by stage", latency_chart(report)),
            "cost_chart": image("Cost by model", cost_chart(report)),
            **({} if customers is None else {"customer_chart": image("Cost by tenant and team", customers)}),
            **usage_figures(report),
            "mlflow_traces": dg.MetadataValue.url(mlflow.traces_url(bundle)),
        },
    )


def build_bundle_comparison(pipelines: Sequence[ModelPipeline]) -> dg.AssetsDefinition:
    """Return the asset that puts all release bundles side by side, with these model pipelines in it."""

    @declared_asset(
        reads=[
            *ALL_MINED,
            *(Read(asset=one.dataset_asset, bundles="all") for one in pipelines),
            *(evaluations_of(one) for one in pipelines),
        ],
        group_name="reports",
        owners=[ML_ENGINEERING],
        kinds={"json"},
        automation_condition=_AFTER_ALL_OF_IT,
        code_version="1",
    )
    def bundle_comparison(context: dg.AssetExecutionContext, store: StoreResource) -> dg.MaterializeResult[None]:
        """All release bundles side by side, the oldest first: what to look at after a backfill.

        One row is one bundle: turns, failures, clusters, and by model the dataset's sizes, the scores of champion and
        challenger on the same tests, and the gate's verdict.
        """
        from mangaassist_assets.reporting.bundle_comparison import (
            compare_bundles,
            comparison_figures,
            comparison_files,
        )

        step = store.step(context)
        compared = compare_bundles(step, pipelines)
        return materialized(step.keep(comparison_files(compared)), comparison_figures(compared))

    return bundle_comparison
