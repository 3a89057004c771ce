"""The map of a bundle's messages as a picture: the largest groups coloured and named, the rest grey, noise crossed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mangaassist_assets.core.plotting import name_fonts, png
from mangaassist_assets.mining.clustering.communities import Labels
from mangaassist_assets.mining.clustering.layout import Points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LONGEST_NAME = 34
# Ten hues that are told apart on white (Tableau's, in their darker order), then nothing: an eleventh would be a guess.
_COLOURS = (
    "#1f5fa8", "#c8501e", "#2b8a3e", "#b3261e", "#7048a8", "#8a5a44", "#d0469b", "#7f7a1c", "#128a99", "#e0a100",
)  # fmt: skip
_MARK = "name: "  # keeps a name from being a label with a meaning of its own while the chart is made
_GREY = "#b4bcc8"
_NOISE = "#79818c"


def cluster_map(
    points: Points,
    groups: Labels,
    names: Mapping[int, str],
    *,
    noise: frozenset[int] = frozenset(),
    title: str = "Failed messages",
) -> bytes:
    """Return a PNG.

    Args:
        points: places of the messages, float32 of shape (n, 2), as `map_points` returns them.
        groups: the group of each message.
        names: of groups; one without a name is shown by its number. They may come from messages, so they are shown
            as they are, never read as markup.
        noise: groups that are drawn as crosses and never named.
        title: the first line.

    Raises:
        ValueError: there is not one finite point and one group a message.
    """
    from matplotlib.figure import Figure

    places, labels = np.asarray(points), np.asarray(groups)
    if places.shape != (len(labels), 2) or not np.isfinite(places).all():
        raise ValueError(f"{len(labels)} grouped messages need as many finite points, not shape {places.shape}")
    sizes = {int(group): int(size) for group, size in zip(*np.unique(labels, return_counts=True), strict=True)}
    shown = sorted((group for group in sizes if group not in noise), key=lambda group: (-sizes[group], group))
    figure = Figure(figsize=(10, 6), layout="constrained", dpi=90)
    axes = figure.subplots()
    dot = float(np.clip(4000 / max(1, len(labels)), 3, 40))
    crossed = np.isin(labels, sorted(noise))
    named = shown[: len(_COLOURS)]
    grey = ~crossed & ~np.isin(labels, named)
    if crossed.any():
        label = f"noise ({_counted(int(crossed.sum()), sum(group in noise for group in sizes))})"
        axes.scatter(
            places[crossed, 0], places[crossed, 1], s=dot, c=_NOISE, marker="x", linewidths=0.7, label=label, zorder=1
        )
    if grey.any():
        label = f"the rest ({_counted(int(grey.sum()), len(shown) - len(named))})"
        x, y = places[grey].T
        axes.scatter(x, y, s=dot, c=_GREY, linewidths=0, label=label, zorder=2)
    for group, colour in zip(named, _COLOURS, strict=False):
        label = f"{_MARK}{_one_line(names.get(group) or f'group {group}')} ({sizes[group]:,})"
        x, y = places[labels == group].T
        axes.scatter(x, y, s=dot, c=colour, linewidths=0, alpha=0.85, label=label, zorder=3)
    _decorate(axes, title, named=len(named))
    return png(figure)


def _decorate(axes: Axes, title: str, *, named: int) -> None:
    from matplotlib.collections import PathCollection

    fonts = name_fonts()
    heading = axes.set_title(_one_line(title, longest=100), fontsize=11, loc="left", fontfamily=fonts)
    heading.set_parse_math(False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", adjustable="datalim")
    for side in axes.spines.values():
        side.set_color("#d6dbe2")
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        axes.text(0.5, 0.5, "no messages", transform=axes.transAxes, ha="center", va="center", color=_NOISE)
        return
    # Named groups first; what was drawn below them comes last.
    others = len(handles) - named
    places = [*range(others, len(handles)), *reversed(range(others))]
    legend = axes.legend(
        [handles[place] for place in places],
        [f"{place}" for place in places],
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0,
        frameon=False,
        fontsize=8,
    )
    # Set afterwards: a legend leaves out what begins with an underscore, and would read a dollar sign as a formula.
    for text, place in zip(legend.get_texts(), places, strict=True):
        text.set_parse_math(False)
        text.set_fontfamily(fonts)
        text.set_text(labels[place].removeprefix(_MARK))
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([30])


def _counted(messages: int, groups: int) -> str:
    return f"{messages:,} in {groups:,} {'group' if groups == 1 else 'groups'}"


def _one_line(name: str, *, longest: int = _LONGEST_NAME) -> str:
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split()) or "(no name)"
    return line if len(line) <= longest else f"{line[: longest - 1].rstrip()}…"
