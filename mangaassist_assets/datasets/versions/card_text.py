"""A data card as Markdown and as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mangaassist_assets.datasets.versions.data_card import DataCard

_SIDES = ("train", "validation", "test")
_COLORS = {"train": "#30507a", "validation": "#9aa4b2", "test": "#1b7f3b"}
_BARS_SHOWN = 40
_LONGEST_LABEL = 34
_YEAR_10000_MS = 253_402_300_800_000


def card_markdown(card: DataCard) -> str:
    """Return the card for a person: one screen of counts, then what was left out, then how to make it again."""
    lines = [
        f"# {card.kind.capitalize()} dataset {(card.version or card.digest)[:12]}",
        "",
        f"{card.examples} examples ({card.rows} rows) of {card.shoppers} known shoppers in {card.sessions} sessions"
        + (f", as of {card.as_of}" if card.as_of else "")
        + (f", nothing later than {moment(card.as_of_ms)}" if card.as_of_ms is not None else ""),
        "",
        f"Digest of the rows: `{card.digest}`",
        "",
        *_table("Split", {side: card.by_split[side] for side in _SIDES if side in card.by_split}),
        *_table("Label", card.by_label_kind),
        *_table("Source", card.by_source),
        *_table("Release bundle", card.by_bundle),
        *_table("Language by script", card.by_language),
        *_crossed("Intent", card.by_intent),
        *_crossed("Passages", card.by_negative_kind),
    ]
    if card.labellers:
        lines += [f"Different reviewers, judges or clusters that gave labels: {card.labellers}.", ""]
    lines += _table("Excluded because", card.excluded)
    lines += _table("Passage left out because", card.passages_left_out, unit="Passages")
    if card.conflicts:
        lines += ["| Labels contradict each other | Traces |", "|---|---|"]
        lines += [f"| {cell(' / '.join(one.answers))} | {cell(', '.join(one.trace_ids))} |" for one in card.conflicts]
        lines.append("")
    lines += _redaction(card)
    lines += [*(f"- {cell(note)}" for note in card.notes), ""] if card.notes else []
    lines += _origin(card)
    return "\n".join(lines).rstrip() + "\n"


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
    for side in _SIDES:
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
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return png(figure)


def moment(timestamp_ms: int) -> str:
    """Return milliseconds since the epoch as ISO 8601 in UTC; what no calendar has (a "never") as the number."""
    if not 0 <= timestamp_ms < _YEAR_10000_MS:
        return f"{timestamp_ms} ms since 1970"
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def cell(text: str) -> str:
    """Return a text as one cell of a Markdown table: no new column, no line break, no HTML."""
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return " ".join(escaped.split())


def _redaction(card: DataCard) -> Sequence[str]:
    report = card.redaction
    if report is None:
        return []
    kinds = ", ".join(f"{kind} {count}" for kind, count in report.placeholders.items()) or "none"
    again = ", ".join(f"{kind} {count}" for kind, count in report.found_again.items())
    changed = "was not counted" if report.changed is None else f"changed {report.changed}"
    basis = f"contract {report.contract_version}, vocabulary {report.vocabulary or 'none'}"
    second = f"the second pass {changed}{f' ({again})' if again else ''}"
    return [f"Redaction ({basis}): {report.texts} different texts; placeholders in them: {kinds}; {second}.", ""]


def _origin(card: DataCard) -> Sequence[str]:
    if not card.inputs:
        return []
    lines = [f"Made again by `mangaassist datasets rebuild {card.version[:12]}` from:", ""]
    lines += [f"- {cell(name)}: `{digest[:24]}`" for name, digest in card.inputs.items()]
    if card.settings:
        shown = (f"{cell(name)} {cell(json.dumps(value, sort_keys=True))}" for name, value in card.settings.items())
        lines += ["", f"Settings: {', '.join(shown)}"]
    return lines


def _table(title: str, counts: Mapping[str, int], *, unit: str = "Examples") -> list[str]:
    if not counts:
        return []
    return [f"| {title} | {unit} |", "|---|---:|", *(f"| {cell(key)} | {n} |" for key, n in counts.items()), ""]


def _crossed(title: str, counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    if not counts:
        return []
    lines = [f"| {title} | train | validation | test |", "|---|---:|---:|---:|"]
    for name, sides in counts.items():
        lines.append(f"| {cell(name)} | {' | '.join(str(sides.get(side, 0)) for side in _SIDES)} |")
    return [*lines, ""]


def _label(name: str) -> str:
    shown = name if len(name) <= _LONGEST_LABEL else f"{name[: _LONGEST_LABEL - 1]}…"
    # A dollar sign would start a formula.
    return " ".join(shown.split()).replace("$", r"\$")
