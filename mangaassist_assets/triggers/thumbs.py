"""Votes of shoppers: one for each trace, whether a thumb came as an event, as a tag, as an assessment, or as all three.

A trace that carries a thumb is a vote, and is only counted. An event is remembered until the trace carries it as an
event's, which is when it was recorded there: until then it adds a vote to a trace that has none, or changes that of a
trace that says something else. So every thumb counts once, in whatever order its forms arrive.

Not all traces are looked at every time. Nothing says which old traces got a late tag, so the whole history is counted
again after a while, and whenever that is cheap, since there are few thumbs; what is new is counted always.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from mangaassist_assets.core.bundles import bundle_defect

Thumb = Literal["thumbs_up", "thumbs_down"]
Count = Annotated[int, Field(ge=0)]

RECENT_MS = 24 * 60 * 60 * 1000
"""A thumb comes minutes after its turn, rarely a day: traces of this age and younger are counted at every look."""
COUNT_AGAIN_MS = 60 * 60 * 1000
CHEAP = 1_000
"""So few thumbs are counted afresh at every look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Votes:
    """How many traces say what."""

    up: Count = 0
    down: Count = 0

    @property
    def total(self) -> int:
        """Traces with a thumb."""
        return self.up + self.down

    @property
    def share(self) -> float:
        """Share of thumbs-downs, 0.0 without any thumb."""
        return self.down / self.total if self.total else 0.0

    def plus(self, thumb: Thumb, count: int = 1) -> Votes:
        """Return the votes with so many more."""
        return replace(self, up=self.up + count) if thumb == "thumbs_up" else replace(self, down=self.down + count)

    def since(self, before: Votes) -> Votes:
        """Return what came since; a mind that was changed takes nothing away from the other thumb's count."""
        return Votes(up=max(0, self.up - before.up), down=max(0, self.down - before.down))

    def at_most(self, other: Votes) -> Votes:
        """Return the lesser of each: after an erasure there are fewer votes than were counted."""
        return Votes(up=min(self.up, other.up), down=min(self.down, other.down))


