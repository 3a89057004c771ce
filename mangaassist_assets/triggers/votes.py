"""Votes of a bundle: one a shopper and turn, few of one shopper, the newest in a window and the older ones as counts.

What a vote is part of is read from the window each time, so it does not matter in which order votes of one look came,
whether one came twice, or when it became known what its turn was about.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.triggers.evidence import Reference, vote_weights
from mangaassist_assets.triggers.settings import TriggerConfig

_DIGITS = 16
ALL = "all"
NO_VOTES = Reference(down=0.0, votes=0.0)
MINED = "mined"
"""Counts all votes on turns that were mined: what clusters and stages are shares of."""


class TurnFacts(NamedTuple):
    """What is on record of a turn; cluster and stage are those of a failed one.

    `shopper` and `session` are digests.
    """

    trace_id: str
    release_bundle: str
    session: str
    shopper: str | None
    intent: str | None
    cluster: str | None
    stage: str | None


class Vote(NamedTuple):
    """One thumb on one turn. `time_ms` is milliseconds since the epoch (UTC), never later than the arrival.

    `turn` is the trace's id, or that of the response where no trace is known. `event`, `shopper` and `session` are
    digests: who it was can be asked for, not told. Without `mined` nothing is on record of the turn.
    """

    time_ms: int
    event: str
    turn: str
    shopper: str
    session: str | None
    down: bool
    mined: bool = False
    intent: str | None = None
    cluster: str | None = None
    stage: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The newest votes of a bundle, by time; older ones are counted by stream in `folded`, up to `since_ms`."""

    votes: tuple[Vote, ...] = ()
    folded: Mapping[str, Reference] = field(default_factory=dict)
    since_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A window with new votes in it, and how many of those count, repeat what is known, and are not counted."""

    window: Window
    counted: int = 0
    repeated: int = 0
    late: int = 0
    over_cap: int = 0


def digest(value: str) -> str:
    """Return a short digest of an id: equal ids can be told, and no id can be read."""
    return hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=_DIGITS // 2).hexdigest()


def merge(window: Window, new: Iterable[Vote], config: TriggerConfig) -> Merged:
    """Return the window with new votes: the last word of each shopper on each turn, and no more than the caps allow.

    What is older than the window was counted, or could have been: it is late and does not count.
    """
    known = {(one.turn, one.shopper): one for one in window.votes}
    before = dict(known)
    arrived: set[tuple[str, str]] = set()
    late = repeated = 0
    for vote in new:
        key = (vote.turn, vote.shopper)
        there = known.get(key)
        if there is None and vote.time_ms < window.since_ms:
            late += 1
        elif there is None or (vote.time_ms, vote.event) > (there.time_ms, there.event):
            repeated += key in arrived
            arrived.add(key)
            known[key] = vote
        else:
            repeated += 1
    kept = _within_caps(known, before, config)
    counted = sum((one.turn, one.shopper) in arrived for one in kept)
    return Merged(
        window=_fold(Window(votes=tuple(kept), folded=window.folded, since_ms=window.since_ms), config),
        counted=counted,
        repeated=repeated,
        late=late,
        over_cap=len(arrived) - counted,
    )


def _within_caps(
    known: Mapping[tuple[str, str], Vote], before: Mapping[tuple[str, str], Vote], config: TriggerConfig
) -> list[Vote]:
    # A later word on a turn takes the place that the earlier one had among the shopper's votes.
    shoppers, sessions = Counter[str](), Counter[str]()
    kept: list[Vote] = []
    for vote in sorted(known.values(), key=lambda one: ((one.turn, one.shopper) not in before, _place(one))):
        if shoppers[vote.shopper] >= config.shopper_votes:
            continue
        if vote.session is not None and sessions[vote.session] >= config.session_votes:
            continue
        shoppers[vote.shopper] += 1
        if vote.session is not None:
            sessions[vote.session] += 1
        kept.append(vote)
    return sorted(kept, key=_place)


def _place(vote: Vote) -> tuple[int, str, str]:
    return vote.time_ms, vote.turn, vote.shopper


def _fold(window: Window, config: TriggerConfig) -> Window:
    beyond = len(window.votes) - config.window_votes
    if beyond <= 0:
        return window
    # Whole blocks: the places where a rise may begin stay where they are.
    count = min(-(-beyond // config.block_votes) * config.block_votes, len(window.votes))
    return fold(window, count, config)


def fold(window: Window, count: int, config: TriggerConfig) -> Window:
    """Return the window with its oldest votes as mere counts."""
    weights = window_weights(window.votes, config)
    return Window(
        votes=window.votes[count:],
        folded=added(window.folded, counts(window.votes[:count], weights[:count])),
        since_ms=max(window.since_ms, window.votes[count - 1].time_ms) if count else window.since_ms,
    )


def window_weights(votes: Sequence[Vote], config: TriggerConfig) -> Floats:
    """Return how much each vote counts, shape (votes,)."""
    return vote_weights([one.shopper for one in votes], correlation=config.shopper_correlation)


def counts(votes: Sequence[Vote], weights: Iterable[float]) -> dict[str, Reference]:
    """Return thumbs-downs and votes of each stream, weighted; clusters and stages are shares of all mined votes."""
    found: dict[str, Reference] = {}
    for vote, weight in zip(votes, weights, strict=True):
        one = Reference(down=float(weight) if vote.down else 0.0, votes=float(weight))
        for name in streams_of(vote):
            found[name] = found.get(name, NO_VOTES).plus(one)
    mined = found.get(MINED, NO_VOTES).votes
    return {
        name: Reference(down=count.down, votes=mined) if is_share_of_mined(name) else count
        for name, count in found.items()
    }


def streams_of(vote: Vote) -> list[str]:
    """Return the streams that a vote belongs to; to those of a cluster or a stage only a thumbs-down does."""
    names = [ALL]
    if vote.mined:
        names.append(MINED)
        if vote.intent is not None:
            names.append(f"intent {vote.intent}")
        if vote.down:
            names += [f"{kind} {name}" for kind, name in (("cluster", vote.cluster), ("stage", vote.stage)) if name]
    return names


def is_share_of_mined(stream: str) -> bool:
    """Return whether a stream counts the thumbs-downs on failures of one kind among the votes on all mined turns."""
    return stream.startswith(("cluster ", "stage "))


def added(one: Mapping[str, Reference], other: Mapping[str, Reference]) -> dict[str, Reference]:
    """Return the counts of both together, by stream."""
    mined = [Reference(down=0.0, votes=side.get(MINED, NO_VOTES).votes) for side in (one, other)]
    total: dict[str, Reference] = {}
    for name in sorted({*one, *other}):
        absent = mined if is_share_of_mined(name) else [NO_VOTES, NO_VOTES]
        total[name] = one.get(name, absent[0]).plus(other.get(name, absent[1]))
    return total


def with_facts(window: Window, facts: Mapping[str, TurnFacts]) -> Window:
    """Return the window with what is on record of its turns, by trace id or by response id."""
    return Window(
        votes=tuple(one if (known := facts.get(one.turn)) is None else _with_facts(one, known) for one in window.votes),
        folded=window.folded,
        since_ms=window.since_ms,
    )


def _with_facts(vote: Vote, known: TurnFacts) -> Vote:
    return vote._replace(
        turn=known.trace_id,
        mined=True,
        intent=known.intent,
        cluster=known.cluster,
        stage=known.stage,
    )


def without(window: Window, shoppers: Collection[str]) -> Window:
    """Return the window without the votes of some shoppers, such as those who were erased."""
    if not shoppers or not any(one.shopper in shoppers for one in window.votes):
        return window
    kept = tuple(one for one in window.votes if one.shopper not in shoppers)
    return Window(votes=kept, folded=window.folded, since_ms=window.since_ms)
