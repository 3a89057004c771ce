"""Dataset versions: content-addressed, immutable. Same rows, same bytes, same digest, in whatever order they came.

Two names belong to a version. The *digest* is of the rows alone: it is what training runs and model versions carry, for
equal rows train equal models. The *version* is the digest with the kind and the as-of time: two bundles whose data is
the same at different times are two versions of one digest, and asking for either one gets its own card.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.datasets.versions.data_card import DataCard, Provenance, describe

EXAMPLES_FILE = "examples.parquet"
CARD_FILE = "card.json"
CARD_TEXT_FILE = "card.md"


class DatasetDamagedError(ValueError):
    """Stored rows are not those of their version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetVersion:
    """One immutable version: canonical rows, and the card; `other_files` belong to it, such as recorded searches."""

    frame: pl.DataFrame = field(repr=False)
    card: DataCard
    other_files: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def digest(self) -> str:
        """The digest of the rows."""
        return self.card.digest

    def files(self) -> dict[str, bytes]:
        """Return file name → content, ready for a snapshot store."""
        return {
            EXAMPLES_FILE: to_parquet(self.frame),
            CARD_FILE: self.card.to_json(),
            CARD_TEXT_FILE: self.card.to_markdown().encode(),
            **self.other_files,
        }


def seal_version(frame: pl.DataFrame, provenance: Provenance, *, base_source: str = "corpus") -> DatasetVersion:
    """Put the rows into canonical order and describe them; the arguments are those of `describe`."""
    canonical = canonical_frame(frame)
    digest = content_digest(canonical)
    version = version_id(provenance.kind, digest, provenance.as_of_ms)
    card = describe(canonical, provenance, digest=digest, version=version, base_source=base_source)
    return DatasetVersion(frame=canonical, card=card)


def version_id(kind: str, digest: str, as_of_ms: int | None) -> str:
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
