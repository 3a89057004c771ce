"""A decision of the gate as a picture: the change over all and on each slice, with its interval and the margin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mangaassist_assets.core.plotting import name_fonts, png
from mangaassist_assets.evaluation.gate.decision import GateDecision, SliceFigures
from mangaassist_assets.evaluation.gate.table import worst_first

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from matplotlib.transforms import Transform

_SLICES_SHOWN = 12
_LONGEST_LABEL = 34
_COLORS = {
    "worse": "#b3261e",
    "suspicious": "#b26a00",
    "non_inferior": "#1b7f3b",
    "undecided": "#9aa4b2",
    "overall": "#30507a",
}


def gate_chart(decision: GateDecision) -> bytes:
    """Return a PNG; of each dimension the slices that could be judged, then others, at most twelve, worst first."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown = _shown(decision.slices)
    margin = decision.config.slice_margin
    with rc_context({"font.family": name_fonts()}):
        figure = Figure(figsize=(8, 1.5 + 0.25 * (len(shown) + 1)), layout="constrained", dpi=80)
        axes = figure.subplots()
        axes.axvline(0.0, color="#5b6470", linewidth=1)
        axes.axvline(-margin, color="#b3261e", linewidth=1, linestyle=(0, (4, 3)))
        if "difference_low" in decision.figures:
            figures = decision.figures
            low, high = figures["difference_low"], figures["difference_high"]
            axes.plot([low, high], [0, 0], color=_COLORS["overall"], linewidth=3, solid_capstyle="round")
            axes.plot([figures["difference"]], [0], "D", color=_COLORS["overall"], markersize=7)
        axes.text(1.02, 0, f"{int(decision.figures['examples'])}", va="center", fontsize=8, transform=_beside(axes))
        for row, item in enumerate(shown, start=1):
            color = _COLORS[item.judgement]
            axes.plot([item.low, item.high], [row, row], color=color, linewidth=2, solid_capstyle="round")
            axes.plot([item.difference], [row], "o", color=color, markersize=5)
            axes.text(1.02, row, f"{item.examples}", va="center", fontsize=8, transform=_beside(axes))
            if row == 1 or shown[row - 2].dimension != item.dimension:
                axes.axhline(row - 0.5, color="#d6dbe2", linewidth=0.8)
        axes.set_yticks(range(len(shown) + 1), ["all examples", *(_label(item) for item in shown)], fontsize=8)
        axes.set_ylim(len(shown) + 0.5, -0.5)
        _limit(axes, decision, shown)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:+.2f}")
        axes.grid(axis="x", color="#e8ebef")
        axes.set_axisbelow(True)
        hidden = len(decision.slices) - len(shown)
        more = f"; {hidden} slices with smaller losses are not shown" if hidden else ""
        axes.set_xlabel(
            f"change of {_plain(decision.metric)}, challenger - champion, {decision.config.confidence:.0%} interval\n"
            f"dashed: the margin of a slice, {margin:g}; at the right: examples{more}",
            fontsize=8,
        )
        verdict = decision.verdict.replace("_", " ")
        axes.set_title(f"Gate: {verdict} ({_plain(decision.metric)})", fontsize=10, loc="left")
        if shown:
            axes.legend(
                handles=_legend(shown), fontsize=7, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, frameon=False
            )
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        return png(figure)


def _shown(slices: Sequence[SliceFigures]) -> list[SliceFigures]:
    shown = []
    for dimension in sorted({item.dimension for item in slices}):
        ordered = worst_first([item for item in slices if item.dimension == dimension])
        ordered.sort(key=lambda item: item.judgement == "undecided")
        shown += worst_first(ordered[:_SLICES_SHOWN])
    return shown


def _limit(axes: Axes, decision: GateDecision, shown: Sequence[SliceFigures]) -> None:
    """Show the intervals that say something; a slice of three examples would flatten all others."""
    telling = [item for item in shown if item.judgement != "undecided"] or list(shown)
    margin = decision.config.slice_margin
    ends = [
        -2 * margin,
        margin,
        decision.figures.get("difference_low", 0.0),
        decision.figures.get("difference_high", 0.0),
    ]
    ends += [end for item in telling for end in (item.low, item.high)]
    ends += [item.difference for item in shown]
    low, high = min(ends), max(ends)
    axes.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))


def _legend(shown: Sequence[SliceFigures]) -> list[Line2D]:
    from matplotlib.lines import Line2D

    there = {item.judgement for item in shown}
    return [
        Line2D([], [], color=color, marker="o", markersize=5, linewidth=2, label=name.replace("_", " "))
        for name, color in _COLORS.items()
        if name in there
    ]


def _beside(axes: Axes) -> Transform:
    """Return coordinates whose x is a share of the axes' width and whose y is a row."""
    transform: Transform = axes.get_yaxis_transform()
    return transform


def _label(item: SliceFigures) -> str:
    name = f"{item.dimension}: {' '.join(item.name.split())}"
    return _plain(name if len(name) <= _LONGEST_LABEL else f"{name[: _LONGEST_LABEL - 1]}…")


def _plain(text: str) -> str:
    """Return a text in which no dollar sign starts a formula."""
    return text.replace("$", r"\$")
