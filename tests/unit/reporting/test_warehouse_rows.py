"""Snapshots as rows: nothing a shopper wrote, every entry of a list its own row, hostile feedback counted."""

from __future__ import annotations

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.core.codecs import SnapshotSchemaError
from mangaassist_assets.reporting.warehouse.rows import feedback_rows, rows_digest, turn_rows
from mangaassist_assets.reporting.warehouse.tables import BUNDLE_TABLES, LONGEST_TEXT
from mangaassist_assets.reporting.warehouse.types import WarehouseError
from mangaassist_assets.tracing.contract.turns import Generation, StageTiming
from tests.support.reports import bundle_rows, chat_turn, event, records
from tests.support.turn_frames import turns_frame


def test_no_table_holds_what_was_written_or_answered():
    rows = bundle_rows([chat_turn(1, message="a secret", answer="another secret")], [event(1, "thumbs_up")])
    for name, frame in rows.items():
        assert "secret" not in json.dumps(frame.to_dicts()), name


def test_every_stage_and_model_call_is_a_row_in_the_order_of_the_trace():
    stages = (StageTiming(name="embed_query", duration_ms=3.0), StageTiming(name="embed_query", duration_ms=4.0))
    turns = [chat_turn(1, stages=stages, generations=()), chat_turn(2, stages=(), generations=(Generation(),) * 3)]
    rows = turn_rows(turns_frame(turns))
    assert rows["turn_stages"].select("trace_id", "position", "duration_ms").rows() == [
        ("tr-1", 1, 3.0),
        ("tr-1", 2, 4.0),
    ]
    assert rows["turn_generations"].select("trace_id", "position").rows() == [("tr-2", 1), ("tr-2", 2), ("tr-2", 3)]


def test_a_bundle_without_turns_has_empty_tables_of_the_right_columns():
    rows = bundle_rows([])
    assert {name: frame.schema for name, frame in rows.items()} == {table.name: table.schema for table in BUNDLE_TABLES}


@given(st.text(min_size=LONGEST_TEXT // 4 - 2, max_size=LONGEST_TEXT + 9))
def test_a_text_fits_its_column_in_bytes_and_begins_as_it_was(text):
    rows = turn_rows(turns_frame([chat_turn(1, experiment_id=text)]))
    kept = rows["chat_turns"]["experiment_id"].item()
    assert len(kept.encode()) <= LONGEST_TEXT
    assert text.startswith(kept)
    assert kept == text or len(text.encode()) > LONGEST_TEXT


def test_another_table_than_a_snapshot_of_turns_is_refused():
    with pytest.raises(SnapshotSchemaError, match="lacks the columns"):
        turn_rows(pl.DataFrame({"trace_id": ["tr-1"]}))


def test_a_tenant_and_a_team_are_columns():
    rows = turn_rows(turns_frame([chat_turn(1, tenant="a", team="b")]))["chat_turns"]
    assert rows.select("tenant", "team").rows() == [("a", "b")]


def test_a_required_value_that_is_missing_is_named():
    frame = turns_frame([chat_turn(1)]).with_columns(session_id=pl.lit(None, pl.String))
    with pytest.raises(WarehouseError, match="chat_turns have no value in session_id"):
        turn_rows(frame)


def test_events_are_numbered_by_time_and_then_by_id():
    events = [
        event(1, "thumbs_up", second=9),
        event(1, "thumbs_down", second=3, event_id="b"),
        event(1, "thumbs_up", second=3, event_id="a"),
        event(1, "thumbs_up", timestamp="2026-03-24T13:00:01+01:00", event_id="c"),
    ]
    frame = feedback_rows(records(events))
    assert frame.sort("position")["event_id"].to_list() == ["c", "a", "b", "event-1-9-thumbs_up"]


def test_the_digest_tells_rows_apart_and_the_same_rows_not():
    def digest(*turns, events=()):
        rows = bundle_rows(turns, events)
        return rows_digest({table: rows[table.name] for table in BUNDLE_TABLES})

    one, two = chat_turn(1), chat_turn(2)
    assert digest(one, two) == digest(two, one)
    assert len({digest(one), digest(one, two), digest(one, events=[event(1, "thumbs_up")])}) == 3
