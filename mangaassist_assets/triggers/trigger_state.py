"""What the feedback trigger remembers, all of it bounded: windows of votes, counts, what fired and what is held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from mangaassist_assets.triggers.evidence import Reference
from mangaassist_assets.triggers.settings import TriggerConfig
from mangaassist_assets.triggers.votes import (
    ALL,
    MINED,
    NO_VOTES,
    Window,
    added,
    counts,
    is_share_of_mined,
    window_weights,
)


class Arrival(NamedTuple):
    """A thumb of the stream as the trigger hears it; what it does not say is None.

    `time_ms` is milliseconds since the epoch (UTC); `event`, `shopper` and `session` are digests.
    """

    time_ms: int
    event: str
    trace_id: str | None
    response_id: str | None
    release_bundle: str | None
    shopper: str | None
    session: str | None
    down: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """A firing that the bundle has not recovered from: which stream, from which share to which, and what was before."""

    stream: str
    share_before: float
    share: float
    baseline: Mapping[str, Reference]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleState:
    """What is remembered of a bundle.

    `baseline` is what its votes are compared with, by stream. `fired_ms` is when it fired last; `held` are the changes
    of production for which a retraining is held, and since when (ms since the epoch, UTC).
    """

    window: Window = field(default_factory=Window)
    baseline: Mapping[str, Reference] = field(default_factory=dict)
    epoch: int = 0
    fired_ms: int | None = None
    fired: Fired | None = None
    held: Mapping[str, int] = field(default_factory=dict)

    def newest_ms(self) -> int:
        """Return the time of the newest vote (ms since the epoch, UTC)."""
        return self.window.votes[-1].time_ms if self.window.votes else self.window.since_ms

    def totals(self, config: TriggerConfig) -> dict[str, Reference]:
        """Return what the bundle is as a measure for later ones: its votes while nothing was found wrong."""
        if self.fired is not None:
            return dict(self.fired.baseline)
        votes = self.window.votes
        return added(self.window.folded, counts(votes, window_weights(votes, config)))


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerState:
    """What the trigger remembers.

    Attributes:
        generation: Tells its epochs from those of a state that was lost or reset.
        bundles: The bundles that are watched.
        past: Counts by stream of bundles that are not watched any more, or were mined before the first look.
        waiting: Thumbs of bundles or turns that are not known yet.
        read: Which stored tables were looked through for turns, by bundle.
    """

    generation: str
    bundles: Mapping[str, BundleState] = field(default_factory=dict)
    past: Mapping[str, Mapping[str, Reference]] = field(default_factory=dict)
    waiting: tuple[Arrival, ...] = ()
    read: Mapping[str, str] = field(default_factory=dict)

    def turns(self) -> set[str]:
        """Return the ids of turns that something may yet be found out about."""
        of_votes = {vote.turn for bundle in self.bundles.values() for vote in bundle.window.votes}
        waiting = {one for vote in self.waiting for one in (vote.trace_id, vote.response_id) if one is not None}
        return of_votes | waiting

    def totals(self, config: TriggerConfig) -> dict[str, Mapping[str, Reference]]:
        """Return the counts of every known bundle by stream."""
        return {**self.past, **{name: bundle.totals(config) for name, bundle in self.bundles.items()}}


def measure_for(
    release_bundle: str,
    totals: Mapping[str, Mapping[str, Reference]],
    order: tuple[str, ...],
    config: TriggerConfig,
) -> dict[str, Reference]:
    """Return what a new bundle is compared with: the bundle before it, shrunk to the long run.

    Args:
        release_bundle: The new bundle.
        totals: Counts of the known bundles by stream.
        order: Bundles, oldest first; one that is not among them is newer than all.
        config: The settings.
    """
    earlier = order[: order.index(release_bundle)] if release_bundle in order else order
    known = [
        one
        for one in earlier
        if one != release_bundle and totals.get(one, {}).get(ALL, NO_VOTES).votes >= config.minimum_reference
    ]
    if not known:
        if config.expected_share is None:
            return {}
        votes = config.expected_votes
        return {ALL: Reference(down=config.expected_share * votes, votes=votes)}
    long_run: dict[str, Reference] = {}
    for one in known:
        long_run = added(long_run, totals[one])
    previous = totals[known[-1]]
    return {name: _shrunk(name, previous, long_run, config) for name in previous}


def _shrunk(
    name: str, previous: Mapping[str, Reference], long_run: Mapping[str, Reference], config: TriggerConfig
) -> Reference:
    share = long_run[name].share
    usual = Reference(down=share * config.long_run_votes, votes=config.long_run_votes)
    own = previous[name]
    if is_share_of_mined(name):
        own = Reference(down=own.down, votes=previous.get(MINED, NO_VOTES).votes)
    return own.plus(usual).at_most(config.reference_votes)
