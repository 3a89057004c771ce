"""Feedback events: what goes onto the stream comes back, whoever wrote it and in whatever spelling."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.tracing.contract.feedback_fields import FeedbackFields
from mangaassist_assets.tracing.contract.trace_ids import TraceIdError, mlflow_trace_id
from mangaassist_assets.tracing.feedback.events import (
    FeedbackEvent,
    FeedbackRejectedError,
    feedback_record,
    parse_feedback,
)
from tests.support.stream_events import stream_event

HEX = "0af7651916cd43dd8448eb211c80319c"
ARRIVED = datetime(2026, 3, 24, 12, 0, tzinfo=UTC)
EVENT = feedback_record(
    event_id="fb-1",
    trace_id="tr-1",
    session_id="s-1",
    user_key=None,
    release_bundle="2026.03.24-rc2",
    feedback="thumbs_down",
    timestamp=datetime(2026, 3, 24, 9, 0, tzinfo=timezone(timedelta(hours=9))),
)


def read(arrived: datetime = ARRIVED, **content: Any) -> FeedbackEvent:
    return parse_feedback(json.dumps(content).encode(), arrived=arrived)


def test_an_event_comes_back_from_its_bytes_with_its_time_in_utc():
    assert parse_feedback(EVENT.to_bytes()) == stream_event(EVENT)
    assert EVENT.timestamp == "2026-03-24T00:00:00.000Z"
    assert EVENT.to_dict()["schema"] == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": 2}, "schema"),
        ({"schema": True}, "schema"),
        ({"event_id": "x" * 257}, "event_id"),
        ({"event_id": ["x"]}, "event_id"),
        ({"trace_id": 7.5}, "trace_id"),
        ({"trace_id": "jane@example.invalid"}, "trace_id"),
        ({"trace_id": "0" * 32}, "trace_id is all zeros"),
        ({"trace_id": None}, "trace_id and response_id are missing"),
        ({"session_id": "a\x00b"}, "session_id"),
        ({"release_bundle": "../x"}, "release_bundle"),
        ({"release_bundle": {"id": ["x"]}}, "release_bundle"),
        ({"feedback": "meh"}, "feedback is neither"),
        ({"feedback": ["thumbs_up"]}, "feedback is no thumb"),
        ({"feedback": None}, "feedback is missing"),
        ({"feedback": 0}, "feedback is ambiguous"),
        ({"feedback": 5}, "feedback is neither"),
        ({"rating": 1}, "ambiguous: the event says both"),
        ({"thumbs_up": "perhaps", "feedback": ""}, "neither true nor false"),
        ({"traceId": "tr-2"}, "trace_id is ambiguous"),
    ],
)
def test_a_broken_field_is_named_and_its_content_is_not_said(change, reason):
    content = json.dumps({**EVENT.to_dict(), **change}).encode()
    with pytest.raises(FeedbackRejectedError, match=reason) as refused:
        parse_feedback(content)
    assert "example.invalid" not in str(refused.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_a_reason(content):
    with pytest.raises(FeedbackRejectedError):
        parse_feedback(content)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = (
    *("trace_id", "traceId", "thumb", "feedback", "rating", "thumbs_up", "ts", "timestamp", "session_id", "user"),
    *("detail", "event_id", "response_id", "release_bundle", "schema", "data"),
)


@given(st.dictionaries(st.sampled_from(NAMES), json_values, max_size=6))
def test_any_object_is_an_event_or_a_reason_and_no_event_is_later_than_it_arrived(content):
    try:
        event = parse_feedback(json.dumps(content).encode(), arrived=ARRIVED)
    except FeedbackRejectedError:
        return
    assert event.timestamp <= "2026-03-24T12:00:05.000Z"
    assert event.trace_id or event.response_id


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
def test_a_user_that_is_no_pseudonym_is_never_shown(key):
    event = parse_feedback(json.dumps({**EVENT.to_dict(), "user_key": key}).encode())
    assert event.user_key is None
    assert key not in repr(event)
    known = json.dumps({**EVENT.to_dict(), "user_key": "u-0123456789abcdef0123"}).encode()
    assert parse_feedback(known).user_key == "u-0123456789abcdef0123"


# MangaAssist's own form: response id, trace id, thumb


def test_response_id_trace_id_and_thumb_are_an_event():
    event = read(response_id="resp-1", trace_id=HEX, thumb="down")
    assert (event.trace_id, event.response_id, event.feedback) == (f"tr-{HEX}", "resp-1", "thumbs_down")
    assert (event.timestamp, event.time_from) == ("2026-03-24T12:00:00.000Z", "arrival")
    assert (event.release_bundle, event.session_id, event.user) == (None, None, None)


@pytest.mark.parametrize(
    "spelling",
    [
        HEX,
        HEX.upper(),
        f"tr-{HEX}",
        f"tr-{HEX.upper()}",
        f"0x{HEX}",
        f"1-{HEX[:8]}-{HEX[8:]}",
        f"Root=1-{HEX[:8]}-{HEX[8:]};Parent=53995c3f42cd8ad8;Sampled=1",
        f"Self=1-67891234-12456789abcdef012345678;Root=1-{HEX[:8]}-{HEX[8:]}",
        f"00-{HEX}-b7ad6b7169203331-01",
        f"00-{HEX.upper()}-B7AD6B7169203331-00",
        base64.b64encode(bytes.fromhex(HEX)).decode(),
        base64.urlsafe_b64encode(bytes.fromhex(HEX)).decode().rstrip("="),
        f"{HEX[:8]}-{HEX[8:12]}-{HEX[12:16]}-{HEX[16:20]}-{HEX[20:]}",
        f" {HEX}\n",
    ],
)
def test_every_form_of_a_trace_id_is_the_same_trace(spelling):
    assert mlflow_trace_id(spelling) == f"tr-{HEX}"


@given(st.binary(min_size=16, max_size=16).filter(any))
def test_hexadecimal_and_base64_of_any_trace_are_the_same(raw):
    forms = {raw.hex(), raw.hex().upper(), base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()}
    assert {mlflow_trace_id(form) for form in forms} == {f"tr-{raw.hex()}"}


@pytest.mark.parametrize("other", ["tr-1", "tr-0000000000000000001", "trace:/catalog/7", "abc"])
def test_an_id_in_another_form_stays_what_it_is(other):
    assert mlflow_trace_id(other) == other


@pytest.mark.parametrize(
    "wrong", ["", "no' OR '1'='1", "x" * 51, "a b", "jane@example.invalid", f"00-{'0' * 32}-{'1' * 16}-01"]
)
def test_what_can_be_no_trace_is_refused(wrong):
    with pytest.raises(TraceIdError):
        mlflow_trace_id(wrong)


UP = (
    "up",
    "UP",
    "thumbs_up",
    "thumbsUp",
    "Thumbs Up",
    "👍",
    "👍🏽",
    1,
    "1",
    "+1",
    1.0,
    True,
    "true",
    "positive",
    ":+1:",
)
DOWN = (
    "down",
    "thumbs-down",
    "thumbsDown",
    "👎",
    "👎🏿",
    -1,
    "-1",
    -1.0,
    False,
    "False",
    "negative",
    "dislike",
    ":-1:",
)


@pytest.mark.parametrize(
    ("said", "feedback"),
    [
        *(({"thumb": word}, "thumbs_up") for word in UP),
        *(({"thumb": word}, "thumbs_down") for word in DOWN),
        *(({name: "down"}, "thumbs_down") for name in ("feedback", "user_feedback", "userFeedback", "rating", "vote")),
        ({"thumbs_up": True}, "thumbs_up"),
        ({"thumbsUp": False}, "thumbs_down"),
        ({"thumbs_down": True, "thumbs_up": False}, "thumbs_down"),
        ({"liked": "no"}, "thumbs_down"),
        ({"thumb": "up", "rating": 1, "feedback": None}, "thumbs_up"),
        ({"detail": {"thumb": "up"}}, "thumbs_up"),
        ({"feedback": {"rating": "down", "comment": "x"}}, "thumbs_down"),
    ],
)
def test_a_thumb_is_read_in_every_common_spelling(said, feedback):
    assert read(trace_id=HEX, **said).feedback == feedback


@pytest.mark.parametrize(
    "said",
    [
        {"traceId": HEX},
        {"Trace-ID": HEX},
        {"mlflow_trace_id": f"tr-{HEX}", "trace_id": "1-67891234-12456789abcdef0123456789"},
        {"traceparent": f"00-{HEX}-b7ad6b7169203331-01"},
        {"trace": {"id": HEX}},
        {"detail": {"traceId": HEX}},
        {"trace_id": "", "xray_trace_id": f"1-{HEX[:8]}-{HEX[8:]}"},
        {"trace_id": "not a trace", "otelTraceId": HEX},
        {"trace_id": HEX, "traceId": HEX},
    ],
)
def test_the_trace_is_found_under_every_common_name(said):
    assert read(thumb="up", **said).trace_id == f"tr-{HEX}"


def test_the_other_parts_are_found_under_their_common_names_too():
    said = {"responseId": "r-1", "sessionId": "s-1", "userId": 17, "releaseBundle": "rc1", "eventId": 99}
    event = read(thumb="up", createdAt="2026-03-24T10:00:00Z", **said)
    assert (event.response_id, event.session_id, event.user, event.release_bundle) == ("r-1", "s-1", "17", "rc1")
    assert (event.event_id, event.timestamp) == ("99", "2026-03-24T10:00:00.000Z")


# Time


@pytest.mark.parametrize(
    "time",
    [
        "2026-03-24T10:00:00Z",
        "2026-03-24T19:00:00+09:00",
        "2026-03-24 10:00:00",
        "20260324T100000Z",
        "Tue, 24 Mar 2026 10:00:00 GMT",
        1_774_346_400,
        1_774_346_400.0,
        "1774346400",
        1_774_346_400_000,
        "1774346400000",
        1_774_346_400_000_000,
        1_774_346_400_000_000_000,
    ],
)
def test_a_time_is_read_in_every_unit_and_form(time):
    event = read(trace_id=HEX, thumb="up", timestamp=time)
    assert (event.timestamp, event.time_from) == ("2026-03-24T10:00:00.000Z", "event")


def test_clocks_that_differ_a_little_are_believed():
    event = read(trace_id=HEX, thumb="up", ts="2026-03-24T12:00:04Z")
    assert (event.timestamp, event.time_from) == ("2026-03-24T12:00:04.000Z", "event")


@pytest.mark.parametrize("time", ["2099-01-01T00:00:00Z", 4_070_908_800, "2026-03-24T12:00:06Z", 10**19])
def test_a_time_after_the_arrival_is_the_arrival(time):
    event = read(trace_id=HEX, thumb="up", ts=time)
    assert (event.timestamp, event.time_from) == ("2026-03-24T12:00:00.000Z", "clipped")


NO_TIMES = ("yesterday", 5, -1, True, "0001-01-01T00:00:00+14:00", 10**30, {"id": "x"}, "12:00", [1], "9" * 400)


@pytest.mark.parametrize("time", NO_TIMES)
def test_a_time_that_is_none_is_the_arrival_and_told_apart(time):
    event = read(trace_id=HEX, thumb="up", ts=time)
    assert (event.timestamp, event.time_from) == ("2026-03-24T12:00:00.000Z", "unreadable")


@given(st.datetimes(datetime(2000, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - bounds only
def test_the_time_in_milliseconds_is_that_of_the_text(moment):
    arrived = datetime(9999, 1, 1, tzinfo=UTC)
    made = parse_feedback(json.dumps({**EVENT.to_dict(), "timestamp": moment.isoformat()}).encode(), arrived=arrived)
    assert made.timestamp_ms == (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


# Identity


def test_the_same_content_has_the_same_identity_and_a_changed_mind_another():
    first = read(trace_id=HEX, thumb="up", ts=1_774_346_400)
    again = read(traceId=f"tr-{HEX}", rating=1, ts=1_774_346_400, arrived=ARRIVED + timedelta(minutes=3))
    assert again.event_id == first.event_id
    changed = read(trace_id=HEX, thumb="down", ts=1_774_346_400)
    later = read(trace_id=HEX, thumb="up", ts=1_774_346_401)
    assert len({first.event_id, changed.event_id, later.event_id}) == 3


def test_without_a_time_of_its_own_an_event_is_told_by_content_and_arrival():
    first = read(trace_id=HEX, thumb="up")
    assert read(trace_id=HEX, thumb="up").event_id == first.event_id
    later = read(trace_id=HEX, thumb="up", arrived=ARRIVED + timedelta(seconds=1))
    assert later.event_id != first.event_id
    assert later.event_id[-32:] == first.event_id[-32:]
    after = parse_feedback(json.dumps({"trace_id": HEX, "thumb": "down"}).encode(), arrived=ARRIVED, place="2")
    before = parse_feedback(json.dumps({"trace_id": HEX, "thumb": "up"}).encode(), arrived=ARRIVED, place="1")
    assert before.event_id < after.event_id


def test_a_table_with_a_word_for_both_thumbs_is_refused():
    table = "schema = 1\nenvelopes = []\n[fields]\n[thumb]\nwords = []\ntrue_is_up = []\ntrue_is_down = []\n"
    with pytest.raises(ValueError, match="both thumbs: up"):
        FeedbackFields.parse(table + 'up = ["Up"]\ndown = ["up"]\n')
    with pytest.raises(ValueError, match="schema"):
        FeedbackFields.parse("schema = 2")
