"""The data card: what a dataset version is made of, for people and for programs.

A card has counts and reasons, never a message; reading one needs no right to read the messages.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

import polars as pl

from mangaassist_assets.core.markdown import code, plain
from mangaassist_assets.core.text_keys import language_of
from mangaassist_assets.datasets.guards.redaction_pass import RedactionReport
from mangaassist_assets.datasets.schema import SPLITS
from mangaassist_assets.labelling.intent_labels import LabelConflict

CARD_SCHEMA = 3  # of the file and of its text
_BOOTSTRAP = "bootstrap"
_NO_NEGATIVE = "relevant"
_MISSED = "relevant, missed by the retriever"
_COLORS = {"train": "#30507a", "validation": "#9aa4b2", "test": "#1b7f3b"}
_BARS_SHOWN = 40
_LONGEST_LABEL = 34
_YEAR_10000_MS = 253_402_300_800_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What cannot be counted in the rows of a dataset: what was left out, and what it was built from.

    Attributes:
        kind: what an example is: `intent`, `ranking`, or what a further model pipeline calls its own.
        as_of: the release bundle it was made for.
        as_of_ms: nothing in it was written after this time (ms since the epoch).
        excluded: what did not get in: reason -> count of examples.
        passages_left_out: reason -> count of passages that are neither right nor wrong for their query.
        conflicts: labels that contradict each other.
        notes: sentences for the card.
        redaction: the report of the `RedactionPass` that the texts went through; without it the placeholders of the
            texts are counted.
        inputs: the digests of the stored snapshots it was built from, as `StepStore.inputs` gives them after
            everything was read through it; without them the version can be verified, but not rebuilt.
        settings: JSON values that decide the rows besides the inputs, such as caps and shares.
    """

    kind: str
    as_of: str | None = None
    as_of_ms: int | None = None
    excluded: Mapping[str, int] = field(default_factory=dict)
    passages_left_out: Mapping[str, int] = field(default_factory=dict)
    conflicts: tuple[LabelConflict, ...] = ()
    notes: tuple[str, ...] = ()
    redaction: RedactionReport | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCard(Provenance):
    """What a dataset version is made of. Counts are of examples, not rows: a ranking example has many rows.

    `by_origin` is empty in cards of before origins were kept.

    `digest` is of the rows alone: equal rows train equal models, so it is what runs and model versions carry. `version`
    names the version: the digest, the kind and `as_of_ms`, after which nothing in it was written.
    """

    digest: str
    version: str
    examples: int
    rows: int
    by_split: Mapping[str, int]
    by_label_kind: Mapping[str, int]
    by_source: Mapping[str, int]
    by_origin: Mapping[str, int] = field(default_factory=dict)
    by_intent: Mapping[str, Mapping[str, int]]
    by_bundle: Mapping[str, int]
    by_language: Mapping[str, int]
    by_negative_kind: Mapping[str, Mapping[str, int]]
    shoppers: int
    sessions: int
    labellers: int

    def to_json(self) -> bytes:
        """Return the card as indented JSON."""
        content = {"schema": CARD_SCHEMA, **asdict(self)}
        return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()

    @staticmethod
    def from_json(content: bytes) -> DataCard:
        """Return a stored card.

        Raises:
            ValueError: this is no data card.
        """
        from pydantic import TypeAdapter

        fields = {name: value for name, value in json.loads(content).items() if name != "schema"}
        return TypeAdapter(DataCard).validate_python(fields)

    def to_markdown(self) -> str:
        """Return the card for a person."""
        return _markdown(self)


def describe(
    frame: pl.DataFrame, provenance: Provenance, *, digest: str, version: str, base_source: str = "corpus"
) -> DataCard:
    """Count the rows of a dataset.

    Args:
        frame: at least example_id, split, label_kind, release_bundle and user_key; other columns are counted where
            there are any.
        provenance: what cannot be counted.
        digest: of the rows.
        version: the name of the version.
        base_source: where examples come from that no trace stands behind.
    """
    examples = frame.unique(subset="example_id", keep="first", maintain_order=True)
    traces = pl.lit(None, pl.String) if "source_trace_id" not in frame.columns else pl.col("source_trace_id")
    sources = examples.select(pl.when(traces.is_null()).then(pl.lit(base_source)).otherwise(pl.lit("traces")))
    messages = next((examples[name] for name in ("text", "query") if name in examples.columns), ())
    missed = pl.col("first_stage_rank").is_null() if "first_stage_rank" in frame.columns else pl.lit(value=False)
    answers = pl.when(missed).then(pl.lit(_MISSED)).otherwise(pl.lit(_NO_NEGATIVE))
    negatives = frame.with_columns(pl.col("^negative_kind$").fill_null(answers))
    known = {
        **{one.name: getattr(provenance, one.name) for one in fields(Provenance)},
        "excluded": _counted(provenance.excluded),
        "passages_left_out": _counted(provenance.passages_left_out),
        "inputs": dict(sorted(provenance.inputs.items())),
        "settings": dict(sorted(provenance.settings.items())),
        "redaction": provenance.redaction or RedactionReport.of_texts(_texts(frame)),
    }
    return DataCard(
        **known,
        digest=digest,
        version=version,
        examples=len(examples),
        rows=len(frame),
        by_split=counts_of(examples["split"]),
        by_label_kind=counts_of(examples["label_kind"]),
        by_source=counts_of(sources.to_series()),
        by_origin=counts_of(examples["origin"].fill_null("unknown")) if "origin" in examples.columns else {},
        by_intent=_crossed(examples, "intent"),
        by_bundle=counts_of(examples["release_bundle"].fill_null(_BOOTSTRAP)),
        by_language=dict(sorted(Counter(map(language_of, messages)).items())),
        by_negative_kind=_crossed(negatives, "negative_kind"),
        shoppers=_distinct(examples, "user_key"),
        sessions=_distinct(examples, "session_id"),
        labellers=_distinct(examples, "labeller"),
    )


