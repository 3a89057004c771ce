"""`mangaassist report`: satisfaction and usage of one release bundle, for people who do not open Dagster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from mangaassist_assets.cli.options import Command, json_option
from mangaassist_assets.cli.output import add_row, console, emit, figure, new_table, say
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
        CommandError: The bundle was not mined, its key is none, or a report failed.
    """
    from mangaassist_assets.core.bundles import InvalidBundleError, validate_bundle
    from mangaassist_assets.reporting.stored_reports import REPORT_FILE

    try:
        validate_bundle(release_bundle)
    except InvalidBundleError as error:
        raise CommandError(str(error)) from error
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
    outcome = session.run_job(JOB, partition=release_bundle, assets=list(wanted.values()))
    if not outcome.succeeded:
        raise CommandError("; ".join(outcome.errors) or f"run {outcome.run_id} of the job {JOB} failed")
    reports = {
        name: store.read_json(store.latest(asset, partition=release_bundle), REPORT_FILE)
        for name, asset in wanted.items()
    }
    return {"release_bundle": release_bundle, **reports}


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
    table = new_table(
        f"Satisfaction of {report['release_bundle']}{against}",
        *("by", "group", "turns", "rated", "thumbs up", "interval", "difference", "moved"),
    )
    shown = _largest(table, report["groups"], by="turns")
    for group in shown:
        difference = "–"
        if group["difference"] is not None:
            difference = f"{group['difference']:+.3f} ({group['difference_low']:+.3f}…{group['difference_high']:+.3f})"
        interval = "–" if group["low"] is None else f"{group['low']:.3f}…{group['high']:.3f}"
        add_row(
            table,
            group["dimension"],
            shown_value(group),
            str(group["turns"]),
            str(group["rated"]),
            figure(group["satisfaction"], 3),
            interval,
            difference,
            "yes" if group["moved"] else "",
        )
    return table


def _stages(report: dict[str, Any]) -> Table:

    table = new_table("Latency by stage, milliseconds", "stage", "calls", "failed", "p50", "p95", "p99")
    rows, more = most_called([row for row in report["stages"] if row["dimension"] == "overall"], _STAGES_SHOWN)
    for row in rows:
        add_row(
            table,
            shown_name(row["name"]),
            *(str(row[name]) for name in ("calls", "failed")),
            *(figure(row[name], 1) for name in ("p50", "p95", "p99")),
        )
    if more:
        table.caption = f"{more} more stages, called less"
    return table


def _groups(report: dict[str, Any]) -> Table:
    columns = ("by", "group", "turns", "errors", "blocked", "cache hits", "p95 ms", "input / output tokens")
    costs = ("prompt cache read / written", "cost, USD", "of it as a proxy charged")
    table = new_table(f"Usage of {report['release_bundle']}", *columns, *costs)
    for row in _largest(table, report["groups"], by="turns"):
        add_row(
            table,
            row["dimension"],
            shown_value(row),
            str(row["turns"]),
            f"{row['errors']} ({figure(row['error_rate'], 3)})",
            f"{row['blocked']} ({figure(row['blocked_rate'], 3)})",
            f"{row['cache_hits']} of {row['cache_stated']}",
            figure(row["p95"], 1),
            f"{row['input_tokens']} / {row['output_tokens']}",
            f"{row['cache_read_tokens']} / {row['cache_write_tokens']}",
            f"{figure(row['cost_usd'], 4)} ({row['priced_calls']} of {row['calls']} calls)",
            f"{figure(row['reported_cost_usd'], 4)} ({row['reported_calls']} calls)" if row["reported_calls"] else "–",
        )
    return table


def _models(report: dict[str, Any]) -> Table:
    columns = ("model", "calls", "input / output tokens", "cost", "by list price", "as a proxy charged")
    table = new_table("Cost by model, USD", *columns)
    for row in _largest(table, [row for row in report["models"] if row["dimension"] == "overall"], by="calls"):
        cost = "no price" if row["cost_usd"] is None and row["unpriced_calls"] else figure(row["cost_usd"], 4)
        add_row(
            table,
            shown_name(row["model_id"]),
            str(row["calls"]),
            f"{row['input_tokens']} / {row['output_tokens']}",
            cost,
            *(figure(row[name], 4) for name in ("listed_cost_usd", "reported_cost_usd")),
        )
    return table


def _largest(table: Table, rows: list[dict[str, Any]], *, by: str) -> list[dict[str, Any]]:
    """Return the largest groups of each dimension, and say under the table how many more there are."""
    shown = largest_groups(rows, by=by)
    if shown.said:
        table.caption = shown.said
    return shown.rows
