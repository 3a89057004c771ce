"""The counts of a data card as a picture."""

from __future__ import annotations

from mangaassist_assets.datasets.schema import SPLITS
from mangaassist_assets.datasets.versions.data_card import DataCard

_COLORS = {"train": "#30507a", "validation": "#9aa4b2", "test": "#1b7f3b"}
_BARS_SHOWN = 40
_LONGEST_LABEL = 34


def counts_chart(card: DataCard) -> bytes:
    """Return a PNG of bars by side: examples of the largest intents, or passages of a ranking dataset by kind."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from mangaassist_assets.core.plotting import png

    counts = card.by_intent or card.by_negative_kind
    names = sorted(counts, key=lambda name: (-sum(counts[name].values()), name))[:_BARS_SHOWN]
    figure = Figure(figsize=(8, 1.2 + 0.24 * max(1, len(names))), layout="constrained", dpi=80)
    axes = figure.subplots()
    left = [0] * len(names)
    for side in SPLITS:
        widths = [counts[name].get(side, 0) for name in names]
        axes.barh(range(len(names)), widths, left=left, color=_COLORS[side], label=side, height=0.7)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for row, total in enumerate(left):
        axes.text(total, row, f" {total}", va="center", fontsize=8)
    axes.set_yticks(range(len(names)), [_label(name) for name in names], fontsize=8)
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("examples" if card.by_intent else "passages")
    hidden = f" (the {_BARS_SHOWN} largest of {len(counts)})" if len(counts) > _BARS_SHOWN else ""
    axes.set_title(f"{card.kind.capitalize()} dataset {card.version[:12]}{hidden}", fontsize=10, loc="left")
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    for spine in ("top", "right"):
        axes.spines[spine].set_visible(False)
    return png(figure)


def _label(name: str) -> str:
    shown = name if len(name) <= _LONGEST_LABEL else f"{name[: _LONGEST_LABEL - 1]}…"
    # A dollar sign would start a formula.
    return " ".join(shown.split()).replace("$", r"\$")
