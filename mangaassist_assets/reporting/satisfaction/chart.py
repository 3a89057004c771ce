"""The satisfaction report as a picture: one dot per group with its interval, its count, and the bundle before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mangaassist_assets.core.plotting import png
from mangaassist_assets.reporting.charts import canvas, name_rows
from mangaassist_assets.reporting.groups import printable
from mangaassist_assets.reporting.warehouse.queries import OVERALL, SATISFACTION_DIMENSIONS

if TYPE_CHECKING:
    from mangaassist_assets.reporting.satisfaction.report import GroupSatisfaction, SatisfactionReport

_GROUPS_SHOWN = 6
_LONGEST_LABEL = 34
_TITLES = {
    OVERALL: "all turns",
    "prompt_version": "prompt",
    "bedrock_model_id": "model",
    "intent": "intent",
    "routing_policy_version": "retrieval policy",
    "intent_model_version": "intent model",
    "tenant": "tenant",
    "team": "team",
}


def satisfaction_chart(report: SatisfactionReport) -> bytes:
    """Return a PNG; of each dimension the groups with the most ratings, at most six."""
    shown = [group for dimension in (OVERALL, *SATISFACTION_DIMENSIONS) for group in _largest(report, dimension)]
    figure, axes = canvas(len(shown), 0.27)
    for row, group in enumerate(shown):
        color = "#b3261e" if group.moved and (group.difference or 0) < 0 else "#1b7f3b" if group.moved else "#30507a"
        if group.satisfaction is not None and group.low is not None and group.high is not None:
            axes.plot([group.low, group.high], [row, row], color=color, linewidth=2, solid_capstyle="round")
            axes.plot([group.satisfaction], [row], "o", color=color, markersize=6)
        if group.satisfaction_before is not None:
            axes.plot([group.satisfaction_before], [row], "d", color="#9aa4b2", markersize=5, zorder=1)
        axes.text(1.02, row, f"{group.rated} of {group.turns}", va="center", fontsize=8)
        if row and shown[row - 1].dimension != group.dimension:
            axes.axhline(row - 0.5, color="#d6dbe2", linewidth=0.8)
    name_rows(axes, [_label(group) for group in shown])
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel(f"thumbs up of rated turns, {report.confidence:.0%} interval; at the right: rated of all turns")
    against = f", diamonds: {report.compared_with}" if report.compared_with else ""
    axes.set_title(f"Satisfaction of {report.release_bundle}{against}", fontsize=10, loc="left")
    return png(figure)


def _largest(report: SatisfactionReport, dimension: str) -> list[GroupSatisfaction]:
    if dimension != OVERALL and all(group.value is None for group in report.of(dimension)):
        return []
    return sorted(report.of(dimension), key=lambda group: (-group.rated, -group.turns, group.label))[:_GROUPS_SHOWN]


def _label(group: GroupSatisfaction) -> str:
    if group.dimension == OVERALL:
        return _TITLES[OVERALL]
    plain = printable(group.label)
    value = plain if len(plain) <= _LONGEST_LABEL else f"…{plain[1 - _LONGEST_LABEL :]}"
    return f"{_TITLES[group.dimension]}: {value}"
