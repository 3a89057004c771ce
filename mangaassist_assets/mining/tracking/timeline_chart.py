"""The history of failure clusters as a picture: one row a cluster, one column a bundle.

The area of a dot is the cluster's share of all turns; red is growing. Lines join the bundles a cluster lives on in. A
small green dot before it is a birth, a hollow one a return, a cross after it a death, a dash an end without evidence; a
curve from one row to another is a merge (violet) or a split (orange).
"""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from mangaassist_assets.core.plotting import name_fonts, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mangaassist_assets.mining.tracking.timeline import Timeline, TimelineEntry

_LONGEST_NAME = 38
_LONGEST_BUNDLE = 18
_LARGEST_DOT = 260.0
_STEADY, _GROWING, _SHRINKING = "#30507a", "#b3261e", "#8fa3bf"
_BORN, _MERGED, _SPLIT, _EDGE = "#1b7f3b", "#7b3fa0", "#d1760f", "#1f2933"
_MARKS = (
    ("steady", _STEADY),
    ("growing", _GROWING),
    ("shrinking", _SHRINKING),
    ("birth", _BORN),
    ("merge", _MERGED),
    ("split", _SPLIT),
    ("death", _EDGE),
)


def timeline_chart(timeline: Timeline, *, clusters: int = 20, bundles: int = 12) -> bytes:
    """Return a PNG of the newest `bundles` and of the `clusters` with the largest share in any of them.

    Of equally large ones the one seen last stands first. Rows are ordered by first appearance, then by size.
    """
    from matplotlib.figure import Figure

    first = max(0, len(timeline.bundles) - bundles)
    entries = [entry for entry in timeline.entries if entry.order >= first]
    history: defaultdict[str, dict[int, TimelineEntry]] = defaultdict(dict)
    for entry in entries:
        history[entry.cluster_id][entry.order] = entry
    rows = _rows(history, clusters)
    largest = max((entry.share for entry in entries if entry.cluster_id in rows), default=1.0)

    shown = len(timeline.bundles) - first
    size = (min(14.0, max(7.5, 4.2 + 0.95 * shown)), 1.6 + 0.36 * max(2, len(rows)))
    figure = Figure(figsize=size, layout="constrained", dpi=80)
    axes = figure.subplots()
    for identity, row in rows.items():
        _draw_cluster(axes, history[identity], row, largest)
    _draw_events(axes, timeline, rows, first)
    axes.set_yticks(list(rows.values()), [_label(history[identity]) for identity in rows], fontsize=7)
    for label in axes.get_yticklabels():
        label.set_fontfamily(name_fonts())
    axes.set_ylim(max(1, len(rows)) - 0.4, -0.7)
    ticks = range(first, len(timeline.bundles))
    labels = [_plain(timeline.bundles[place], _LONGEST_BUNDLE) for place in ticks]
    axes.set_xticks(
        list(ticks), labels, fontsize=8, rotation=30 if shown > 4 else 0, ha="right" if shown > 4 else "center"
    )
    axes.set_xlim(first - 0.5, len(timeline.bundles) - 0.5 if shown else first + 0.5)
    axes.grid(axis="y", color="#eef1f4")
    axes.set_axisbelow(True)
    axes.set_title(_title(len(rows), len(history), largest if rows else 0.0), fontsize=10, loc="left")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    _legend(figure)
    return png(figure)


def _rows(history: dict[str, dict[int, TimelineEntry]], clusters: int) -> dict[str, int]:
    def importance(identity: str) -> tuple[float, int, str]:
        seen = history[identity]
        return (-round(max(entry.share for entry in seen.values()), 9), -max(seen), identity)

    chosen = sorted(history, key=importance)[:clusters]
    ordered = sorted(chosen, key=lambda identity: (min(history[identity]), importance(identity)))
    return {identity: row for row, identity in enumerate(ordered)}


def _draw_cluster(axes: Axes, seen: dict[int, TimelineEntry], row: int, largest: float) -> None:
    orders = sorted(seen)
    for earlier, later in pairwise(orders):
        # A gap is a return: the cluster was not seen in between.
        style = "-" if later == earlier + 1 else ":"
        axes.plot([earlier, later], [row, row], style, color="#9aa4b2", linewidth=1.6, zorder=1)
    areas = [max(12.0, _LARGEST_DOT * seen[order].share / largest) for order in orders]
    colors = [_color(seen[order].verdict) for order in orders]
    axes.scatter(orders, [row] * len(orders), s=areas, c=colors, zorder=3, linewidths=0)
    for order, area in zip(orders, areas, strict=True):
        above = (0, 2 + math.sqrt(area) / 2)
        axes.annotate(
            str(seen[order].size), (order, row), xytext=above, textcoords="offset points", fontsize=6,
            ha="center", color="#52606d", zorder=5,
        )  # fmt: skip


def _draw_events(axes: Axes, timeline: Timeline, rows: dict[str, int], first: int) -> None:
    for event in timeline.events:
        if event.order <= first:
            continue
        if event.kind in {"birth", "return"}:
            for identity in (identity for identity in event.cluster_ids if identity in rows):
                face = _BORN if event.kind == "birth" else "white"
                axes.plot([event.order - 0.22], [rows[identity]], "o", color=_BORN, mfc=face, markersize=5, zorder=4)
        elif event.kind in {"death", "unseen"}:
            for identity in (identity for identity in event.previous_ids if identity in rows):
                mark, color = ("x", _EDGE) if event.kind == "death" else ("_", "#9aa4b2")
                axes.plot([event.order - 0.72], [rows[identity]], mark, color=color, markersize=7, mew=1.8, zorder=4)
        else:
            color = {"merge": _MERGED, "split": _SPLIT}.get(event.kind, "#9aa4b2")
            for previous in event.previous_ids:
                for identity in event.cluster_ids:
                    if previous != identity and previous in rows and identity in rows:
                        _draw_curve(axes, event.order, rows[previous], rows[identity], color)


def _draw_curve(axes: Axes, order: int, start: int, end: int, color: str) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    middle = order - 0.5
    path = Path(
        [(order - 1, start), (middle, start), (middle, end), (order, end)],
        [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4],
    )
    axes.add_patch(
        FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=9, color=color, linewidth=1.5, shrinkB=5, zorder=2)
    )


def _legend(figure: object) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], marker="x" if "death" in name else "o", linestyle="", color=color, markersize=5, label=name)
        if name not in {"merge", "split"}
        else Line2D([], [], color=color, linewidth=1.6, label=name)
        for name, color in _MARKS
    ]
    figure.legend(  # type: ignore[attr-defined]
        handles=handles, loc="outside lower center", ncols=len(handles), fontsize=7, frameon=False, handletextpad=0.4
    )


def _title(shown: int, known: int, largest: float) -> str:
    if not shown:
        return "No failure clusters yet"
    of = f"the {shown} largest of {known}" if shown < known else f"{known}"
    return f"Failure clusters: {of}\nsize at each dot; the largest dot is {largest:.1%} of a bundle's turns"


def _color(verdict: str) -> str:
    return {"growing": _GROWING, "shrinking": _SHRINKING}.get(verdict, _STEADY)


def _label(seen: dict[int, TimelineEntry]) -> str:
    newest = seen[max(seen)]
    return f"{_plain(newest.name, _LONGEST_NAME)} · {_plain(newest.stage, 14)}\n{_plain(newest.cluster_id, 20)}"


def _plain(text: str, longest: int) -> str:
    """Return one printable line; a dollar sign would start a formula."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    cut = line if len(line) <= longest else f"{line[: longest - 1]}…"
    return cut.replace("$", r"\$")
