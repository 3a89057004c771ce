"""Dataset versions: content-addressed, immutable. Same rows, same bytes, same digest, in whatever order they came.

Two names belong to a version. The *digest* is of the rows alone: it is what training runs and model versions carry, for
equal rows train equal models. The *version* is the digest with the kind and the as-of time: two bundles whose data is
the same at different times are two versions of one digest, and asking for either one gets its own card.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.datasets.guards.redaction_pass import RedactionReport
from mangaassist_assets.datasets.versions.data_card import DataCard, DatasetKind, describe, with_provenance
from mangaassist_assets.labelling.intent_labels import LabelConflict

EXAMPLES_FILE = "examples.parquet"
CARD_FILE = "card.json"
CARD_TEXT_FILE = "card.md"


class DatasetDamagedError(ValueError):
    """Stored rows are not those of their version."""


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
    as_of_ms: int | None = None,
    inputs: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    redaction: RedactionReport | None = None,
    passages_left_out: Mapping[str, int] | None = None,
    base_source: str = "corpus",
) -> DatasetVersion:
    """Put the rows into canonical order and describe them.

    Args:
        frame: at least example_id, split, label_kind, release_bundle and user_key; an `intent` column is counted.
        kind: what an example is.
        excluded: what did not get in: reason -> count of examples.
        conflicts: labels that contradict each other.
        as_of: the release bundle it was made for.
        notes: sentences for the card.
        as_of_ms: nothing in it was written after this time (ms since the epoch).
        inputs: the snapshots it was built from, as `recorded_inputs.RecordingStore.inputs` gives them after everything
            was read through it; without them the version can be verified, but not rebuilt.
        settings: JSON values that decide the rows besides the inputs, such as caps and shares.
        redaction: the report of the `RedactionPass` that the texts went through.
        passages_left_out: reason -> count of passages that are neither right nor wrong for their query.
        base_source: where examples come from that no trace stands behind.
    """
    canonical = canonical_frame(frame)
    digest = content_digest(canonical)
    card = with_provenance(
        describe(canonical, kind=kind, digest=digest, base_source=base_source, redaction=redaction),
        version=version_id(kind, digest, as_of_ms),
        as_of=as_of,
        as_of_ms=as_of_ms,
        excluded=excluded,
        passages_left_out=passages_left_out or {},
        conflicts=conflicts,
        notes=notes,
        inputs=inputs or {},
        settings=settings or {},
    )
    return DatasetVersion(digest=digest, frame=canonical, card=card)


def version_id(kind: DatasetKind, digest: str, as_of_ms: int | None) -> str:
    """Return the name of a version: the SHA-256 of its kind, the digest of its rows, and its as-of time."""
    return hashlib.sha256(canonical_json({"kind": kind, "digest": digest, "as_of_ms": as_of_ms})).hexdigest()


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
            raise DatasetDamagedError(
                f"the stored rows have digest {digest[:12]}…, expected {expected_digest[:12]}…: build the dataset again"
            )
    return frame
