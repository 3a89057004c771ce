"""Readers of stored turns: what is asked for, however many row groups the table has."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from upath import UPath

from mangaassist_assets.core.codecs import SnapshotSchemaError, to_parquet
from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.tracing.ingestion import stored_turns
from mangaassist_assets.tracing.ingestion.stored_turns import (
    TURNS_FILE,
    count_turns,
    read_turn_batches,
    read_turn_frame,
    read_turns,
    stream_turns,
)
from tests.support.mined_turns import make_turn
from tests.support.turn_frames import turns_frame

TURNS = [make_turn(user_feedback=("thumbs_up", "thumbs_down", None)[number % 3]) for number in range(7)]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SnapshotStore:
    monkeypatch.setattr(stored_turns, "ROW_GROUP", 3)
    store = SnapshotStore(UPath(tmp_path))
    store.write("tagged_traces", {TURNS_FILE: to_parquet(turns_frame(TURNS))}, partition="b1")
    return store


def test_turns_come_as_they_are_stored(store: SnapshotStore) -> None:
    assert read_turns(store, "b1") == TURNS
    assert read_turn_frame(store, "b1").equals(turns_frame(TURNS))
    assert [frame.height for frame in read_turn_batches(store, "b1")] == [3, 3, 1]
    assert count_turns(store, "b1") == 7


def test_only_the_turns_and_columns_that_are_asked_for_come(store: SnapshotStore) -> None:
    down = pl.col("user_feedback") == "thumbs_down"
    assert list(stream_turns(store, "b1", down)) == [TURNS[1], TURNS[4]]
    frame = read_turn_frame(store, "b1", columns=["intent", "trace_id"], where=down)
    assert frame.rows() == [("order_status", TURNS[1].trace_id), ("order_status", TURNS[4].trace_id)]


def test_a_bundle_without_turns_is_an_empty_table(store: SnapshotStore) -> None:
    store.write("tagged_traces", {TURNS_FILE: to_parquet(turns_frame([]))}, partition="b1")
    assert read_turns(store, "b1") == []
    assert read_turn_frame(store, "b1").equals(turns_frame([]))
    assert count_turns(store, "b1") == 0


def test_turns_of_another_version_are_refused_by_name(store: SnapshotStore) -> None:
    older = turns_frame(TURNS).drop("reviewer")
    store.write("tagged_traces", {TURNS_FILE: to_parquet(older)}, partition="b1")
    with pytest.raises(SnapshotSchemaError, match="reviewer"):
        read_turns(store, "b1")