def _counted(reasons: Mapping[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in sorted(reasons.items()) if count}


def counts_of(values: pl.Series) -> dict[str, int]:
    """Return how often each value occurs, by value."""
    return {str(value): int(count) for value, count in sorted(values.value_counts().iter_rows())}


def _crossed(frame: pl.DataFrame, column: str) -> dict[str, dict[str, int]]:
    """Return value of a column -> side -> count."""
    found: dict[str, dict[str, int]] = {}
    if column not in frame.columns:
        return found
    for value, split, count in frame.group_by(column, "split").len().sort(column, "split").iter_rows():
        found.setdefault(value, {})[split] = int(count)
    return found


def _distinct(frame: pl.DataFrame, column: str) -> int:
    return frame[column].drop_nulls().n_unique() if column in frame.columns else 0


def _texts(frame: pl.DataFrame) -> Iterable[str]:
    for column in ("text", "query", "passage"):
        if column in frame.columns:
            yield from frame[column].unique().sort().to_list()


def _markdown(card: DataCard) -> str:
    lines = [
        f"# {plain(card.kind.capitalize())} dataset {plain(card.version[:12])}",
        "",
        f"{card.examples} examples ({card.rows} rows) of {card.shoppers} known shoppers in {card.sessions} sessions"
        + (f", as of {plain(card.as_of)}" if card.as_of else "")
        + (f", nothing later than {moment(card.as_of_ms)}" if card.as_of_ms is not None else ""),
        "",
        f"Digest of the rows: {code(card.digest)}",
        "",
        *_count_table("Split", {side: card.by_split[side] for side in SPLITS if side in card.by_split}),
        *_count_table("Label", card.by_label_kind),
        *_count_table("Source", card.by_source),
        *_count_table("Reviewed because of", card.by_origin),
        *_count_table("Release bundle", card.by_bundle),
        *_count_table("Language by script", card.by_language),
        *_side_table("Intent", card.by_intent),
        *_side_table("Passages", card.by_negative_kind),
    ]
    if card.labellers:
        lines += [f"Different reviewers, judges or clusters that gave labels: {card.labellers}.", ""]
    lines += _count_table("Excluded because", card.excluded)
    lines += _count_table("Passage left out because", card.passages_left_out, unit="Passages")
    if card.conflicts:
        lines += ["| Labels contradict each other | Traces |", "|---|---|"]
        lines += [f"| {plain(' / '.join(one.answers))} | {plain(', '.join(one.trace_ids))} |" for one in card.conflicts]
        lines.append("")
    lines += _redaction(card)
    lines += [*(f"- {plain(note)}" for note in card.notes), ""] if card.notes else []
    lines += _origin(card)
    return "\n".join(lines).rstrip() + "\n"


def _redaction(card: DataCard) -> Sequence[str]:
    report = card.redaction
    if report is None:
        return []
    kinds = ", ".join(f"{plain(kind)} {count}" for kind, count in report.placeholders.items()) or "none"
    again = ", ".join(f"{plain(kind)} {count}" for kind, count in report.found_again.items())
    changed = "was not counted" if report.changed is None else f"changed {report.changed}"
    basis = f"contract {plain(str(report.contract_version))}, vocabulary {plain(report.vocabulary or 'none')}"
    second = f"the second pass {changed}{f' ({again})' if again else ''}"
    return [f"Redaction ({basis}): {report.texts} different texts; placeholders in them: {kinds}; {second}.", ""]


def _origin(card: DataCard) -> Sequence[str]:
    if not card.inputs:
        return []
    lines = [f"Made again by {code(f'mangaassist datasets rebuild {card.version[:12]}')} from:", ""]
    lines += [f"- {plain(name)}: {code(digest[:24])}" for name, digest in card.inputs.items()]
    if card.settings:
        shown = (f"{plain(name)} {plain(json.dumps(value, sort_keys=True))}" for name, value in card.settings.items())
        lines += ["", f"Settings: {', '.join(shown)}"]
    return lines


def moment(timestamp_ms: int) -> str:
    """Return milliseconds since the epoch as ISO 8601 in UTC; what no calendar has (a "never") as the number."""
    if not 0 <= timestamp_ms < _YEAR_10000_MS:
        return f"{timestamp_ms} ms since 1970"
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _count_table(title: str, counts: Mapping[str, int], *, unit: str = "Examples") -> list[str]:
    if not counts:
        return []
    return [f"| {title} | {unit} |", "|---|---:|", *(f"| {plain(key)} | {n} |" for key, n in counts.items()), ""]


def _side_table(title: str, counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    if not counts:
        return []
    lines = [f"| {title} | train | validation | test |", "|---|---:|---:|---:|"]
    for name, sides in counts.items():
        lines.append(f"| {plain(name)} | {' | '.join(str(sides.get(side, 0)) for side in SPLITS)} |")
    return [*lines, ""]


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
