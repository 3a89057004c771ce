"""Snapshots of turns: nothing changes on the way, and equal content is equal bytes."""

from __future__ import annotations

import random

import polars as pl
import pytest

from mangaassist_assets.core.codecs import SnapshotSchemaError, to_parquet
from mangaassist_assets.tracing.contract.turns import ChatTurn, RankedCandidate
from mangaassist_assets.tracing.ingestion.turn_frames import (
    QUARANTINE_SCHEMA,
    TURN_SCHEMA,
    turns_of,
)
from mangaassist_assets.tracing.reading.turn_reader import Quarantined
from tests.support.turn_frames import quarantine_frame, turns_frame


def turn(number: int, *, timestamp_ms: int | None = None) -> ChatTurn:
    return ChatTurn(
        trace_id=f"tr-{number:04d}",
        timestamp_ms=number if timestamp_ms is None else timestamp_ms,
        duration_ms=5,
        state="OK",
        release_bundle="b1",
        session_id="s",
        message=f"メッセージ {number}",
        cache_hit=None if number % 2 else True,
        candidates=(
            RankedCandidate(chunk_id="a::0", document_id="a", retrieval_rank=1, retrieval_score=0.1),
            RankedCandidate(
                chunk_id="b::0",
                document_id="b",
                retrieval_rank=2,
                retrieval_score=0.05,
                rerank_rank=1,
                rerank_score=0.9,
                selected=True,
            ),
        )
        if number % 3
        else (),
        guardrail_reasons=("ungrounded",) if number % 2 else (),
        expected_documents=("a", "b") if number % 2 else (),
    )


def test_turns_come_back_as_they_were_in_the_order_of_time():
    turns = [turn(number) for number in range(40)]
    shuffled = random.Random(3).sample(turns, len(turns))
    assert list(turns_of(pl.read_parquet(to_parquet(turns_frame(shuffled))))) == turns


def test_the_same_turns_in_any_order_are_the_same_bytes():
    turns = [turn(number, timestamp_ms=number // 5) for number in range(200)]
    shuffled = random.Random(5).sample(turns, len(turns))
    assert to_parquet(turns_frame(shuffled)) == to_parquet(turns_frame(turns))


def test_no_turns_are_a_snapshot_too():
    assert turns_frame([]).schema == TURN_SCHEMA
    assert list(turns_of(pl.read_parquet(to_parquet(turns_frame([]))))) == []


def test_a_table_of_other_columns_is_refused_by_name():
    with pytest.raises(SnapshotSchemaError, match="reviewer"):
        turns_of(turns_frame([turn(1)]).drop("reviewer"))
    with pytest.raises(SnapshotSchemaError, match="timestamp_ms"):
        turns_of(turns_frame([turn(1)]).with_columns(pl.col("timestamp_ms").cast(pl.Int32)))


def test_quarantine_is_a_table_in_the_order_of_time():
    items = [Quarantined(trace_id=f"t{at}", timestamp_ms=at, reason="r") for at in (3, 1, 2)]
    frame = quarantine_frame(items)
    assert frame.schema == QUARANTINE_SCHEMA
    assert frame["trace_id"].to_list() == ["t1", "t2", "t3"]
