"""What a training and its validation look like: confusions, reliability, learning curve, scores in and out of scope.

Names of intents come from data: they are shown as they are, never read as markup or formulas.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.core.intervals import wilson_interval
from mangaassist_assets.core.plotting import name_fonts, png
from mangaassist_assets.evaluation.metrics import Reliability, check_parallel, reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mangaassist_assets.models.intent.results import ValidationOutcome
    from mangaassist_assets.training.objective import EpochRecord

_BLUE, _GREEN, _RED, _GREY, _LINE = "#30507a", "#1b7f3b", "#b3261e", "#9aa4b2", "#e8ebef"
_HUES = ("#1f5fa8", "#c8501e", "#2b8a3e", "#7048a8", "#128a99", "#8a5a44")
_LONGEST_NAME = 26
_MOST_INTENTS = 25
_OTHERS = "all others"
_STEPS_DRAWN = 2_000


def intent_charts(
    validation: ValidationOutcome | None,
    history: Sequence[EpochRecord],
    *,
    threshold: float | None,
    kept_epoch: int | None = None,
    step_losses: Sequence[float] = (),
) -> dict[str, bytes]:
    """Return PNG files by name; what there is nothing to draw of is left out.

    `threshold` is None for a model that answers everything.
    """
    charts: dict[str, bytes] = {}
    if history:
        charts["learning_curve.png"] = learning_curve_chart(history, step_losses=step_losses, kept=kept_epoch)
    if validation is None:
        return charts
    if len(validation.targets):
        charts["confusion.png"] = confusion_chart(validation.truth, validation.predictions)
        charts["reliability.png"] = reliability_chart(
            reliability(validation.confidences(calibrated=False), validation.right),
            reliability(validation.confidences(), validation.right),
        )
    if len(validation.targets) or len(validation.out_of_scope_logits):
        charts["scope.png"] = scope_chart(validation.scope_scores, validation.out_of_scope_scores, threshold=threshold)
    return charts


def confusion_chart(truth: Sequence[str], predictions: Sequence[str]) -> bytes:
    """Return a PNG of the 25 intents that are confused most, the rest pooled in one row and column.

    A cell is the share of a right intent's messages, so that small intents count as much as large ones; the number in
    it is the count. Rows are right intents with their support, columns the model's answers.

    Raises:
        ValueError: No messages, or sequences of different lengths.
    """
    from matplotlib.figure import Figure

    check_parallel(truth=truth, predictions=predictions)
    counts, names = _confused(truth, predictions, _MOST_INTENTS)
    support = counts.sum(axis=1)
    shares = counts / np.maximum(1, support[:, None])
    side = max(3.6, 0.3 * len(names))
    figure = Figure(figsize=(side + 2.8, side + 2.0), layout="constrained", dpi=90)
    axes = figure.subplots()
    # Right answers are the background: what they are coloured by would drown the confusions.
    wrong = np.where(np.eye(len(names), dtype=bool) | (counts == 0), np.nan, shares)
    highest = max(float(np.nanmax(wrong)) if np.isfinite(wrong).any() else 0.0, 0.05)
    axes.imshow(wrong, cmap="Reds", vmin=0, vmax=highest)
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = _GREEN if row == column else "white" if shares[row, column] > 0.6 * highest else "#202124"
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=6.5, color=colour)
    places, shown = range(len(names)), [_shown(name) for name in names]
    axes.set_xticks(places, shown, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, [f"{name} ({count:,})" for name, count in zip(shown, support, strict=True)])
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_fontfamily(name_fonts())
        label.set_fontsize(7)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=_LINE, linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("the model's answer", fontsize=8)
    axes.set_ylabel("right intent (messages)", fontsize=8)
    hits = sum(one == other for one, other in zip(truth, predictions, strict=True))
    hidden = len({*truth, *predictions}) - len(names) + (_OTHERS in names)
    pooled = f", {hidden} intents pooled" if hidden > 0 else ""
    _title(axes, f"Confusions on validation: {hits:,} of {len(truth):,} right{pooled}")
    return png(figure)


def reliability_chart(before: Reliability, after: Reliability) -> bytes:
    """Return a PNG: confidence against accuracy with 95 % intervals, before and after the temperature; bin sizes."""
    from matplotlib.figure import Figure

    shown = (("before temperature", before, _GREY), ("after temperature", after, _BLUE))
    figure = Figure(figsize=(6.4, 5.6), layout="constrained", dpi=90)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle="--", label="perfectly calibrated")
    for number, (name, one, colour) in enumerate(shown):
        filled = [item for item in one.bins if item.count]
        axes.plot(
            [item.confidence for item in filled], [item.accuracy for item in filled], color=colour, linewidth=1.6,
            marker="o", markersize=4.5, label=f"{name}: ECE {one.expected_calibration_error:.3f}", zorder=3 + number,
        )  # fmt: skip
        width = 1 / len(one.bins) / len(shown)
        below.bar(
            [item.low + (number + 0.5) * width for item in one.bins], [item.count for item in one.bins],
            width=width * 0.9, color=colour,
        )  # fmt: skip
    for item in after.bins:
        sure = wilson_interval(round(item.accuracy * item.count), item.count)
        if sure is not None:
            axes.plot([item.confidence] * 2, [sure.low, sure.high], color=_BLUE, linewidth=1, alpha=0.45)
            middle = item.high - (item.high - item.low) / len(shown) / 2
            below.text(middle, item.count * 1.15, f"{item.count:,}", ha="center", va="bottom", fontsize=6, color=_BLUE)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.04, 1.04)
    axes.set_ylabel("share of right answers", fontsize=8)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    below.set_yscale("symlog", linthresh=10)
    below.set_ylim(0, 5 * max(item.count for _, one, _ in shown for item in one.bins))
    below.set_ylabel("answers", fontsize=8)
    below.set_xlabel("stated confidence", fontsize=8)
    errors = f"ECE {before.expected_calibration_error:.3f} → {after.expected_calibration_error:.3f}"
    _title(axes, f"Reliability on validation: {errors}, {after.count:,} answers, {after.accuracy:.1%} right")
    _plain(axes, below)
    return png(figure)


def learning_curve_chart(
    history: Sequence[EpochRecord], *, step_losses: Sequence[float] = (), kept: int | None = None
) -> bytes:
    """Return a PNG by epoch: losses above, the other validation figures below.

    `step_losses` are drawn instead of the epochs' means; `kept` marks the epoch whose weights were kept. NaN leaves a
    gap.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = sorted({name for record in history for name in record.validation})
    losses, scores = ([name for name in names if ("loss" in name) == loss] for loss in (True, False))
    training = [(float(record.epoch), record.training_loss) for record in history]
    if step_losses:
        last = max((record.epoch for record in history), default=1)
        training = [((place + 1) * last / len(step_losses), loss) for place, loss in enumerate(step_losses)]
    figure = Figure(figsize=(7.2, 4.8 if scores else 3.2), layout="constrained", dpi=90)
    panels = figure.subplots(2 if scores else 1, 1, sharex=True, squeeze=False)[:, 0]
    # A curve of every step is drawn thin: what one looks for is its trend.
    steps = len(training) > 60
    _curve(panels[0], training, "training loss", _BLUE, marker=None if steps else "o", width=0.8 if steps else 1.6)
    for panel, drawn, hues in ((panels[0], losses, _HUES[1:]), (panels[-1], scores, _HUES)):
        for name, colour in zip(drawn, cycle(hues), strict=False):
            points = [(record.epoch, record.validation[name]) for record in history if name in record.validation]
            _curve(panel, points, " ".join(name.replace("_", " ").split()), colour)
    panels[0].set_ylabel("loss", fontsize=8)
    if scores:
        panels[-1].set_ylabel("validation", fontsize=8)
    if not training:
        panels[0].text(0.5, 0.5, "nothing was trained step by step", transform=panels[0].transAxes, ha="center")
    for panel in panels:
        if kept is not None:
            panel.axvline(kept, color=_GREEN, linewidth=1, linestyle="--")
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize=8, frameon=False, loc="best")
        panel.margins(x=0.02)
    panels[-1].set_xlabel("epoch", fontsize=8)
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    _title(panels[0], "Learning curve" if kept is None else f"Learning curve, kept: epoch {kept}")
    _plain(*panels)
    return png(figure)


