"""`mangaassist report`: satisfaction and usage of one release bundle, for people who do not open Dagster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import click

from mangaassist_assets.cli.options import Command, json_option
from mangaassist_assets.cli.output import console, emit, figure, new_table, say
from mangaassist_assets.cli.session import CommandError, Session, open_session
from mangaassist_assets.reporting.groups import largest_groups, shown_name, shown_value
from mangaassist_assets.reporting.usage.report import most_called

if TYPE_CHECKING:
    from rich.table import Table

Kind = Literal["satisfaction", "usage", "all"]
ASSETS = {"satisfaction": "satisfaction_report", "usage": "usage_report"}
JOB = "reports"
_STAGES_SHOWN = 24


@click.command(cls=Command)
@click.option("--release-bundle", required=True, help="A bundle that was mined.")
@click.option(
    "--kind",
    type=click.Choice(["all", "satisfaction", "usage"]),
    default="all",
    show_default=True,
    help="Which report.",
)
@json_option
@click.pass_obj
def report(home: str | None, release_bundle: str, kind: Kind, *, as_json: bool) -> None:
    """How satisfied shoppers are with one release bundle, and what its turns took and cost."""
    with open_session(home, say, services=("mlflow",), imports=()) as session:
        reports = run_report(session, release_bundle=release_bundle, kind=kind)
    emit(reports, render_report, as_json=as_json)


def run_report(session: Session, *, release_bundle: str, kind: Kind = "all") -> dict[str, Any]:
    """Materialize the reports of a bundle that was mined, and return what they say.

    Returns:
        `release_bundle`, and `satisfaction` and `usage` as their snapshots hold them.

    Raises:
        CommandError: The bundle was not mined, or a report failed.
        InvalidBundleError: The key is not valid.
    """
    from mangaassist_assets.core.bundles import previous_bundle, validate_bundle
    from mangaassist_assets.reporting.stored_reports import REPORT_FILE
    from mangaassist_assets.reporting.warehouse.loading import WAREHOUSE_ASSET

    validate_bundle(release_bundle)
    store = session.resources.store.snapshots()
    for needed in ("tagged_traces", "feedback_events"):
        if store.find(needed, partition=release_bundle) is None:
            msg = (
                f"bundle {release_bundle} has no {needed} yet: run `mangaassist loop --release-bundle {release_bundle}`"
                ", or materialize the job failure_mining for it"
            )
            raise CommandError(msg)
    session.register_bundle(release_bundle)
    wanted = {name: asset for name, asset in ASSETS.items() if kind in (name, "all")}
    session.progress(f"reporting on {release_bundle}")
    needed_first = [WAREHOUSE_ASSET] if "satisfaction" in wanted else []
    before = previous_bundle(store, release_bundle, having="feedback_events") if needed_first else None
    if before is not None and store.find(WAREHOUSE_ASSET, partition=before) is None:
        # Mined by a job without reports: what the bundle is compared with is brought into the warehouse now.
        session.register_bundle(before)
        _run(session, before, needed_first)
    _run(session, release_bundle, [*needed_first, *wanted.values()])
    reports = {
        name: store.read_json(store.latest(asset, partition=release_bundle), REPORT_FILE)
        for name, asset in wanted.items()
    }
    return {"release_bundle": release_bundle, **reports}


def _run(session: Session, release_bundle: str, assets: list[str]) -> None:
    outcome = session.run_job(JOB, partition=release_bundle, assets=assets)
    if not outcome.succeeded:
        raise CommandError("; ".join(outcome.errors) or f"run {outcome.run_id} of the job {JOB} failed")


def render_report(report: dict[str, Any]) -> None:
    """Print the reports as tables."""
    from rich.text import Text

    terminal = console()
    if satisfaction := report.get("satisfaction"):
        terminal.print(_satisfaction(satisfaction))
    if usage := report.get("usage"):
        terminal.print(_stages(usage))
        terminal.print(_groups(usage))
        terminal.print(_models(usage))
        for note in usage["price_notes"]:
            terminal.print(Text(note, style="yellow"))


def _satisfaction(report: dict[str, Any]) -> Table:
    against = f" against {report['compared_with']}" if report["compared_with"] else ""
    return _largest(
        f"Satisfaction of {report['release_bundle']}{against}",
        ("by", "group", "turns", "rated", "thumbs up", "interval", "difference", "moved"),
        report["groups"],
        lambda group: (
            group["dimension"],
            shown_value(group),
            group["turns"],
            group["rated"],
            figure(group["satisfaction"]),
            "–" if group["low"] is None else f"{group['low']:.3f}…{group['high']:.3f}",
            "–"
            if group["difference"] is None
            else f"{group['difference']:+.3f} ({group['difference_low']:+.3f}…{group['difference_high']:+.3f})",
            "yes" if group["moved"] else "",
        ),
    )


def _stages(report: dict[str, Any]) -> Table:
    stages, more = most_called([row for row in report["stages"] if row["dimension"] == "overall"], _STAGES_SHOWN)
    rows = (
        (
            shown_name(row["name"]),
            row["calls"],
            row["failed"],
            *(figure(row[name], 1) for name in ("p50", "p95", "p99")),
        )
        for row in stages
    )
    table = new_table("Latency by stage, milliseconds", ("stage", "calls", "failed", "p50", "p95", "p99"), rows)
    if more:
        table.caption = f"{more} more stages, called less"
    return table


def _groups(report: dict[str, Any]) -> Table:
    columns = ("by", "group", "turns", "errors", "blocked", "cache hits", "p95 ms", "input / output tokens")
    costs = ("prompt cache read / written", "cost, USD", "of it as a proxy charged")
    return _largest(
        f"Usage of {report['release_bundle']}",
        (*columns, *costs),
        report["groups"],
        lambda row: (
            row["dimension"],
            shown_value(row),
            row["turns"],
            f"{row['errors']} ({figure(row['error_rate'])})",
            f"{row['blocked']} ({figure(row['blocked_rate'])})",
            f"{row['cache_hits']} of {row['cache_stated']}",
            figure(row["p95"], 1),
            f"{row['input_tokens']} / {row['output_tokens']}",
            f"{row['cache_read_tokens']} / {row['cache_write_tokens']}",
            f"{figure(row['cost_usd'], 4)} ({row['priced_calls']} of {row['calls']} calls)",
            f"{figure(row['reported_cost_usd'], 4)} ({row['reported_calls']} calls)" if row["reported_calls"] else "–",
        ),
    )


def _models(report: dict[str, Any]) -> Table:
    return _largest(
        "Cost by model, USD",
        ("model", "calls", "input / output tokens", "cost", "by list price", "as a proxy charged"),
        [row for row in report["models"] if row["dimension"] == "overall"],
        lambda row: (
            shown_name(row["model_id"]),
            row["calls"],
            f"{row['input_tokens']} / {row['output_tokens']}",
            "no price" if row["cost_usd"] is None and row["unpriced_calls"] else figure(row["cost_usd"], 4),
            *(figure(row[name], 4) for name in ("listed_cost_usd", "reported_cost_usd")),
        ),
        by="calls",
    )


def _largest(
    title: str,
    columns: Sequence[str],
    groups: list[dict[str, Any]],
    cells: Callable[[dict[str, Any]], Sequence[object]],
    *,
    by: str = "turns",
) -> Table:
    """Return a table of the largest groups of each dimension, with how many more there are under it."""
    shown = largest_groups(groups, by=by)
    table = new_table(title, columns, map(cells, shown.rows))
    if shown.said:
        table.caption = shown.said
    return table
