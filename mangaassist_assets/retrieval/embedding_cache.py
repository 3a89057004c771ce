"""Vectors by content: what was embedded once with a model is never embedded with it again.

A cache is a folder with one folder per model and dimension, each with segments: Parquet files of content hashes and
vectors, named by the SHA-256 of their bytes. Segments are written aside and renamed, and never change, so any number
of processes may share a cache and any of them may be killed.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from mangaassist_assets.core.files import write_whole
from mangaassist_assets.retrieval.chunking import embedding_text
from mangaassist_assets.retrieval.errors import EmbeddingError
from mangaassist_assets.retrieval.types import Chunk, Embedder, TextUse, Vectors

_LOGGER = logging.getLogger(__name__)
_SEGMENT_NAME = re.compile(r"^[0-9a-f]{64}\.parquet$")
_LENGTH_TOLERANCE = 1e-3
# What a killed run can lose at most, and how many chunks one segment holds.
BATCH_SIZE = 256

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingReport:
    """How many chunks' contents were embedded now, and how many vectors were there already."""

    model_id: str
    embedded: int
    reused: int


class EmbeddingCache:
    """Vectors of content hashes in a folder, by model id and dimension."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, model_id: str, dimension: int, hashes: Sequence[str]) -> dict[str, Vectors]:
        """Return the vectors, each of shape (dimension,), of those of `hashes` that the cache holds.

        A damaged segment is put aside with a warning: its content will be embedded again.
        """
        wanted = pl.DataFrame({"content_hash": sorted(set(hashes))}, schema={"content_hash": pl.String()})
        found: dict[str, Vectors] = {}
        for segment in self._segments(model_id, dimension):
            frame = _read_segment(segment, dimension)
            if frame is None:
                continue
            known = frame.join(wanted, on="content_hash", how="semi")
            found.update(zip(known["content_hash"], known["vector"].to_numpy(), strict=True))
        return found

    def write(self, model_id: str, dimension: int, hashes: Sequence[str], vectors: Vectors) -> None:
        """Keep vectors of shape (len(hashes), dimension).

        Raises:
            EmbeddingError: If the folder cannot be written.
        """
        frame = pl.DataFrame(
            {"content_hash": list(hashes), "vector": vectors},
            schema={"content_hash": pl.String(), "vector": pl.Array(pl.Float32, dimension)},
        ).sort("content_hash")
        folder = self._folder(model_id, dimension)
        try:
            _write_segment(folder, frame)
        except OSError as error:
            raise EmbeddingError(
                f"cannot write the embedding cache {folder}: {error.strerror or error}. "
                "Free space, or name another folder"
            ) from error

    def holds(self, hashes: Collection[str]) -> bool:
        """Return whether there is a vector of one of some contents, of any model."""
        wanted = sorted(set(hashes))
        segments = (pl.read_parquet(one, columns=["content_hash"]) for one in self._directory.glob("*/*.parquet"))
        return bool(wanted) and any(bool(one["content_hash"].is_in(wanted).any()) for one in segments)

    def forget(self, hashes: Collection[str]) -> int:
        """Remove the vectors of some contents, of all models; returns how many there were.

        Raises:
            EmbeddingError: If the folder cannot be written.
        """
        gone = sorted(set(hashes))
        removed = 0
        for segment in sorted(self._directory.glob("*/*.parquet")) if gone else ():
            content = segment.read_bytes()
            if hashlib.sha256(content).hexdigest() != segment.stem:
                # Damaged: nobody reads it any more.
                segment.unlink()
                continue
            frame = pl.read_parquet(io.BytesIO(content))
            kept = frame.filter(~pl.col("content_hash").is_in(gone))
            if kept.height == frame.height:
                continue
            removed += frame.height - kept.height
            try:
                if kept.height:
                    _write_segment(segment.parent, kept)
                segment.unlink(missing_ok=True)
            except OSError as error:
                raise EmbeddingError(f"cannot write the embedding cache {segment.parent}: {error}") from error
        for damaged in self._directory.glob("*/*.damaged") if gone else ():
            damaged.unlink(missing_ok=True)
        return removed

    def _folder(self, model_id: str, dimension: int) -> Path:
        # The readable part may be the same for two ids, the digest is not.
        digest = hashlib.sha256(f"{model_id}\n{dimension}".encode()).hexdigest()[:12]
        return self._directory / f"{re.sub('[^0-9A-Za-z._-]+', '-', model_id)[:80].strip('.-')}-{dimension}-{digest}"

    def _segments(self, model_id: str, dimension: int) -> list[Path]:
        folder = self._folder(model_id, dimension)
        try:
            return sorted(path for path in folder.iterdir() if _SEGMENT_NAME.match(path.name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise EmbeddingError(f"cannot read the embedding cache {folder}: {error.strerror or error}") from error


def embed_chunks(chunks: Sequence[Chunk], embedder: Embedder, cache: EmbeddingCache) -> tuple[Vectors, EmbeddingReport]:
    """Return the vectors of chunks, embedding only content that the cache does not hold yet.

    Args:
        chunks: The chunks; equal contents are embedded once.
        embedder: The model.
        cache: Where vectors are kept; new ones are added every 256 contents, so a killed run goes on from there.

    Returns:
        float32 of shape (len(chunks), dimension), row i for chunks[i], each of length one; and the report.

    Raises:
        EmbeddingError: If the embedder answers with something else than such vectors, or the cache cannot be used.
    """
    texts = {chunk.content_hash: embedding_text(chunk.title, chunk.text, chunk.context) for chunk in chunks}
    known, report = embed_contents(texts, embedder, cache)
    result = np.empty((len(chunks), embedder.dimension), dtype=np.float32)
    for row, chunk in enumerate(chunks):
        result[row] = known[chunk.content_hash]
    return result, report


def embed_contents(
    texts: Mapping[str, str],
    embedder: Embedder,
    cache: EmbeddingCache | None,
    progress: Progress | None = None,
    *,
    use: TextUse = "passage",
) -> tuple[dict[str, Vectors], EmbeddingReport]:
    """Return the vector of each text by its content hash; like `embed_chunks` for whatever has a hash.

    Without a cache everything is embedded and nothing is kept. `progress` is called with the number of texts done and
    their total.
    """
    # One text may be a message here and a chunk there, and some models tell the two apart.
    kept_as = embedder.model_id if use == "passage" else f"{embedder.model_id} {use}"
    known = {} if cache is None else cache.read(kept_as, embedder.dimension, list(texts))
    missing = [content_hash for content_hash in texts if content_hash not in known]
    reused = len(known)
    # Batches of like length waste no padding.
    missing.sort(key=lambda content_hash: (len(texts[content_hash]), content_hash))
    if progress is not None:
        progress(reused, len(texts))
    for start in range(0, len(missing), BATCH_SIZE):
        batch = missing[start : start + BATCH_SIZE]
        vectors = embedder.embed([texts[content_hash] for content_hash in batch], use=use)
        check_vectors(vectors, count=len(batch), dimension=embedder.dimension, model_id=embedder.model_id)
        if cache is not None:
            cache.write(kept_as, embedder.dimension, batch, vectors)
        known.update(zip(batch, vectors, strict=True))
        if progress is not None:
            progress(len(known), len(texts))
    return known, EmbeddingReport(model_id=embedder.model_id, embedded=len(missing), reused=reused)


def check_vectors(vectors: Vectors, *, count: int, dimension: int, model_id: str) -> None:
    """Raise `EmbeddingError` unless `vectors` is finite float32 of shape (count, dimension), each row of length one."""
    if vectors.dtype != np.float32 or vectors.shape != (count, dimension):
        raise EmbeddingError(
            f"{model_id} answered {vectors.dtype} of shape {vectors.shape} to {count} texts, expected float32 of "
            f"shape {(count, dimension)}: check the embedder's dimension"
        )
    lengths = np.linalg.norm(vectors, axis=1)
    # Written so that NaN counts as wrong.
    wrong = np.flatnonzero(~(np.abs(lengths - 1.0) <= _LENGTH_TOLERANCE))
    if wrong.size:
        raise EmbeddingError(
            f"{model_id} answered {wrong.size} of {count} vectors that are not of length one, the first of length "
            f"{lengths[wrong[0]]}: check that the embedder normalises"
        )


def _write_segment(folder: Path, frame: pl.DataFrame) -> None:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    content = buffer.getvalue()
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / f"{hashlib.sha256(content).hexdigest()}.parquet", content)


def _read_segment(segment: Path, dimension: int) -> pl.DataFrame | None:
    """Return a segment's frame, or None where it is damaged and was put aside, or is gone."""
    try:
        content = segment.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EmbeddingError(f"cannot read {segment}: {error.strerror or error}") from error
    if hashlib.sha256(content).hexdigest() != segment.stem:
        _LOGGER.warning("the segment %s of the embedding cache is damaged: put aside, embedding again", segment)
        segment.replace(segment.with_suffix(".damaged"))
        return None
    frame = pl.read_parquet(io.BytesIO(content))
    expected = {"content_hash": pl.String(), "vector": pl.Array(pl.Float32, dimension)}
    if dict(frame.schema) != expected:
        raise EmbeddingError(f"{segment} holds {dict(frame.schema)}, expected {expected}: delete it")
    return frame