class PressedThumb(NamedTuple):
    """A thumb of the stream; what it does not say is None. `time_ms` is milliseconds since the epoch (UTC).

    A tuple, since a cursor remembers a thousand of them without the names of their fields.
    """

    event_id: str
    trace_id: str | None
    feedback: Thumb
    time_ms: int
    response_id: str | None = None
    release_bundle: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceVote:
    """What a trace says.

    `feedback` is its thumb or None; `event_ms` the time of the newest event that was recorded on it, or None.
    """

    trace_id: str
    release_bundle: str | None
    feedback: Thumb | None
    event_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Votes by bundle, and what is remembered.

    `waiting` events name no bundle, and a trace that is not there or has none: they count when it has. `strays` name
    another bundle than their trace. `let_go` were too many to remember: they count once they are recorded.
    """

    votes: Mapping[str, Votes]
    remembered: tuple[PressedThumb, ...]
    waiting: int
    strays: int
    let_go: int


def count_votes(
    on_traces: Mapping[str, Votes],
    pressed: Iterable[PressedThumb],
    traces: Mapping[str, TraceVote],
    *,
    remember: int,
) -> Counted:
    """Count the votes of all bundles.

    `pressed` are thumbs of the stream that may not be on their traces, new and remembered ones; `traces` has what their
    traces say, by trace id and by response id. At most `remember` events are remembered.
    """
    votes: dict[str, Votes] = defaultdict(Votes, on_traces)
    # What can be let go first: what changes nothing now, what counts for nobody yet, what counts.
    idle: list[PressedThumb] = []
    waiting: list[PressedThumb] = []
    counting: list[PressedThumb] = []
    strays = 0
    for thumb, trace in _newest(pressed, traces):
        if trace is None or (trace.release_bundle is None and thumb.release_bundle is None):
            if thumb.release_bundle is None:
                waiting.append(thumb)
            else:
                votes[thumb.release_bundle] = votes[thumb.release_bundle].plus(thumb.feedback)
                counting.append(thumb)
        elif trace.event_ms is not None and trace.event_ms >= thumb.time_ms:
            continue
        elif trace.release_bundle is None or thumb.release_bundle not in (None, trace.release_bundle):
            # What the trace says of itself is true: such an event was made up, or misdirected.
            strays += 1
        elif trace.feedback == thumb.feedback:
            idle.append(thumb)
        else:
            bundle = votes[trace.release_bundle]
            if trace.feedback is not None:
                bundle = bundle.plus(trace.feedback, -1)
            votes[trace.release_bundle] = bundle.plus(thumb.feedback)
            counting.append(thumb)
    ranked = [*_by_time(idle), *_by_time(waiting), *_by_time(counting)]
    kept = ranked[max(0, len(ranked) - remember) :]
    return Counted(
        votes={bundle: count for bundle, count in sorted(votes.items()) if bundle_defect(bundle) is None},
        remembered=tuple(kept),
        waiting=len(waiting),
        strays=strays,
        let_go=max(0, len(waiting) + len(counting) - remember),
    )


def _newest(
    pressed: Iterable[PressedThumb], traces: Mapping[str, TraceVote]
) -> list[tuple[PressedThumb, TraceVote | None]]:
    newest: dict[str, tuple[PressedThumb, TraceVote | None]] = {}
    for thumb in pressed:
        trace = traces.get(thumb.trace_id or "") or traces.get(thumb.response_id or "")
        key = trace.trace_id if trace is not None else thumb.trace_id or f"response {thumb.response_id}"
        known = newest.get(key)
        if known is None or (thumb.time_ms, thumb.event_id) > (known[0].time_ms, known[0].event_id):
            # A response that was found is not looked for again.
            newest[key] = (thumb if trace is None else thumb._replace(trace_id=trace.trace_id), trace)
    return list(newest.values())


def _by_time(pressed: Sequence[PressedThumb]) -> list[PressedThumb]:
    return sorted(pressed, key=lambda one: (one.time_ms, one.event_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class ThumbOnTrace:
    """A trace that carries a thumb: when it began (ms since the epoch, UTC), its bundle and the thumb."""

    timestamp_ms: int
    release_bundle: str
    feedback: Thumb


@dataclass(frozen=True, slots=True, kw_only=True)
class ThumbHistory:
    """Votes of the traces that began until `until_ms`, as they were counted at `counted_ms`."""

    until_ms: int = -1
    counted_ms: int = 0
    thumbs: int = 0
    votes: Mapping[str, Votes] = field(default_factory=dict)


def votes_on_traces(
    history: ThumbHistory, thumbs_after: Callable[[int], Sequence[ThumbOnTrace]], *, now_ms: int
) -> tuple[Mapping[str, Votes], ThumbHistory]:
    """Return the votes of all traces by bundle, and the history to go on from.

    `thumbs_after` gives the traces with a thumb that began after a time (ms since the epoch).
    """
    due = history.thumbs <= CHEAP or not 0 <= now_ms - history.counted_ms < COUNT_AGAIN_MS
    if not due:
        recent = thumbs_after(history.until_ms)
        return _sum(history.votes, _count(recent)), history
    found = thumbs_after(-1)
    # A clock that runs ahead must not make all that is to come old.
    newest = min(max((one.timestamp_ms for one in found), default=-1), now_ms)
    until = newest - RECENT_MS
    old = _count([one for one in found if one.timestamp_ms <= until])
    recent_votes = _count([one for one in found if one.timestamp_ms > until])
    return _sum(old, recent_votes), ThumbHistory(until_ms=until, counted_ms=now_ms, thumbs=len(found), votes=old)


def _count(thumbs: Sequence[ThumbOnTrace]) -> dict[str, Votes]:
    votes: dict[str, Votes] = defaultdict(Votes)
    for one in thumbs:
        votes[one.release_bundle] = votes[one.release_bundle].plus(one.feedback)
    return dict(votes)


def _sum(first: Mapping[str, Votes], second: Mapping[str, Votes]) -> dict[str, Votes]:
    total: dict[str, Votes] = defaultdict(Votes, first)
    for bundle, count in second.items():
        total[bundle] = Votes(up=total[bundle].up + count.up, down=total[bundle].down + count.down)
    return dict(total)
