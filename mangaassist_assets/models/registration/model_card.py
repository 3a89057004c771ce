"""The model card: what a model is for, what it learned from, how good it is and where it is not.

The sections are those of Mitchell et al., "Model Cards for Model Reporting" (2019), as the Hugging Face hub orders
them. A card counts and names, it never shows a message: whoever reads one needs no right to read what shoppers wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mangaassist_assets.datasets.versions.data_card import cell
from mangaassist_assets.models.encoders.pretrained import PACKAGED_MINILM

if TYPE_CHECKING:
    from mangaassist_assets.datasets.versions.data_card import DataCard
    from mangaassist_assets.models.model_types import TrainedArtifact

INTENT_TABLE = "validation_intents"
"""The table of a trained artifact that the card shows: rows of `intent_report.intent_rows`."""

_ROWS_SHOWN = 40
_LONGEST_VALUE = 400
_LIMITS_SHOWN = 8
_PATH = re.compile(r"[/~\\]|[A-Za-z]:[/\\]|file:")
_UNKNOWN_LICENCE = "unknown to this platform: see the base model's own card before the model leaves the company"
LICENCES: Mapping[str, str] = {
    PACKAGED_MINILM: "Apache-2.0 (all-MiniLM-L6-v2, sentence-transformers)",
    "distilbert-base-uncased": "Apache-2.0",
    "distilbert/distilbert-base-uncased": "Apache-2.0",
    "sentence-transformers/all-MiniLM-L6-v2": "Apache-2.0",
    "cross-encoder/ms-marco-MiniLM-L6-v2": "Apache-2.0",
}
"""Licences of the base models that this platform names, by the name in the settings."""

_SUMMARIES = {
    "intent_classifier": "Recognises what a shopper's message wants: one of the store's intents, or none.",
    "reranker": "Orders the passages that retrieval found for a shopper's question by how well they answer it.",
}
_USES = {
    "intent_classifier": (
        "Routes messages of the manga store's chatbot, in the languages that its training data has. Not for any other "
        "shop's intents, not for judging people, not as the only protection from what is dangerous or private."
    ),
    "reranker": (
        "Chooses what the chatbot's answer is built from, among passages of this store's knowledge. Its scores order "
        "the passages of one question; they do not compare questions, and are no proof that an answer is right."
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """What a model learned from, in numbers: counts are of examples."""

    name: str
    version: str
    digest: str
    as_of: str | None
    by_split: Mapping[str, int]
    by_label_kind: Mapping[str, int]
    by_source: Mapping[str, int]
    by_language: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, card: DataCard) -> TrainingData:
        """Return what a dataset's card says that a model's should."""
        return cls(
            name=name,
            version=card.version,
            digest=card.digest,
            as_of=card.as_of,
            by_split=card.by_split,
            by_label_kind=card.by_label_kind,
            by_source=card.by_source,
            by_language=card.by_language,
            notes=card.notes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One trained model.

    Attributes:
        name: Of the registered model.
        kind: Of the artifact.
        digest: Of the artifact.
        data: What it learned from.
        base_model: What pretraining it starts from.
        started_from: Where this training began: the base model's name or a champion's digest.
        kept: Which candidate was kept.
        release_bundle: Whose traffic it learned from, None for a first champion.
        settings: All that decided the weights besides the data: JSON values.
        metrics: Figures on validation, calibration and out of scope among them.
        intents: Rows of `intent_report.intent_rows`; empty for other models.
        limits: What it is known not to do well, a sentence each.
        gate: How it came, or will come, into production.
        environment: What it was trained on, see `environment.training_environment`.
        summary: What it does; empty takes the platform's sentence for its kind.
        intended_use: What it is for and not for; empty likewise.
    """

    name: str
    kind: str
    digest: str
    data: TrainingData
    base_model: str
    started_from: str = ""
    kept: str = ""
    release_bundle: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    intents: Sequence[Mapping[str, str | int | float]] = ()
    limits: tuple[str, ...] = ()
    gate: str = (
        "It becomes champion only by the gate: paired tests against the champion on held-out examples, overall and by "
        "slice, with limits for calibration, scope, latency and size. The verdict is a tag of the model version, its "
        "numbers lie with the run under `evaluation/`."
    )
    environment: Mapping[str, str | int | None] = field(default_factory=dict)
    summary: str = ""
    intended_use: str = ""

    @classmethod
    def of(
        cls,
        trained: TrainedArtifact,
        *,
        name: str,
        kind: str,
        data: TrainingData,
        settings: Mapping[str, Any],
        release_bundle: str | None,
        environment: Mapping[str, str | int | None],
    ) -> ModelCard:
        """Return the card of what a model type trained; `base` of the settings is its base model.

        Folders of a machine are left out: of a base model that lies in one, only its name is said.
        """
        named = {key: _without_folders(value) for key, value in settings.items()}
        return cls(
            name=name,
            kind=kind,
            digest=trained.digest,
            data=data,
            base_model=str(named.get("base", "unknown")),
            started_from=str(_without_folders(trained.started_from)),
            kept=trained.kept,
            release_bundle=release_bundle,
            settings=named,
            metrics=trained.metrics,
            intents=list(trained.tables.get(INTENT_TABLE, ())),
            limits=trained.limits,
            environment=environment,
        )

    def to_markdown(self) -> str:
        """Return the card; equal cards give equal bytes."""
        lines = [
            *self._head(),
            "## Intended use",
            "",
            inline(self.intended_use) or _USES.get(self.kind, "Not described."),
            "",
            "## Training data",
            "",
            *self._data(),
            "## Figures on validation",
            "",
            *(
                _table(("figure", "value"), [(name, f"{value:.6g}") for name, value in sorted(self.metrics.items())])
                or ["None: there was too little to validate on.", ""]
            ),
            *self._intents(),
            "## Limits",
            "",
            *[f"- {inline(limit)}" for limit in self.limits or ("None were recorded, which does not mean none.",)],
            "",
            "## How it is gated",
            "",
            inline(self.gate, code=True),
            "",
            "## How it was trained",
            "",
            *_table(("setting", "value"), [(name, _value(value)) for name, value in sorted(self.settings.items())]),
            *_table(
                ("environment", "value"),
                [(name, _value(value)) for name, value in sorted(self.environment.items()) if value is not None],
            ),
        ]
        return "\n".join(lines).rstrip() + "\n"

    def short(self) -> str:
        """Return what the page of a registered version has room for: what it is, what from, where it is not good."""
        data = f"Learned from {inline(self.data.name)} `{_code(self.data.version[:12] or self.data.digest[:12])}`."
        lines = [
            *self._head(),
            f"{data} The whole card is `README.md` beside the model and `model_card.md` of its run.",
            "",
            *[f"- {inline(limit)}" for limit in self.limits[:_LIMITS_SHOWN]],
        ]
        return "\n".join(lines).rstrip() + "\n"

    def _head(self) -> list[str]:
        return [
            f"# {inline(self.name)}",
            "",
            inline(self.summary) or _SUMMARIES.get(self.kind, f"A model of the kind {inline(self.kind)}."),
            "",
            *_table(
                ("", ""),
                [
                    ("kind", self.kind),
                    ("artifact (SHA-256)", self.digest),
                    ("trained for", self.release_bundle or "the bootstrap corpus"),
                    ("base model", self.base_model),
                    ("licence of the base model", LICENCES.get(self.base_model, _UNKNOWN_LICENCE)),
                    ("training started from", self.started_from or self.base_model),
                    ("kept candidate", self.kept or "the only one"),
                ],
            ),
        ]

    def _data(self) -> list[str]:
        data = self.data
        lines = [
            f"Dataset {inline(data.name)}, version `{_code(data.version[:12] or 'unnamed')}`, rows "
            f"`{_code(data.digest)}`" + (f", as of {inline(data.as_of)}." if data.as_of else "."),
            "",
        ]
        for title, counts in (
            ("side", data.by_split),
            ("label from", data.by_label_kind),
            ("source", data.by_source),
            ("language by script", data.by_language),
        ):
            lines += _table((title, "examples"), [(name, f"{count:,}") for name, count in counts.items()])
        return [*lines, *(f"- {inline(note)}" for note in data.notes), *([""] if data.notes else [])]

    def _intents(self) -> list[str]:
        if not self.intents:
            return []
        columns = tuple(self.intents[0])
        rows = [tuple(_value(row.get(name)) for name in columns) for row in self.intents[:_ROWS_SHOWN]]
        left_out = len(self.intents) - len(rows)
        more = [f"{left_out} intents with a better F1 are left out.", ""] if left_out else []
        return ["### By intent, the worst first", "", *_table(columns, rows), *more]


def inline(text: str, *, code: bool = False) -> str:
    """Return a text from outside as one line of Markdown: no table, no HTML, no link or picture, no emphasis.

    `code` leaves code spans as they are, for texts of our own.
    """
    line = cell("".join(letter if letter.isprintable() else " " for letter in text))
    for mark in "[]*_" if code else "[]*_`~":
        line = line.replace(mark, f"\\{mark}")
    return line if not line.startswith(("#", "-", "+", "&gt;", ">", "=")) else f"\\{line}"


def _without_folders(value: object) -> object:
    return (
        value.replace("\\", "/").rstrip("/").rpartition("/")[2]
        if isinstance(value, str) and _PATH.match(value)
        else value
    )


def _code(text: str) -> str:
    return cell(text).replace("`", "'")


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    rule = (
        ["---", *("---:" for _ in titles[1:])] if len(titles) > 2 or "examples" in titles else ["---" for _ in titles]
    )
    return [
        f"| {' | '.join(titles)} |",
        f"|{'|'.join(rule)}|",
        *(f"| {' | '.join(inline(value) for value in row)} |" for row in rows),
        "",
    ]
