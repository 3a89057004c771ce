"""What a dataset row is: its side, how far its label is trusted, and the columns of the intent and ranking datasets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import polars as pl

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

ExampleKind = Literal["base", "human", "judge", "propagated"]
TRUST: Mapping[ExampleKind, int] = {"base": 0, "human": 1, "judge": 2, "propagated": 3}
"""From the most to the least trusted."""

CORPUS = "corpus"
_STRING, _INTEGER = pl.String(), pl.Int64()
_ORIGIN = {
    "split": _STRING,
    "label_kind": _STRING,
    "source_trace_id": _STRING,
    "release_bundle": _STRING,
    "session_id": _STRING,
    "user_key": _STRING,
    "timestamp_ms": _INTEGER,
    "tenant": _STRING,
    "origin": _STRING,
    "inclusion_probability": pl.Float64(),
    "bundle_turns": _INTEGER,
}
"""`origin` to `bundle_turns` are those of a label's `ReviewOrigin`; what nobody reviewed is of the origin `CORPUS`."""
INTENT_SCHEMA = pl.Schema(
    {
        "example_id": _STRING,
        "text": _STRING,
        "intent": _STRING,
        "confidence": pl.Float64(),
        "label_sources": pl.List(pl.String()),
        "labeller": _STRING,
        "labelled_ms": _INTEGER,
        **_ORIGIN,
    }
)
RANKING_SCHEMA = pl.Schema(
    {
        "example_id": _STRING,
        "query": _STRING,
        "chunk_id": _STRING,
        "document_id": _STRING,
        "passage": _STRING,
        "relevance": pl.Float64(),
        "negative_kind": _STRING,
        "first_stage_rank": _INTEGER,
        **_ORIGIN,
    }
)


def labels_of_people(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that people labelled in traffic: only those are the truth that a model is tested by."""
    return frame.filter(pl.col("label_kind") == "human")
