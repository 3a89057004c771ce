"""Votes on traces without looking at all of them every time: history is counted now and then, what is new always.

Nothing tells which old traces got a late tag, so the whole history is counted again after a while; and whenever that
is cheap, since there are few thumbs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mangaassist_assets.triggers.thumbs import Thumb, Votes

RECENT_MS = 24 * 60 * 60 * 1000
"""A thumb comes minutes after its turn, rarely a day: traces of this age and younger are counted at every look."""
COUNT_AGAIN_MS = 60 * 60 * 1000
CHEAP = 1_000
"""So few thumbs are counted afresh at every look."""


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

    Args:
        history: What the last look left.
        thumbs_after: Gives the traces with a thumb that began after a time (ms).
        now_ms: The time.
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
