"""Reports of a release bundle for people: how satisfied shoppers are, and what their turns took and cost."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from mangaassist_assets.assets.common import ML_ENGINEERING, PLATFORM, image, materialized, table
from mangaassist_assets.assets.feedback import feedback_events
from mangaassist_assets.assets.traces import tagged_traces
from mangaassist_assets.partitions import release_bundles
from resources.mlflow.tracking import MlflowResource
from resources.settings.prices import PricesResource
from resources.store import StoreResource
from resources.warehouse.warehouse import WarehouseResource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.reporting.groups import ShownRows
    from mangaassist_assets.reporting.satisfaction.report import SatisfactionReport
    from mangaassist_assets.reporting.warehouse.types import Warehouse

WAREHOUSE_POOL = "warehouse"
REPORT_FILE = "report.json"
_STAGES_SHOWN = 24
IN_MILLISECONDS = {name: f"latency_{name}_ms" for name in ("p50", "p95", "p99")}

SATISFACTION_COLUMNS = (
    *("turns", "rated", "thumbs_up", "satisfaction", "low", "high"),
    *("rated_before", "satisfaction_before", "difference", "difference_low", "difference_high", "moved"),
)
USAGE_COLUMNS = {
    "groups": (
        *(
            "turns",
            "errors",
            "error_rate",
            "blocked",
            "blocked_rate",
            "cache_hits",
            "cache_stated",
            "p50",
            "p95",
            "p99",
        ),
        *("calls", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
        *("cost_usd", "priced_calls", "reported_cost_usd", "reported_calls", "listed_cost_usd"),
    ),
    "stages": ("name", "calls", "failed", "p50", "p95", "p99"),
    "models": (
        *("model_id", "calls", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
        *("cost_usd", "priced_calls", "unpriced_calls", "uncounted_calls"),
        *("reported_cost_usd", "reported_calls", "listed_cost_usd"),
    ),
}
"""What of the tables people see on the page; the snapshot holds all of it."""


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

    from mangaassist_assets.core.bundles import previous_bundle
    from mangaassist_assets.core.codecs import to_parquet
    from mangaassist_assets.core.snapshots import canonical_json
    from mangaassist_assets.reporting.groups import shown_name
    from mangaassist_assets.reporting.satisfaction.chart import satisfaction_chart
    from mangaassist_assets.reporting.satisfaction.report import build_report, read_counts
    from mangaassist_assets.reporting.warehouse.queries import STRAY_EVENTS, satisfaction_query

    bundle = context.partition_key
    snapshots = store.snapshots()
    before = previous_bundle(snapshots, bundle, having="feedback_events")
    with closing(warehouse.open()) as database:
        rejected = load_bundle(context, database, snapshots, bundle)
        if before is not None:
            load_bundle(context, database, snapshots, before)
        counts = {
            one: read_counts(database.query(satisfaction_query(), {"release_bundle": one}))
            for one in (bundle, before)
            if one is not None
        }
        events, stray = database.query(STRAY_EVENTS, {"release_bundle": bundle}).row(0)
    report = build_report(
        counts[bundle],
        release_bundle=bundle,
        compared_with=before,
        before=counts[before] if before is not None else (),
        events=events,
        events_without_turn=stray,
    )
    snapshot = snapshots.write(
        "satisfaction_report",
        {REPORT_FILE: canonical_json(report), "groups.parquet": to_parquet(report.frame())},
        partition=bundle,
    )
    moved = [group for group in report.groups if group.moved]
    overall = report.overall
    context.log.info(
        f"{overall.thumbs_up} of {overall.rated} rated turns are thumbs up, {overall.turns} turns; compared with "
        f"{before or 'no earlier bundle'}: {len(moved)} groups moved"
    )
    shown = _shown(report.frame(), SATISFACTION_COLUMNS, by="turns")
    shares = {} if overall.satisfaction is None else {"satisfaction": dg.MetadataValue.float(overall.satisfaction)}
    return materialized(
        snapshot,
        {
            "dagster/row_count": dg.MetadataValue.int(len(report.groups)),
            "chart": image("Satisfaction by group", satisfaction_chart(report)),
            "turns": dg.MetadataValue.int(overall.turns),
            "rated": dg.MetadataValue.int(overall.rated),
            **shares,
            "compared_with": dg.MetadataValue.text(before or "no earlier bundle"),
            "moved": dg.MetadataValue.text(
                ", ".join(f"{group.dimension} {shown_name(group.value)} {group.difference:+.3f}" for group in moved)
                or "nothing"
            ),
            "feedback_events": dg.MetadataValue.int(events),
            "feedback_without_turn": dg.MetadataValue.int(stray),
            "feedback_rejected": table([{"reason": why, "events": n} for why, n in sorted(rejected.items())]),
            "groups": table(shown.rows),
            "groups_not_shown": dg.MetadataValue.text(shown.said or "none"),
            "mlflow": dg.MetadataValue.md(_links(mlflow, report)),
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
    the price that was valid when the turn began, cache hits of the turns that tell, errors and blocked turns, each with
    its count. A call without a price has no cost: its model is named with the reason. A price that has ended counts
    until another is known, and is named as well.
    """
    import io

    import polars as pl

    from mangaassist_assets.core.codecs import to_parquet
    from mangaassist_assets.core.snapshots import canonical_json
    from mangaassist_assets.reporting.usage.chart import cost_chart, customer_chart, latency_chart
    from mangaassist_assets.reporting.usage.report import build_usage_report
    from mangaassist_assets.tracing.ingestion.stored_turns import TURNS_FILE

    bundle = context.partition_key
    snapshots = store.snapshots()
    turns = pl.read_parquet(io.BytesIO(snapshots.read(snapshots.latest("tagged_traces", partition=bundle), TURNS_FILE)))
    report = build_usage_report(turns, prices.table(), release_bundle=bundle, region=prices.priced_region())
    names = ("groups", "stages", "models", "prices", "unpriced")
    tables = {f"{name}.parquet": to_parquet(getattr(report, name)) for name in names}
    snapshot = snapshots.write(
        "usage_report", {REPORT_FILE: canonical_json(report.to_dict()), **tables}, partition=bundle
    )
    overall = report.overall
    cost = overall["cost_usd"]
    context.log.info(
        f"{overall['turns']} turns, {overall['errors']} errors, {overall['calls']} model calls, "
        f"{overall['priced_calls']} of them with a known cost, {overall['reported_calls']} as a proxy charged it, "
        f"{0.0 if cost is None else cost:.4f} USD; "
        f"no price for: {', '.join(report.unpriced_models) or 'none'}"
    )
    for note in report.price_notes:
        context.log.info(note)
    figures = {
        IN_MILLISECONDS.get(name, name): dg.MetadataValue.float(round(overall[name], 6))
        for name in (
            *("p50", "p95", "p99", "error_rate", "blocked_rate", "cache_hit_share"),
            *("cost_usd", "reported_cost_usd", "listed_cost_usd"),
        )
        if overall[name] is not None
    }
    groups = _shown(report.groups, USAGE_COLUMNS["groups"], by="turns")
    models = _shown(report.models, USAGE_COLUMNS["models"], by="calls")
    stages, more_stages = report.most_called_stages(_STAGES_SHOWN)
    customers = customer_chart(report)
    pictures = {} if customers is None else {"customer_chart": image("Cost by tenant and team", customers)}
    return materialized(
        snapshot,
        {
            "dagster/row_count": dg.MetadataValue.int(overall["turns"]),
            "latency_chart": image("Latency by stage", latency_chart(report)),
            "cost_chart": image("Cost by model", cost_chart(report)),
            **pictures,
            **figures,
            "cache_hits": dg.MetadataValue.text(f"{overall['cache_hits']} of {overall['cache_stated']}"),
            "model_calls": dg.MetadataValue.int(overall["calls"]),
            "priced_calls": dg.MetadataValue.int(overall["priced_calls"]),
            "reported_calls": dg.MetadataValue.int(overall["reported_calls"]),
            "unpriced_models": dg.MetadataValue.text(", ".join(report.unpriced_models) or "none"),
            "groups": table(groups.rows),
            "groups_not_shown": dg.MetadataValue.text(groups.said or "none"),
            "stages": table(_for_people(stages, USAGE_COLUMNS["stages"])),
            "stages_not_shown": dg.MetadataValue.int(more_stages),
            "models": table(models.rows),
            "models_not_shown": dg.MetadataValue.text(models.said or "none"),
            "prices": table(_rounded(report.prices)),
            "unpriced": table(report.unpriced.to_dicts()),
            "price_notes": dg.MetadataValue.text("\n".join(report.price_notes) or "none"),
            "mlflow_traces": dg.MetadataValue.url(mlflow.traces_url(bundle)),
        },
    )


