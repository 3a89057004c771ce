"""Snapshots as rows: nothing a shopper wrote, every entry of a list its own row, hostile feedback counted."""

from __future__ import annotations

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.core.codecs import SnapshotSchemaError
from mangaassist_assets.reporting.warehouse.rows import feedback_rows, rows_digest, turn_rows
from mangaassist_assets.reporting.warehouse.tables import BUNDLE_TABLES, CHAT_TURNS, LONGEST_TEXT, add_column_statements
from mangaassist_assets.reporting.warehouse.types import WarehouseError
from mangaassist_assets.tracing.contract.turns import Generation, StageTiming
from tests.support.reports import BUNDLE, bundle_rows, chat_turn, event
from tests.support.turn_frames import turns_frame

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.dictionaries(st.sampled_from(list(event(1, "thumbs_up"))), JSON, max_size=3)


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


def test_turns_of_an_earlier_version_are_rows_without_what_they_do_not_know():
    earlier = turns_frame([chat_turn(1)]).drop("tenant", "team", "response_id", "tools", "verdicts")
    rows = turn_rows(earlier)["chat_turns"]
    assert rows.select("trace_id", "tenant", "team").rows() == [("tr-1", None, None)]


def test_a_tenant_and_a_team_are_columns_after_those_of_earlier_versions():
    rows = turn_rows(turns_frame([chat_turn(1, tenant="a", team="b")]))["chat_turns"]
    assert rows.columns[-2:] == ["tenant", "team"]
    assert rows.select("tenant", "team").rows() == [("a", "b")]


def test_a_table_that_lacks_what_every_version_had_is_not_ours():
    assert add_column_statements(CHAT_TURNS, [column.name for column in CHAT_TURNS.columns]) == []
    with pytest.raises(WarehouseError, match="no column release_bundle"):
        add_column_statements(CHAT_TURNS, ["id"])


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
    frame = feedback_rows(events, release_bundle=BUNDLE).frame
    assert frame.sort("position")["event_id"].to_list() == ["c", "a", "b", "event-1-9-thumbs_up"]


def test_an_event_that_comes_twice_counts_once():
    rows = feedback_rows([event(1, "thumbs_up")] * 3, release_bundle=BUNDLE)
    assert (rows.frame.height, rows.rejected) == (1, {"the event id came before": 2})


@given(st.lists(JSON | FIELDS.map(lambda fields: {**event(1, "thumbs_up"), **fields}), max_size=5))
def test_whatever_comes_as_feedback_is_a_row_or_has_a_reason(events):
    rows = feedback_rows([*events, event(2, "thumbs_down")], release_bundle=BUNDLE)
    assert rows.frame.height + sum(rows.rejected.values()) == len(events) + 1
    assert "tr-2" in rows.frame["trace_id"].to_list()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"feedback": "love"}, "feedback is neither thumbs_up nor thumbs_down"),
        ({"release_bundle": "2026.01.01-rc1"}, "an event of another release bundle"),
        ({"timestamp": "2026-03-24T12:00:00"}, "timestamp is not an ISO 8601 time with a zone"),
        ({"timestamp": "soon"}, "timestamp is not an ISO 8601 time with a zone"),
        ({"trace_id": 7}, "trace_id is not a text"),
    ],
)
def test_a_rejected_event_says_why(fields, reason):
    assert feedback_rows([{**event(1, "thumbs_up"), **fields}], release_bundle=BUNDLE).rejected == {reason: 1}


def test_the_digest_tells_rows_apart_and_the_same_rows_not():
    def digest(*turns, events=()):
        rows = bundle_rows(turns, events)
        return rows_digest({table: rows[table.name] for table in BUNDLE_TABLES})

    one, two = chat_turn(1), chat_turn(2)
    assert digest(one, two) == digest(two, one)
    assert len({digest(one), digest(one, two), digest(one, events=[event(1, "thumbs_up")])}) == 3