def scope_chart(
    in_scope: Sequence[float] | Floats, out_of_scope: Sequence[float] | Floats, *, threshold: float | None
) -> bytes:
    """Return a PNG of two histograms of scope scores with the threshold: what lies left of it is refused.

    Higher scores are surer. `threshold` is None for a model that answers everything.

    Raises:
        ValueError: A score is not finite.
    """
    from matplotlib.figure import Figure

    known, strange = np.asarray(in_scope, dtype=np.float64), np.asarray(out_of_scope, dtype=np.float64)
    ends = np.concatenate([known, strange, [] if threshold is None else [threshold]])
    if not np.isfinite(ends).all():
        raise ValueError("scope scores must be finite numbers")
    figure = Figure(figsize=(7.2, 3.6), layout="constrained", dpi=90)
    axes = figure.subplots()
    low, high = (float(ends.min()), float(ends.max())) if len(ends) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, 41).tolist()
    for name, values, colour in (("in scope", known, _BLUE), ("out of scope", strange, _RED)):
        if not len(values):
            continue
        label = f"{name} ({len(values):,})"
        if threshold is not None:
            label += f": {float((values < threshold).mean()):.1%} refused"
        axes.hist(
            values, bins=edges, weights=np.full(len(values), 1 / len(values)), color=colour, alpha=0.55, label=label
        )
    refused = "no threshold: every message is answered"
    if threshold is not None:
        refused = f"refused below {threshold:.3f}"
        axes.axvline(threshold, color="#202124", linewidth=1.2)
        axes.annotate(f" {threshold:.3f}", (threshold, 1), xycoords=("data", "axes fraction"), va="top", fontsize=8)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_ylabel("share of messages", fontsize=8)
    axes.set_xlabel("scope score", fontsize=8)
    if len(known) or len(strange):
        axes.legend(fontsize=8, frameon=False, loc="best")
    else:
        axes.text(0.5, 0.5, "no messages", transform=axes.transAxes, ha="center", color=_GREY)
    _title(axes, f"In and out of scope: {refused}")
    _plain(axes)
    return png(figure)