def load_bundle(
    context: dg.AssetExecutionContext, database: "Warehouse", snapshots: "SnapshotStore", bundle: str
) -> dict[str, int]:
    """Bring a bundle's snapshots into the warehouse; returns what of its feedback was no event, by reason."""
    import io

    import polars as pl

    from mangaassist_assets.reporting.warehouse.rows import feedback_rows, turn_rows
    from mangaassist_assets.reporting.warehouse.tables import FEEDBACK_EVENTS
    from mangaassist_assets.tracing.ingestion.stored_turns import TURNS_FILE

    turns = pl.read_parquet(io.BytesIO(snapshots.read(snapshots.latest("tagged_traces", partition=bundle), TURNS_FILE)))
    events = _feedback_events(snapshots, bundle)
    feedback = feedback_rows(events, release_bundle=bundle)
    changed = database.load({**turn_rows(turns), FEEDBACK_EVENTS.name: feedback.frame}, release_bundle=bundle)
    context.log.info(
        f"{bundle} in the warehouse: {turns.height} turns, {feedback.frame.height} feedback events"
        f"{'' if changed else ', as before'}"
    )
    return dict(feedback.rejected)


def _feedback_events(snapshots: "SnapshotStore", bundle: str) -> list[Any]:
    """Return the feedback events of a bundle: the table of today, or the list that older snapshots hold."""
    import io

    import polars as pl

    from mangaassist_assets.tracing.feedback.stored_events import EVENTS_FILE

    snapshot = snapshots.latest("feedback_events", partition=bundle)
    if EVENTS_FILE in snapshot.files:
        return pl.read_parquet(io.BytesIO(snapshots.read(snapshot, EVENTS_FILE))).to_dicts()
    events = snapshots.read_json(snapshot, "events.json") if "events.json" in snapshot.files else None
    if not isinstance(events, list):
        raise dg.Failure(f"the snapshot feedback_events of {bundle} holds no events: materialize feedback_events again")
    return events


