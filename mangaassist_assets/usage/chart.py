"""The usage report as pictures: latency by stage, cost by model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mangaassist_assets.satisfaction.chart import png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mangaassist_assets.usage.report import UsageReport

_BARS_SHOWN = 12
_COLORS = {"p50": "#9db8dc", "p95": "#30507a", "p99": "#b3261e"}


def latency_chart(report: UsageReport) -> bytes:
    """Return a PNG: p50, p95 and p99 of each stage over all turns, the slowest first, on a logarithmic scale."""
    stages = [row for row in report.of("stages") if row["calls"]][:_BARS_SHOWN]
    figure, axes = _canvas(len(stages), 0.55)
    for place, (name, color) in enumerate(_COLORS.items()):
        rows = [row + (place - 1) * 0.26 for row in range(len(stages))]
        # A logarithmic scale has no 0: what took less than a hundredth of a millisecond is drawn as that.
        widths = [max(stage[name] or 0.0, 0.01) for stage in stages]
        axes.barh(rows, widths, height=0.24, color=color, label=name)
    if stages:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.legend(fontsize=8, frameon=False, loc="lower right")
    _label(axes, [f"{stage['name']} ({stage['calls']})" for stage in stages])
    axes.set_xlabel("milliseconds")
    axes.set_title(f"Latency by stage of {report.release_bundle} (calls)", fontsize=10, loc="left")
    return png(figure)


def cost_chart(report: UsageReport) -> bytes:
    """Return a PNG: cost of each model over all turns, and what a proxy reported; an unpriced model says so."""
    models = sorted(report.of("models"), key=lambda row: (-(row["cost_usd"] or 0.0), row["model_id"]))[:_BARS_SHOWN]
    figure, axes = _canvas(len(models), 0.4)
    axes.barh(range(len(models)), [row["cost_usd"] or 0.0 for row in models], height=0.5, color="#30507a")
    for place, row in enumerate(models):
        if row["reported_cost_usd"] is not None:
            axes.plot([row["reported_cost_usd"]], [place], "d", color="#b3261e", markersize=6)
        said = "no price" if row["cost_usd"] is None else f"{row['cost_usd']:.4f}"
        partly = (
            f", {row['unpriced_calls']} without price" if row["cost_usd"] is not None and row["unpriced_calls"] else ""
        )
        axes.annotate(
            f" {said}{partly}", (row["cost_usd"] or 0.0, place), va="center", fontsize=8, annotation_clip=False
        )
    _label(axes, [f"{row['model_id']} ({row['calls']})" for row in models])
    axes.set_xlim(left=0)
    axes.margins(x=0.2)
    axes.set_xlabel("USD by list price; diamond: as a proxy reported")
    axes.set_title(f"Cost by model of {report.release_bundle} (calls)", fontsize=10, loc="left")
    return png(figure)


def _canvas(bars: int, height: float) -> tuple[Any, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + height * max(1, bars)), layout="constrained", dpi=80)
    return figure, figure.subplots()


def _label(axes: Axes, names: list[str]) -> None:
    # A dollar sign would start a formula.
    axes.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names], fontsize=8)
    axes.set_ylim(max(1, len(names)) - 0.5, -0.5)
    axes.grid(axis="x", color="#e8ebef")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
