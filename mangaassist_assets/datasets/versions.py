"""Dataset versions: content-addressed, immutable. Same rows, same bytes, same digest, in whatever order they came."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import polars as pl

from mangaassist_assets.datasets.intent_labels import LabelConflict
from mangaassist_assets.storage import canonical_json

DatasetKind = Literal["intent", "ranking"]
EXAMPLES_FILE = "examples.parquet"
CARD_FILE = "card.json"
CARD_TEXT_FILE = "card.md"


class DatasetDamagedError(ValueError):
    """Stored rows are not the version they are said to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCard:
    """What a dataset version is made of. Counts are of examples, not rows: a ranking example has many rows.

    `excluded` says what did not get in, by reason; `conflicts` lists contradicting reviews. Neither is part of the
    digest, which is of the examples alone.
    """

    kind: DatasetKind
    digest: str
    as_of: str | None
    examples: int
    rows: int
    by_split: Mapping[str, int]
    by_label_kind: Mapping[str, int]
    by_source: Mapping[str, int]
    by_intent: Mapping[str, Mapping[str, int]]
    shoppers: int
    excluded: Mapping[str, int]
    conflicts: tuple[LabelConflict, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """Return the card as indented JSON."""
        return json.dumps({"schema": 1, **asdict(self)}, indent=2, sort_keys=True, ensure_ascii=False).encode()

    def to_markdown(self) -> str:
        """Return the card for a person."""
        lines = [
            f"# {self.kind.capitalize()} dataset {self.digest[:12]}",
            "",
            f"{self.examples} examples ({self.rows} rows) of {self.shoppers} known shoppers"
            + (f", as of {self.as_of}" if self.as_of else ""),
            "",
            *_table("Split", self.by_split),
            *_table("Label", self.by_label_kind),
            *_table("Source", self.by_source),
        ]
        if self.by_intent:
            lines += ["| Intent | train | validation | test |", "|---|---:|---:|---:|"]
            for intent, counts in self.by_intent.items():
                sides = " | ".join(str(counts.get(side, 0)) for side in ("train", "validation", "test"))
                lines.append(f"| {_cell(intent)} | {sides} |")
            lines.append("")
        lines += _table("Excluded because", self.excluded)
        if self.conflicts:
            lines += ["| Reviews contradict each other | Traces |", "|---|---|"]
            lines += [
                f"| {_cell(' / '.join(one.answers))} | {_cell(', '.join(one.trace_ids))} |" for one in self.conflicts
            ]
            lines.append("")
        lines += [f"- {note}" for note in self.notes]
        return "\n".join(lines).rstrip() + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetVersion:
    """One immutable version: canonical rows, their digest, and the card."""

    digest: str
    frame: pl.DataFrame = field(repr=False)
    card: DataCard

    def files(self) -> dict[str, bytes]:
        """Return file name → content, ready for a snapshot store."""
        return {
            EXAMPLES_FILE: to_parquet(self.frame),
            CARD_FILE: self.card.to_json(),
            CARD_TEXT_FILE: self.card.to_markdown().encode(),
        }


def seal_version(
    frame: pl.DataFrame,
    *,
    kind: DatasetKind,
    excluded: Mapping[str, int],
    conflicts: Sequence[LabelConflict] = (),
    as_of: str | None = None,
    notes: Sequence[str] = (),
) -> DatasetVersion:
    """Put the rows into canonical order and describe them.

    `frame` has at least example_id, split, label_kind, release_bundle and user_key; an `intent` column is counted.
    """
    canonical = canonical_frame(frame)
    digest = content_digest(canonical)
    examples = canonical.unique(subset="example_id", keep="first", maintain_order=True)
    card = DataCard(
        kind=kind,
        digest=digest,
        as_of=as_of,
        examples=len(examples),
        rows=len(canonical),
        by_split=_counts(examples, "split"),
        by_label_kind=_counts(examples, "label_kind"),
        by_source=_counts(examples.with_columns(pl.col("release_bundle").fill_null("bootstrap")), "release_bundle"),
        by_intent=_intent_counts(examples) if "intent" in examples.columns else {},
        shoppers=examples["user_key"].drop_nulls().n_unique(),
        excluded={reason: count for reason, count in sorted(excluded.items()) if count},
        conflicts=tuple(conflicts),
        notes=tuple(notes),
    )
    return DatasetVersion(digest=digest, frame=canonical, card=card)


def canonical_frame(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows in the order of their content, the columns in alphabetical order."""
    columns = sorted(frame.columns)
    return frame.select(columns).sort(columns, nulls_last=True, maintain_order=True)


def content_digest(frame: pl.DataFrame) -> str:
    """Return the SHA-256 over column names, types and rows; independent of row order, chunks and file format."""
    ordered = frame.select(sorted(frame.columns))
    digest = hashlib.sha256(canonical_json([[name, str(dtype)] for name, dtype in ordered.schema.items()]))
    for line in sorted(canonical_json(row) for row in ordered.iter_rows()):
        digest.update(b"\n" + line)
    return digest.hexdigest()


def to_parquet(frame: pl.DataFrame) -> bytes:
    """Return canonical Parquet bytes: equal for equal content under one version of Polars."""
    buffer = io.BytesIO()
    canonical_frame(frame).rechunk().write_parquet(
        buffer, compression="zstd", compression_level=3, statistics=True, row_group_size=100_000
    )
    return buffer.getvalue()


def from_parquet(content: bytes, *, expected_digest: str | None = None) -> pl.DataFrame:
    """Return the rows of a stored version.

    Raises:
        DatasetDamagedError: the rows do not have the expected digest.
    """
    frame = pl.read_parquet(io.BytesIO(content))
    if expected_digest is not None:
        digest = content_digest(frame)
        if digest != expected_digest:
            msg = (
                f"the stored rows have digest {digest[:12]}…, expected {expected_digest[:12]}…: build the dataset again"
            )
            raise DatasetDamagedError(msg)
    return frame


def _counts(frame: pl.DataFrame, column: str) -> dict[str, int]:
    return {str(value): int(count) for value, count in sorted(frame[column].value_counts().iter_rows())}


def _intent_counts(frame: pl.DataFrame) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for intent, split, count in frame.group_by("intent", "split").len().sort("intent", "split").iter_rows():
        found.setdefault(intent, {})[split] = int(count)
    return found


def _table(title: str, counts: Mapping[str, int]) -> list[str]:
    if not counts:
        return []
    return [f"| {title} | Examples |", "|---|---:|", *(f"| {_cell(key)} | {n} |" for key, n in counts.items()), ""]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