def _shown(frame: "pl.DataFrame", columns: tuple[str, ...], *, by: str) -> "ShownRows":
    """Return the largest groups of each dimension as rows for people."""
    from mangaassist_assets.reporting.groups import ShownRows, largest_groups

    found = largest_groups(frame.to_dicts(), by=by)
    return ShownRows(rows=_for_people(found.rows, columns), more=found.more)


def _for_people(rows: "Sequence[Mapping[str, Any]]", columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return rows with a name for what is not stated, times that say their unit, and figures with four digits."""
    from mangaassist_assets.reporting.groups import shown_name, shown_value

    def cell(value: object) -> object:
        return round(value, 4) if isinstance(value, float) else shown_name(value) if isinstance(value, str) else value

    return [
        {
            "dimension": row["dimension"],
            "value": shown_value(row),
            **{IN_MILLISECONDS.get(name, name): cell(row[name]) for name in columns},
        }
        for row in rows
    ]


def _rounded(frame: "pl.DataFrame") -> list[dict[str, Any]]:
    import polars.selectors as cs

    return frame.with_columns(cs.float().round(4)).to_dicts()


def _links(mlflow: MlflowResource, report: "SatisfactionReport") -> str:
    """Return links to the traces of each prompt version and to each intent model, as Markdown."""
    from urllib.parse import quote

    from mangaassist_assets.models.pipelines import INTENT

    traces = mlflow.traces_url(report.release_bundle)
    lines = [f"- [all traces of {report.release_bundle}]({traces})"]
    for group in report.of("prompt_version"):
        if group.value is not None:
            tag = quote(f"prompt_version={quote(group.value, safe='')}", safe="")
            lines.append(f"- prompt {_plain(group.value)}: [{group.turns} traces]({traces}&tag={tag})")
    for group in report.of("intent_model_version"):
        # A version of the registry is a number; a model from elsewhere has no page there.
        if group.value is not None and group.value.isdecimal():
            url = mlflow.model_version_url(INTENT.model_name, group.value)
            lines.append(f"- intent model: [version {group.value}]({url}), {group.turns} turns")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Return a text without what Markdown would read as a link or as HTML."""
    return "".join(f"\\{char}" if char in "\\`*_[]()<>#!|&" else char for char in text)
