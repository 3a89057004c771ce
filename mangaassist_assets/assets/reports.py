"""Reports of a release bundle for people: how satisfied shoppers are, and what their turns took and cost."""

import dagster as dg

from mangaassist_assets.assets.common import ML_ENGINEERING, PLATFORM, image, materialized
from mangaassist_assets.assets.ingestion import feedback_events, tagged_traces
from mangaassist_assets.partitions import release_bundles
from resources.mlflow.tracking import MlflowResource
from resources.settings.prices import PricesResource
from resources.store import StoreResource
from resources.warehouse.warehouse import WarehouseResource

WAREHOUSE_POOL = "warehouse"


@dg.asset(
    partitions_def=release_bundles,
    deps=[tagged_traces, feedback_events],
    group_name="reports",
    owners=[ML_ENGINEERING],
    kinds={"sql", "parquet"},
    pool=WAREHOUSE_POOL,
    code_version="2",
)
def satisfaction_report(
    context: dg.AssetExecutionContext, mlflow: MlflowResource, store: StoreResource, warehouse: WarehouseResource
) -> dg.MaterializeResult[None]:
    """Thumbs of one release bundle by prompt, model, intent, retrieval policy, tenant and team, against the one before.

    One row is one group: turns, rated turns, the share of thumbs up with its Wilson interval, and the difference to the
    bundle before, flagged only where its interval excludes 0. The bundle's turns, stages, model calls and feedback are
    loaded into the warehouse first; the newest thumb of a turn counts.
    """
    from contextlib import closing

    from mangaassist_assets.models.pipelines import INTENT
    from mangaassist_assets.reporting.satisfaction.bundle_report import report_links, report_satisfaction
    from mangaassist_assets.reporting.satisfaction.chart import satisfaction_chart
    from mangaassist_assets.reporting.stored_reports import report_files

    bundle, snapshots = context.partition_key, store.snapshots()
    with closing(warehouse.open()) as database:
        satisfaction = report_satisfaction(database, snapshots, bundle)
    report = satisfaction.report
    files = report_files(report, {"groups": report.frame()})
    snapshot = snapshots.write("satisfaction_report", files, partition=bundle)
    for line in (*satisfaction.loaded, satisfaction):
        context.log.info(str(line))
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


@dg.asset(
    partitions_def=release_bundles,
    deps=[tagged_traces],
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
    from mangaassist_assets.tracing.ingestion.stored_turns import read_turn_frame

    bundle, snapshots = context.partition_key, store.snapshots()
    turns = read_turn_frame(snapshots, bundle)
    report = build_usage_report(turns, prices.table(), release_bundle=bundle, region=prices.priced_region())
    files = report_files(report.to_dict(), report.tables())
    snapshot = snapshots.write("usage_report", files, partition=bundle)
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
