"""Chat turns as a frame and as Parquet bytes: the stored form of one release bundle's traces.

The same turns give the same bytes whatever order they came in, so that the digest of a snapshot identifies its content.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any

import polars as pl

from mangaassist_assets.tracing.contract.turns import (
    ChatTurn,
    Feedback,
    Generation,
    RankedCandidate,
    Review,
    StageTiming,
    ToolCall,
    Verdict,
)

CANDIDATE = pl.Struct(
    {
        "chunk_id": pl.String,
        "document_id": pl.String,
        "retrieval_rank": pl.Int32,
        "retrieval_score": pl.Float64,
        "rerank_rank": pl.Int32,
        "rerank_score": pl.Float64,
        "selected": pl.Boolean,
    }
)
STAGE = pl.Struct(
    {
        "name": pl.String,
        "duration_ms": pl.Float64,
        "failed": pl.Boolean,
        "endpoint_name": pl.String,
        "model_family": pl.String,
        "model_version": pl.String,
        "request_keys": pl.List(pl.String),
        "chunk_count": pl.Int64,
        "source_types": pl.List(pl.String),
        "filters": pl.String,
    }
)
TOOL = pl.Struct(
    {
        "name": pl.String,
        "arguments": pl.String,
        "result": pl.String,
        "failed": pl.Boolean,
        "error": pl.String,
        "duration_ms": pl.Float64,
    }
)
VERDICT = pl.Struct({"name": pl.String, "text": pl.String, "score": pl.Float64, "stage": pl.String})
GENERATION = pl.Struct(
    {
        "model_id": pl.String,
        "input_tokens": pl.Int64,
        "output_tokens": pl.Int64,
        "cache_read_tokens": pl.Int64,
        "cache_write_tokens": pl.Int64,
        "stop_reason": pl.String,
        "reported_cost_usd": pl.Float64,
    }
)
REVIEW = pl.Struct(
    {
        "name": pl.String,
        "kind": pl.String,
        "values": pl.List(pl.String),
        "source": pl.String,
        "source_id": pl.String,
        "timestamp_ms": pl.Int64,
    }
)
_TURN_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "trace_id": pl.String,
    "timestamp_ms": pl.Int64,
    "duration_ms": pl.Int64,
    "state": pl.String,
    "release_bundle": pl.String,
    "session_id": pl.String,
    "message": pl.String,
    "user_key": pl.String,
    "answer": pl.String,
    "intent": pl.String,
    "intent_confidence": pl.Float64,
    "intent_model_version": pl.String,
    "reranker_version": pl.String,
    "prompt_version": pl.String,
    "bedrock_model_id": pl.String,
    "guardrail_ruleset_version": pl.String,
    "routing_policy_version": pl.String,
    "index_generation": pl.String,
    "embedding_model_id": pl.String,
    "experiment_id": pl.String,
    "shadow_intent": pl.String,
    "shadow_confidence": pl.Float64,
    "shadow_model_version": pl.String,
    "tenant": pl.String,
    "team": pl.String,
    "response_id": pl.String,
    "cache_hit": pl.Boolean,
    "candidates": pl.List(CANDIDATE),
    "candidate_count": pl.Int64,
    "guardrail_blocked": pl.Boolean,
    "guardrail_reasons": pl.List(pl.String),
    "failed_span": pl.String,
    "error": pl.String,
    "user_feedback": pl.String,
    "expected_intent": pl.String,
    "expected_documents": pl.List(pl.String),
    "reviewer": pl.String,
    "reviews": pl.List(REVIEW),
    "stages": pl.List(STAGE),
    "generations": pl.List(GENERATION),
    "tools": pl.List(TOOL),
    "verdicts": pl.List(VERDICT),
    "shape": pl.String,
}
TURN_SCHEMA = pl.Schema(_TURN_COLUMNS)
QUARANTINE_SCHEMA = pl.Schema(
    {"trace_id": pl.String, "timestamp_ms": pl.Int64, "reason": pl.String, "release_bundle": pl.String}
)


class SnapshotSchemaError(ValueError):
    """Bytes that are Parquet, but not a snapshot of this schema."""


_NESTED_KINDS = {
    "candidates": RankedCandidate,
    "stages": StageTiming,
    "generations": Generation,
    "reviews": Review,
    "tools": ToolCall,
    "verdicts": Verdict,
}
_FIELDS = {kind: tuple(one.name for one in fields(kind)) for kind in (ChatTurn, *_NESTED_KINDS.values())}
_VALUES = {kind: attrgetter(*names) for kind, names in _FIELDS.items()}
_LISTS = {
    kind: tuple(one.name for one in fields(kind) if str(one.type).startswith("tuple["))
    for kind in _NESTED_KINDS.values()
}


def turn_row(turn: ChatTurn) -> dict[str, Any]:
    """Return the turn as plain values; `dataclasses.asdict` copies each of them, at three times the cost."""
    row = _plain(turn)
    for name in _NESTED_KINDS:
        row[name] = [_plain(one) for one in row[name]]
    return row


def _plain(
    value: ChatTurn | RankedCandidate | StageTiming | Generation | Review | ToolCall | Verdict,
) -> dict[str, Any]:
    kind = type(value)
    return dict(zip(_FIELDS[kind], _VALUES[kind](value), strict=True))


def with_feedback(turns: pl.DataFrame, feedback: Mapping[str, Feedback]) -> pl.DataFrame:
    """Return the turns with the feedback of these traces by id; the others keep what their traces say."""
    said = pl.DataFrame(
        {"trace_id": list(feedback), "said": list(feedback.values())}, schema={"trace_id": pl.String, "said": pl.String}
    )
    joined = turns.join(said, on="trace_id", how="left", maintain_order="left")
    return joined.with_columns(user_feedback=pl.coalesce("said", "user_feedback")).drop("said")


def turns_from_frame(frame: pl.DataFrame) -> list[ChatTurn]:
    """Return the turns of a frame in its order.

    Raises:
        SnapshotSchemaError: The frame has other columns or types than TURN_SCHEMA.
    """
    if frame.schema != TURN_SCHEMA:
        wrong = sorted(set(frame.schema.items()) ^ set(TURN_SCHEMA.items()), key=str)
        raise SnapshotSchemaError(
            f"the frame is not a snapshot of chat turns, these columns differ: {[name for name, _ in wrong]}; "
            "materialize the snapshot again with this version"
        )
    return [_turn(row) for row in frame.iter_rows(named=True)]


def turns_from_parquet(content: bytes) -> list[ChatTurn]:
    """Return the turns of a stored table in TURN_SCHEMA; raises SnapshotSchemaError for another table."""
    return turns_from_frame(pl.read_parquet(io.BytesIO(content)))


_TUPLES = tuple(field.name for field in fields(ChatTurn) if field.default == ())


def _turn(row: dict[str, Any]) -> ChatTurn:
    for name in _TUPLES:
        row[name] = tuple(row[name] or ())
    for name, kind in _NESTED_KINDS.items():
        row[name] = tuple(_nested(kind, values) for values in row[name])
    return ChatTurn(**row)


def _nested(kind: type[Any], values: dict[str, Any]) -> Any:  # noqa: ANN401 - an instance of the kind
    for name in _LISTS[kind]:
        values[name] = tuple(values[name] or ())
    return kind(**values)
