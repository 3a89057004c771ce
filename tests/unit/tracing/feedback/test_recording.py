"""Recording feedback on traces: each event once, the newest as the tag, whatever stops the writer."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.core.codecs import SnapshotSchemaError, to_parquet
from mangaassist_assets.tracing.feedback.events import FeedbackRecord, latest_feedback
from mangaassist_assets.tracing.feedback.recording import (
    RECORDING_FILE,
    FeedbackRefusedError,
    TraceFeedback,
    TraceGoneError,
    TraceThumb,
    record_events,
    recorded_before,
)
from tests.support.examples import examples

BUNDLE = "rc1"


def event(number: int, trace: int | None = None, *, up: bool = False, second: int = 0, **fields) -> FeedbackRecord:
    made = FeedbackRecord(
        event_id=f"fb-{number}",
        trace_id=f"tr-{number if trace is None else trace}",
        session_id="s",
        user_key=None,
        release_bundle=BUNDLE,
        feedback="thumbs_up" if up else "thumbs_down",
        timestamp=f"2026-03-24T10:00:{second:02d}.000Z",
    )
    return replace(made, **fields)


class PowerCut(BaseException):
    """The process ends here."""


@dataclass
class MemoryTraces:
    """Traces with thumbs and tags; `cut_after` calls the power goes, before or after the write."""

    traces: dict[str, TraceFeedback] = field(default_factory=dict)
    cut_after: int | None = None
    writes_before_cut: bool = True
    looked_at: list[str] = field(default_factory=list)
    refused: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    calls: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, *trace_ids: str, bundle: str | None = BUNDLE, finished: bool = True) -> None:
        for trace_id in trace_ids:
            self.traces[trace_id] = TraceFeedback(release_bundle=bundle, finished=finished, tag=None, thumbs=())

    def look(self, trace_ids: Sequence[str]) -> Mapping[str, TraceFeedback]:
        self.looked_at += trace_ids
        return {trace_id: self.traces[trace_id] for trace_id in trace_ids if trace_id in self.traces}

    def add_thumb(self, event: FeedbackRecord) -> None:
        if event.trace_id in self.gone:
            raise TraceGoneError(event.trace_id)
        if event.event_id in self.refused:
            raise FeedbackRefusedError(event.event_id)
        thumb = TraceThumb(event_id=event.event_id, event_time_ms=event.timestamp_ms, value=event.feedback)
        self._write(event.trace_id, lambda trace: replace(trace, thumbs=(*trace.thumbs, thumb)))

    def set_tag(self, trace_id: str, feedback: str) -> None:
        self._write(trace_id, lambda trace: replace(trace, tag=feedback))

    def _write(self, trace_id, change) -> None:
        with self.lock:
            self.calls += 1
            cut = self.cut_after is not None and self.calls > self.cut_after
            if not cut or self.writes_before_cut:
                self.traces[trace_id] = change(self.traces[trace_id])
            if cut:
                raise PowerCut

    def thumbs(self) -> Counter[str]:
        return Counter(str(thumb.event_id) for trace in self.traces.values() for thumb in trace.thumbs)

    def tags(self) -> dict[str, str]:
        return {trace_id: trace.tag for trace_id, trace in self.traces.items() if trace.tag is not None}


@pytest.fixture
def traces() -> MemoryTraces:
    made = MemoryTraces()
    made.put("tr-1", "tr-2", "tr-3")
    return made


def test_each_event_becomes_one_thumb_and_the_newest_the_tag(traces):
    events = [event(1), event(2), event(3, 2, up=True, second=9), event(4, 2, second=3)]
    recording = record_events(events, traces)
    assert traces.thumbs() == {"fb-1": 1, "fb-2": 1, "fb-3": 1, "fb-4": 1}
    assert traces.tags() == {"tr-1": "thumbs_down", "tr-2": "thumbs_up"}
    assert (recording.added, recording.found, recording.tags_set) == (4, 0, 2)
    assert recording.count("recorded") == 4


def test_an_event_before_its_trace_waits_and_is_recorded_when_the_trace_is_there(traces):
    early = [event(1), event(9)]
    first = record_events(early, traces)
    assert (first.count("recorded"), first.count("pending")) == (1, 1)
    traces.put("tr-9", finished=False)
    assert record_events(early, traces).count("pending") == 1
    traces.put("tr-9")
    assert record_events(early, traces).count("pending") == 0
    assert traces.thumbs() == {"fb-1": 1, "fb-9": 1}


def test_what_is_remembered_is_not_looked_at_again_unless_its_trace_has_news(traces):
    before = recorded_before(record_events([event(1), event(2)], traces).files()[RECORDING_FILE])
    traces.looked_at.clear()
    again = record_events([event(1), event(2), event(3, 2, up=True, second=5)], traces, remembered=before)
    assert traces.looked_at == ["tr-2"]
    assert (again.remembered, again.found, again.added) == (2, 1, 1)
    assert traces.tags()["tr-2"] == "thumbs_up"


def test_an_older_event_that_comes_late_leaves_the_newer_tag(traces):
    before = recorded_before(record_events([event(1, up=True, second=30)], traces).files()[RECORDING_FILE])
    record_events([event(1, up=True, second=30), event(2, 1, second=1)], traces, remembered=before)
    assert traces.tags()["tr-1"] == "thumbs_up"
    assert traces.thumbs() == {"fb-1": 1, "fb-2": 1}


def test_memory_that_is_lost_doubles_nothing(traces):
    record_events([event(1), event(2)], traces)
    again = record_events([event(1), event(2)], traces)
    assert (again.added, again.found, again.tags_set) == (0, 2, 0)


def test_a_thumb_that_was_put_there_without_its_event_id_is_the_same_press(traces):
    press = TraceThumb(event_id=None, event_time_ms=event(1).timestamp_ms, value="thumbs_down")
    traces.traces["tr-1"] = replace(traces.traces["tr-1"], thumbs=(press,), tag="thumbs_down")
    other = TraceThumb(event_id=None, event_time_ms=event(2).timestamp_ms + 1, value="thumbs_down")
    traces.traces["tr-2"] = replace(traces.traces["tr-2"], thumbs=(other,))
    assert record_events([event(1), event(2)], traces).added == 1
    assert traces.thumbs() == {"None": 2, "fb-2": 1}


def test_an_event_about_a_trace_of_another_bundle_is_not_recorded(traces):
    traces.put("tr-1", bundle="rc2")
    traces.put("tr-2", bundle=None)
    recording = record_events([event(1), event(2), event(3)], traces)
    assert (recording.count("other_bundle"), recording.count("recorded")) == (2, 1)
    assert traces.thumbs() == {"fb-3": 1}


def test_one_event_that_is_refused_and_one_trace_that_vanishes_do_not_stop_the_others(traces):
    traces.refused, traces.gone = frozenset({"fb-1"}), frozenset({"tr-2"})
    recording = record_events([event(1), event(4, 1, second=2), event(2), event(3)], traces)
    assert dict(recording.frame.select("event_id", "state").iter_rows()) == {
        "fb-1": "refused",
        "fb-4": "recorded",
        "fb-2": "pending",
        "fb-3": "recorded",
    }
    assert traces.thumbs() == {"fb-4": 1, "fb-3": 1}


def test_a_foreign_table_is_no_memory():
    frame = record_events([], MemoryTraces()).frame
    assert recorded_before(to_parquet(frame)) == frozenset()
    with pytest.raises(SnapshotSchemaError, match="delete the snapshot recorded_feedback, then materialize"):
        recorded_before(to_parquet(frame.drop("state")))


@settings(max_examples=examples(60), deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 4), st.booleans(), st.integers(0, 5)), max_size=20),
    st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=5),
    st.integers(0, 20),
)
def test_any_number_of_power_cuts_ends_where_one_clean_run_does(pressed, cuts, known):
    events = list(
        {number: event(number, trace, up=up, second=second) for number, trace, up, second in pressed}.values()
    )
    clean, cut = MemoryTraces(), MemoryTraces()
    for traces in (clean, cut):
        traces.put("tr-0", "tr-1", "tr-2")
    expected = record_events(events, clean)
    memory = frozenset()
    for number, (after, writes) in enumerate(cuts):
        cut.cut_after, cut.writes_before_cut, cut.calls = after, writes, 0
        try:
            memory = recorded_before(
                record_events(events[: known + number], cut, remembered=memory).files()[RECORDING_FILE]
            )
        except PowerCut:
            continue
    cut.cut_after = None
    finished = record_events(events, cut, remembered=memory)
    assert finished.files() == expected.files()
    assert cut.thumbs() == clean.thumbs()
    assert set(cut.thumbs().values()) <= {1}
    assert cut.tags() == clean.tags()
    assert cut.tags().items() <= latest_feedback(events).items()
