"""The usage report as pictures: latency by stage, cost by model, by tenant and by team."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mangaassist_assets.core.plotting import png
from mangaassist_assets.reporting.charts import canvas, name_rows
from mangaassist_assets.reporting.groups import largest_groups, shown_name

if TYPE_CHECKING:
    from mangaassist_assets.reporting.usage.report import UsageReport

CUSTOMERS = ("tenant", "team")
_BARS_SHOWN = 12
_COLORS = {"p50": "#9db8dc", "p95": "#30507a", "p99": "#b3261e"}


def latency_chart(report: UsageReport) -> bytes:
    """Return a PNG: p50, p95 and p99 of the most called stages, the slowest first, on a logarithmic scale."""
    stages, more = report.most_called_stages(_BARS_SHOWN)
    stages = [row for row in stages if row["calls"]]
    figure, axes = canvas(len(stages), 0.55)
    for place, (name, color) in enumerate(_COLORS.items()):
        rows = [row + (place - 1) * 0.26 for row in range(len(stages))]
        # A logarithmic scale has no 0: what took less than a hundredth of a millisecond is drawn as that.
        widths = [max(stage[name] or 0.0, 0.01) for stage in stages]
        axes.barh(rows, widths, height=0.24, color=color, label=name)
    if stages:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.legend(fontsize=8, frameon=False, loc="lower right")
    name_rows(axes, [f"{shown_name(stage['name'])} ({stage['calls']})" for stage in stages])
    axes.set_xlabel("milliseconds")
    further = f"; {more} more stages" if more else ""
    axes.set_title(f"Latency by stage of {report.release_bundle} (calls){further}", fontsize=10, loc="left")
    return png(figure)


def cost_chart(report: UsageReport) -> bytes:
    """Return a PNG: cost of each model over all turns, what a proxy charged apart; an unpriced model says so."""
    models = sorted(report.of("models"), key=lambda row: (-(row["cost_usd"] or 0.0), row["model_id"]))
    names = [f"{shown_name(row['model_id'])} ({row['calls']})" for row in models[:_BARS_SHOWN]]
    return _costs(models[:_BARS_SHOWN], names, f"Cost by model of {report.release_bundle} (calls)")


def customer_chart(report: UsageReport) -> bytes | None:
    """Return a PNG: cost of the largest tenants and teams, at most twelve of each; None where no turn names one."""
    shown = largest_groups(
        (row for dimension in CUSTOMERS for row in report.of("groups", dimension)), by="turns", most=_BARS_SHOWN
    )
    if not shown.rows:
        return None
    names = [f"{row['dimension']} {shown_name(row['value'])} ({row['turns']})" for row in shown.rows]
    further = f"; {shown.said}" if shown.said else ""
    return _costs(shown.rows, names, f"Cost by tenant and team of {report.release_bundle} (turns){further}")


def _costs(rows: Sequence[Mapping[str, Any]], names: list[str], title: str) -> bytes:
    """Draw the cost of each row: what a proxy charged, and by the price list what it did not."""
    figure, axes = canvas(len(rows), 0.4)
    reported = [row["reported_cost_usd"] or 0.0 for row in rows]
    axes.barh(range(len(rows)), reported, height=0.5, color="#c98a2b", label="charged by a proxy")
    listed = [row["listed_cost_usd"] or 0.0 for row in rows]
    axes.barh(range(len(rows)), listed, left=reported, height=0.5, color="#30507a", label="by the price list")
    for place, row in enumerate(rows):
        cost = f"{row['cost_usd']:.4f}" if row["cost_usd"] is not None else "no price" if row["calls"] else "no calls"
        partly = (
            f", {row['unpriced_calls']} without price" if row["cost_usd"] is not None and row["unpriced_calls"] else ""
        )
        axes.annotate(
            f" {cost}{partly}", (row["cost_usd"] or 0.0, place), va="center", fontsize=8, annotation_clip=False
        )
    name_rows(axes, names)
    axes.set_xlim(left=0)
    axes.margins(x=0.2)
    axes.set_xlabel("USD")
    if any(reported):
        axes.legend(fontsize=8, frameon=False, loc="lower right")
    axes.set_title(title, fontsize=10, loc="left")
    return png(figure)
