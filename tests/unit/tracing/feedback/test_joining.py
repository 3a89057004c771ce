"""Events that do not say everything: they wait for their traces, lose nothing, and keep no id of a person."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.core.ingestion_tables import IngestionConflictError
from mangaassist_assets.privacy import pseudonym
from mangaassist_assets.tracing.feedback.events import FeedbackEvent, latest_feedback, parse_feedback
from mangaassist_assets.tracing.feedback.ingestion import FeedbackIngestion, ingest_new
from mangaassist_assets.tracing.feedback.joining import Joined, TraceFacts, join_waiting
from mangaassist_assets.tracing.feedback.sources import FeedbackBatch

KEY = b"k" * 32
BUNDLE = "2026.03.24-rc2"
ARRIVED = datetime(2026, 3, 24, 12, 0, tzinfo=UTC)
USER = "jane.doe@example.invalid"
USER_KEY = pseudonym(USER, KEY)


def hexadecimal(number: int) -> str:
    return f"{number + 1:032x}"


def trace_id(number: int) -> str:
    return f"tr-{hexadecimal(number)}"


def said(seconds: float = 0, **content: Any) -> FeedbackEvent:
    return parse_feedback(json.dumps(content).encode(), arrived=ARRIVED + timedelta(seconds=seconds))


@dataclass
class Events:
    """A source that holds events; the position is an index."""

    events: list[FeedbackEvent] = field(default_factory=list)

    def read_new(self, cursor: Mapping[str, Any], limit: int = 10) -> FeedbackBatch:
        start = int(cursor.get("at", 0))
        found = tuple(self.events[start : start + limit])
        return FeedbackBatch(events=found, rejects=(), cursor={"at": start + len(found)})


@dataclass
class Traces:
    traces: dict[str, TraceFacts] = field(default_factory=dict)
    responses: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def put(self, number: int, *, bundle: str | None = BUNDLE, user: str | None = None, response: str = "") -> None:
        session = f"s-{number}"
        facts = TraceFacts(trace_id=trace_id(number), release_bundle=bundle, session_id=session, user=user)
        self.traces[facts.trace_id] = facts
        self.responses[response] = facts.trace_id

    def by_trace_id(self, trace_ids: Sequence[str]) -> Mapping[str, TraceFacts]:
        self.asked += trace_ids
        return {one: self.traces[one] for one in trace_ids if one in self.traces}

    def by_response_id(self, response_ids: Sequence[str]) -> Mapping[str, TraceFacts]:
        self.asked += response_ids
        return {one: self.traces[self.responses[one]] for one in response_ids if one in self.responses}


@pytest.fixture
def ingestion(tmp_path: Path) -> FeedbackIngestion:
    return FeedbackIngestion.at(str(tmp_path / "ingestion"))


@pytest.fixture
def traces() -> Traces:
    return Traces()


def ingest(ingestion: FeedbackIngestion, *events: FeedbackEvent, **options: Any) -> None:
    source = Events(list(events))
    source.events = [*[said(trace_id=hexadecimal(0), thumb="up")] * int(ingestion.cursor().get("at", 0)), *events]
    ingest_new(source, ingestion, pseudonym_key=KEY, **options)


def join(ingestion: FeedbackIngestion, *finders: Traces, **options: Any) -> Joined:
    return join_waiting(ingestion, finders, pseudonym_key=KEY, **{"now": ARRIVED, **options})


def test_what_an_event_leaves_out_comes_from_its_trace(ingestion, traces):
    traces.put(1, user=USER)
    ingest(ingestion, said(response_id="r-1", trace_id=hexadecimal(1), thumb="down"))
    assert ingestion.bundles() == []
    assert join(ingestion, traces) == Joined(joined=1)
    (event,) = ingestion.table(BUNDLE).events
    assert (event.trace_id, event.session_id, event.user_key) == (trace_id(1), "s-1", USER_KEY)
    assert (event.feedback, event.timestamp) == ("thumbs_down", "2026-03-24T12:00:00.000Z")
    assert ingestion.waiting() == []


def test_an_event_that_says_everything_does_not_wait(ingestion, traces):
    ingest(ingestion, said(trace_id=hexadecimal(1), thumb="up", session_id="s", release_bundle=BUNDLE))
    assert len(ingestion.table(BUNDLE).events) == 1
    assert join(ingestion, traces) == Joined()
    assert traces.asked == []


def test_an_event_waits_for_its_trace_however_long_and_says_so(ingestion, traces):
    ingest(ingestion, said(trace_id=hexadecimal(1), thumb="up"), said(trace_id=hexadecimal(2), thumb="up"))
    traces.put(2)
    assert join(ingestion, traces) == Joined(joined=1, waiting=1, oldest="2026-03-24T12:00:00.000Z")
    late = ARRIVED + timedelta(days=400)
    assert join(ingestion, traces, now=late).overdue == 1
    traces.put(1)
    assert join(ingestion, traces, now=late) == Joined(joined=1)
    assert {one.trace_id for one in ingestion.table(BUNDLE).events} == {trace_id(1), trace_id(2)}


def test_a_response_leads_to_its_trace_where_the_event_names_none_or_one_that_is_not_there(ingestion, traces):
    traces.put(1, response="r-1")
    ingest(
        ingestion, said(response_id="r-1", thumb="up"), said(response_id="r-1", trace_id=hexadecimal(9), thumb="down")
    )
    assert join(ingestion, traces).joined == 2
    assert {one.trace_id for one in ingestion.table(BUNDLE).events} == {trace_id(1)}


def test_a_trace_without_a_bundle_is_looked_up_elsewhere(ingestion, traces):
    elsewhere = Traces()
    traces.put(1, bundle=None)
    elsewhere.put(1)
    ingest(ingestion, said(trace_id=hexadecimal(1), thumb="up"))
    assert join(ingestion, traces).waiting == 1
    assert join(ingestion, traces, elsewhere).joined == 1


def test_what_an_event_says_itself_stays(ingestion, traces):
    traces.put(1, user="someone else")
    ingest(ingestion, said(trace_id=hexadecimal(1), thumb="up", release_bundle="stated", user_id=USER))
    assert join(ingestion, traces).joined == 1
    (event,) = ingestion.table("stated").events
    assert (event.session_id, event.user_key) == ("s-1", USER_KEY)


@pytest.mark.parametrize(
    "content",
    [
        {"session_id": USER},
        {"session_id": "U-4711", "user_id": "U-4711"},
        {"session_id": "+81 90-1234-5678"},
        {"user": {"id": USER}},
        {"event_id": f"{USER}-1"},
        {"response_id": USER},
        {"response_id": "Jane U-4711"},
    ],
)
def test_no_id_of_a_person_is_kept(ingestion, traces, tmp_path, content):
    traces.put(1, user=USER)
    ingest(ingestion, said(trace_id=hexadecimal(1), thumb="up", **content))
    join(ingestion, traces)
    (event,) = ingestion.table(BUNDLE).events
    assert event.session_id
    kept = "".join(
        str(pl.read_parquet(path).to_dicts()) if path.suffix == ".parquet" else path.read_text("latin-1")
        for path in (tmp_path / "ingestion").rglob("*")
        if path.is_file()
    )
    assert not any(one in kept for one in (USER, "U-4711", "1234-5678"))


def test_a_session_of_an_ordinary_form_stays_and_the_same_person_is_the_same_pseudonym(ingestion):
    ordinary = ("sess_9", "550e8400-e29b-41d4-a716-446655440000", "2f1c9d3e4b5a69788796a5b4c3d2e1f0")
    everything = {"thumb": "up", "release_bundle": BUNDLE}
    ingest(ingestion, *(said(trace_id=hexadecimal(n), session_id=one, **everything) for n, one in enumerate(ordinary)))
    ingest(ingestion, *(said(trace_id=hexadecimal(9 + n), session_id=USER, **everything) for n in range(2)))
    sessions = [one.session_id for one in ingestion.table(BUNDLE).events]
    assert set(ordinary) <= set(sessions)
    assert len(set(sessions) - set(ordinary)) == 1


def test_events_of_erased_users_are_dropped_when_the_trace_tells_who_they_are(ingestion, traces):
    traces.put(1, user=USER)
    ingest(ingestion, said(trace_id=hexadecimal(1), thumb="up"))
    assert join(ingestion, traces, erased={USER_KEY}) == Joined(erased=1)
    assert ingestion.table(BUNDLE).events == ()
    assert ingestion.dropped_of_erased_users() == 1


def test_an_erasure_reaches_events_that_wait(ingestion):
    ingest(
        ingestion, said(trace_id=hexadecimal(1), thumb="up", user_id=USER), said(trace_id=hexadecimal(2), thumb="up")
    )
    assert ingestion.erase(user_keys=[USER_KEY], trace_ids=[trace_id(2)]) == 2
    assert ingestion.waiting() == []


def test_one_id_on_two_traces_waits_for_both(ingestion, traces):
    traces.put(1)
    ingest(ingestion, *(said(event_id="same", trace_id=hexadecimal(number), thumb="up") for number in (1, 2)))
    assert join(ingestion, traces).waiting == 1
    assert [one["trace_id"] for one in ingestion.waiting()] == [trace_id(2)]


def test_a_joining_that_was_cut_off_is_done_again_without_a_second_event(ingestion, traces, monkeypatch):
    traces.put(1)
    ingest(ingestion, said(trace_id=hexadecimal(1), thumb="up"))
    with monkeypatch.context() as cut:
        cut.setattr("mangaassist_assets.core.ingestion_tables.IngestionTable.replace", _cut)
        with pytest.raises(ConnectionError):
            join(ingestion, traces)
    assert len(ingestion.waiting()) == 1
    assert join(ingestion, traces).joined == 1
    table = ingestion.table(BUNDLE)
    assert (len(table.events), table.duplicates) == (1, 1)


def _cut(*_: object) -> None:
    raise ConnectionError


def test_a_joining_that_loses_the_race_begins_again(ingestion, traces, monkeypatch):
    traces.put(1)
    ingest(ingestion, said(trace_id=hexadecimal(1), thumb="up"))
    settle, raced = FeedbackIngestion.settle, []

    def racing(self: FeedbackIngestion, *arguments: Any, **options: Any) -> None:
        if not raced:
            raced.append(True)
            raise IngestionConflictError
        settle(self, *arguments, **options)

    monkeypatch.setattr(FeedbackIngestion, "settle", racing)
    assert join(ingestion, traces) == Joined(joined=1)


def test_one_thumb_repeated_by_the_stream_counts_once_and_a_mind_changed_back_is_a_new_one(ingestion, traces):
    traces.put(1)
    presses = [(0, "up"), (0, "up"), (0.4, "up"), (5, "down"), (5.1, "down"), (9, "up")]
    ingest(ingestion, *(said(seconds, trace_id=hexadecimal(1), thumb=thumb) for seconds, thumb in presses))
    join(ingestion, traces)
    table = ingestion.table(BUNDLE)
    assert [one.feedback for one in table.events] == ["thumbs_up", "thumbs_down", "thumbs_up"]
    assert latest_feedback(table.events) == {trace_id(1): "thumbs_up"}


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 3), st.booleans()), max_size=20),
    st.integers(0, 2**32),
)
def test_any_order_repetition_and_time_of_joining_give_the_same_table(pressed, seed):
    chance = random.Random(seed)
    events = [
        said(
            second, trace_id=hexadecimal(trace), thumb="up" if up else "down", **({"ts": 1_774_346_400} if own else {})
        )
        for trace, up, second, own in pressed
    ]
    traces = Traces()
    for number in range(3):
        traces.put(number)
    with tempfile.TemporaryDirectory() as folder:
        clean, messy = FeedbackIngestion.at(f"{folder}/clean"), FeedbackIngestion.at(f"{folder}/messy")
        ingest_new(Events(events), clean, pseudonym_key=KEY)
        join(clean, traces)
        deliveries = events + chance.sample(events, len(events) // 2)
        chance.shuffle(deliveries)
        source = Events()
        for event in deliveries:
            source.events.append(event)
            if chance.random() < 0.2:
                ingest_new(source, messy, pseudonym_key=KEY)
                join(messy, *([traces] if chance.random() < 0.5 else []))
        ingest_new(source, messy, pseudonym_key=KEY)
        join(messy, traces)
        assert messy.table(BUNDLE).to_parquet() == clean.table(BUNDLE).to_parquet()
        assert {one["event_id"] for one in messy.waiting()} == {
            one.event_id for one in events if one.trace_id == trace_id(3)
        }
