"""Feedback events: what goes onto the stream comes back, and nothing else passes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.tracing.feedback import FeedbackRejectedError, feedback_record, parse_feedback

EVENT = feedback_record(
    event_id="fb-1",
    trace_id="tr-1",
    session_id="s-1",
    user_key=None,
    release_bundle="2026.03.24-rc2",
    feedback="thumbs_down",
    timestamp=datetime(2026, 3, 24, 9, 0, tzinfo=timezone(timedelta(hours=9))),
)


def test_an_event_comes_back_from_its_bytes_with_its_time_in_utc():
    assert parse_feedback(EVENT.to_bytes()) == EVENT
    assert EVENT.timestamp == "2026-03-24T00:00:00.000Z"
    assert EVENT.to_dict()["schema"] == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": 2}, "schema"),
        ({"schema": True}, "schema"),
        ({"event_id": ""}, "event_id"),
        ({"event_id": "x" * 257}, "event_id"),
        ({"trace_id": 7}, "trace_id"),
        ({"session_id": "a\x00b"}, "session_id"),
        ({"user_key": ["u"]}, "user_key"),
        ({"release_bundle": "../x"}, "release_bundle"),
        ({"release_bundle": None}, "release_bundle"),
        ({"feedback": "THUMBS_UP"}, "feedback"),
        ({"feedback": ["thumbs_up"]}, "feedback"),
        ({"timestamp": 5}, "timestamp"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"timestamp": "2026-03-24T00:00:00"}, "time zone"),
        ({"timestamp": "0001-01-01T00:00:00+14:00"}, "timestamp"),
    ],
)
def test_a_broken_field_is_named(change, reason):
    content = json.dumps({**EVENT.to_dict(), **change}).encode()
    with pytest.raises(FeedbackRejectedError, match=reason):
        parse_feedback(content)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_a_reason(content):
    with pytest.raises(FeedbackRejectedError):
        parse_feedback(content)


def test_deeply_nested_json_is_a_reason_too():
    with pytest.raises(FeedbackRejectedError, match="JSON"):
        parse_feedback(b"[" * 100_000)


def test_an_event_without_time_zone_cannot_be_made():
    with pytest.raises(FeedbackRejectedError, match="time zone"):
        feedback_record(
            event_id="a",
            trace_id="b",
            session_id="c",
            user_key=None,
            release_bundle="b",
            feedback="thumbs_up",
            timestamp=datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None),
        )


@pytest.mark.parametrize("key", ["someone@example.invalid", "U-00000000000000000000", "u-0"])
def test_a_user_that_is_no_pseudonym_goes_no_further(key):
    content = json.dumps({**EVENT.to_dict(), "user_key": key}).encode()
    assert parse_feedback(content) == EVENT
    known = json.dumps({**EVENT.to_dict(), "user_key": "u-0123456789abcdef0123"}).encode()
    assert parse_feedback(known).user_key == "u-0123456789abcdef0123"


@given(st.datetimes(datetime(1971, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - bounds only
def test_the_time_in_milliseconds_is_that_of_the_text(moment):
    made = parse_feedback(json.dumps({**EVENT.to_dict(), "timestamp": moment.isoformat()}).encode())
    assert made.timestamp_ms == (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
