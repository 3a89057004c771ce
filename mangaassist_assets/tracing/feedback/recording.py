"""Recording feedback events on the traces they are about: an assessment for each event, a tag for the newest.

Exactly once without trusting memory: before anything is written, the assessments of the trace are looked at. What was
recorded and verified before is remembered only to save the look. An event whose trace does not exist yet, or is still
being written, stays pending and is tried again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, cast

import polars as pl

from mangaassist_assets.core.codecs import check_schema, to_parquet
from mangaassist_assets.core.figures import Figures
from mangaassist_assets.tracing.contract.turns import Feedback
from mangaassist_assets.tracing.feedback.events import FeedbackRecord, latest_feedback

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore

RecordingState = Literal["recorded", "pending", "other_bundle", "refused"]
"""`pending`: the trace is not there or not finished; `other_bundle`: it belongs to another bundle than the event says;
`refused`: the tracking server does not take the event."""

RECORDING_FILE = "recording.parquet"
STATE_SCHEMA = pl.Schema(dict.fromkeys(("event_id", "trace_id", "timestamp", "feedback", "state"), pl.String))
_TRACES_PER_LOOK = 100


class TraceGoneError(LookupError):
    """The trace does not exist, or does no longer."""


class FeedbackRefusedError(ValueError):
    """The tracking server does not take this feedback, however often it is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceThumb:
    """A human `user_feedback` assessment on a trace; event id and time are from its metadata."""

    event_id: str | None
    event_time_ms: int | None
    value: object


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFeedback:
    """What a trace says of feedback."""

    release_bundle: str | None
    finished: bool
    tag: str | None
    thumbs: tuple[TraceThumb, ...]


class FeedbackRecorder(Protocol):
    """Where feedback is recorded."""

    def look(self, trace_ids: Sequence[str]) -> Mapping[str, TraceFeedback]:
        """Return what those of the traces that exist say."""

    def add_thumb(self, event: FeedbackRecord) -> None:
        """Add the event's assessment; raises TraceGoneError or FeedbackRefusedError."""

    def set_tag(self, trace_id: str, feedback: Feedback) -> None:
        """Let the trace's tag say what the newest event says; raises TraceGoneError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What became of the events: a frame in STATE_SCHEMA sorted by (timestamp, event_id), and what was written now.

    `remembered` were known to be recorded, `found` were found on their traces, `added` were written now.
    """

    frame: pl.DataFrame
    remembered: int
    found: int
    added: int
    tags_set: int

    def count(self, state: RecordingState) -> int:
        """Return how many events are in a state."""
        return int((self.frame["state"] == state).sum())

    def oldest_pending(self) -> str | None:
        """Return the time of the oldest event that waits for its trace."""
        return cast("str | None", self.frame.filter(pl.col("state") == "pending")["timestamp"].min())

    def figures(self) -> Figures:
        """Return counts of events by state, and of what was written."""
        return {
            "dagster/row_count": self.frame.height,
            "recorded": self.count("recorded"),
            "pending": self.count("pending"),
            "oldest_pending": self.oldest_pending() or "none",
            "of_another_bundle": self.count("other_bundle"),
            "refused": self.count("refused"),
            "newly_recorded": self.added,
            "found_on_traces": self.found,
            "remembered": self.remembered,
            "tags_set": self.tags_set,
        }

    def files(self) -> dict[str, bytes]:
        """Return the states as they are stored; the same states give the same bytes with the same version of polars."""
        return {RECORDING_FILE: to_parquet(self.frame)}


def recorded_before(content: bytes) -> frozenset[tuple[str, str, str, str]]:
    """Return what a stored recording holds as recorded: (event id, trace id, timestamp, feedback).

    Raises:
        SnapshotSchemaError: the bytes are another table.
    """
    first = "delete the snapshot recorded_feedback, then "
    frame = check_schema(pl.read_parquet(content), STATE_SCHEMA, "recorded_feedback", first=first)
    kept = frame.filter(pl.col("state") == "recorded").select("event_id", "trace_id", "timestamp", "feedback")
    return frozenset(cast("Iterable[tuple[str, str, str, str]]", kept.iter_rows()))