def _confused(truth: Sequence[str], predictions: Sequence[str], largest: int) -> tuple[NDArray[np.int64], list[str]]:
    """Return the counts, shape (shown, shown), and the names: those in most wrong pairs, by name, the rest pooled."""
    pairs = Counter(zip(truth, predictions, strict=True))
    involved: Counter[str] = Counter()
    for (right, answered), count in pairs.items():
        involved[right] += count * (right != answered)
        involved[answered] += count * (right != answered)
    shown = sorted(sorted(involved, key=lambda name: (-involved[name], name))[:largest])
    names = shown if len(shown) == len(involved) else [*shown, _OTHERS]
    places = {name: place for place, name in enumerate(shown)}
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    for (right, answered), count in pairs.items():
        counts[places.get(right, len(shown)), places.get(answered, len(shown))] += count
    return counts, names


def _curve(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    label: str,
    colour: str,
    *,
    marker: str | None = "o",
    width: float = 1.6,
) -> None:
    if not points:
        return
    values = np.array(sorted(points), dtype=np.float64)
    values[~np.isfinite(values[:, 1]), 1] = np.nan
    x, y = values[:: max(1, len(values) // _STEPS_DRAWN)].T
    axes.plot(x, y, color=colour, linewidth=width, marker=marker, markersize=4, label=label)


def _shown(name: str) -> str:
    """Return a name that comes from data as one short line that is no formula."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split()) or "(no name)"
    short = line if len(line) <= _LONGEST_NAME else f"{line[: _LONGEST_NAME - 1].rstrip()}…"
    return short.replace("$", r"\$")


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=10, loc="left").set_parse_math(False)


def _plain(*panels: Axes) -> None:
    for axes in panels:
        axes.tick_params(labelsize=8)
        axes.grid(color=_LINE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
