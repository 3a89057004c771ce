"""What the charts of reports share: one row a group, named at the left, the largest or first at the top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mangaassist_assets.core.plotting import name_fonts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def canvas(rows: int, row_height: float) -> tuple[Figure, Axes]:
    """Return a figure that has room for some rows, each `row_height` inches high."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.25 + row_height * max(1, rows)), layout="constrained", dpi=80)
    return figure, figure.subplots()


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows from the top, and draw the grid of their values; a dollar sign would start a formula."""
    escaped = [name.replace("$", r"\$") for name in names]
    axes.set_yticks(range(len(names)), escaped, fontsize=8, fontfamily=name_fonts())
    axes.set_ylim(max(1, len(names)) - 0.5, -0.5)
    axes.grid(axis="x", color="#e8ebef")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