def read_recorded(store: SnapshotStore, release_bundle: str) -> frozenset[tuple[str, str, str, str]]:
    """Return what the stored recording of a bundle holds as recorded; nothing where there is none."""
    before = store.find("recorded_feedback", partition=release_bundle)
    return frozenset() if before is None else recorded_before(store.read(before, RECORDING_FILE))


def record_events(
    events: Sequence[FeedbackRecord],
    recorder: FeedbackRecorder,
    *,
    remembered: frozenset[tuple[str, str, str, str]] = frozenset(),
    threads: int = 4,
) -> Recording:
    """Record every event on its trace.

    `events` are all distinct ones of a bundle: the newest of a trace decides its tag. Traces of which all events are
    `remembered`, by `recorded_before`, are not looked at. `threads` traces are written at the same time.
    """
    by_trace: dict[str, list[FeedbackRecord]] = defaultdict(list)
    for event in events:
        by_trace[event.trace_id].append(event)
    newest = latest_feedback(events)
    states: dict[str, RecordingState] = {event.event_id: "recorded" for event in events if _key(event) in remembered}
    known = len(states)
    doubtful = sorted(
        trace_id for trace_id, said in by_trace.items() if any(one.event_id not in states for one in said)
    )
    done: Counter[str] = Counter()
    with ThreadPoolExecutor(threads, thread_name_prefix="feedback") as pool:
        for start in range(0, len(doubtful), _TRACES_PER_LOOK):
            portion = doubtful[start : start + _TRACES_PER_LOOK]
            seen = recorder.look(portion)
            tasks = [
                pool.submit(_record_trace, trace_id, by_trace[trace_id], newest[trace_id], seen.get(trace_id), recorder)
                for trace_id in portion
            ]
            for task in tasks:
                outcome = task.result()
                states.update(outcome.states)
                done.update(found=outcome.found, added=outcome.added, tags=outcome.tags_set)
    rows = [
        (event.event_id, event.trace_id, event.timestamp, event.feedback, states[event.event_id])
        for event in sorted(events, key=lambda event: (event.timestamp, event.event_id))
    ]
    return Recording(
        frame=pl.DataFrame(rows, schema=STATE_SCHEMA, orient="row"),
        remembered=known,
        found=done["found"],
        added=done["added"],
        tags_set=done["tags"],
    )


@dataclass(slots=True)
class _Outcome:
    states: dict[str, RecordingState]
    found: int = 0
    added: int = 0
    tags_set: int = 0


def _record_trace(
    trace_id: str,
    events: Sequence[FeedbackRecord],
    newest: Feedback,
    trace: TraceFeedback | None,
    recorder: FeedbackRecorder,
) -> _Outcome:
    """Add what is missing on one trace, the oldest first, then the tag: a killed writer leaves the tag for the next."""
    if trace is None or not trace.finished:
        return _Outcome({event.event_id: "pending" for event in events})
    if trace.release_bundle != events[0].release_bundle:
        # What the trace says of itself is true: such an event was made up, or misdirected.
        return _Outcome({event.event_id: "other_bundle" for event in events})
    outcome = _Outcome({event.event_id: "recorded" for event in events})
    try:
        for event in sorted(events, key=lambda event: (event.timestamp, event.event_id)):
            if any(_is_of(thumb, event) for thumb in trace.thumbs):
                outcome.found += 1
                continue
            try:
                recorder.add_thumb(event)
                outcome.added += 1
            except FeedbackRefusedError:
                outcome.states[event.event_id] = "refused"
        if trace.tag != newest:
            recorder.set_tag(trace_id, newest)
            outcome.tags_set += 1
    except TraceGoneError:
        outcome.states = {event.event_id: "pending" for event in events}
    return outcome


def _is_of(thumb: TraceThumb, event: FeedbackRecord) -> bool:
    if thumb.event_id is not None:
        return thumb.event_id == event.event_id
    # Whoever put a thumb there without the event's id left its time: the same press is not recorded twice.
    return thumb.event_time_ms == event.timestamp_ms and thumb.value == event.feedback


def _key(event: FeedbackRecord) -> tuple[str, str, str, str]:
    return (event.event_id, event.trace_id, event.timestamp, event.feedback)
