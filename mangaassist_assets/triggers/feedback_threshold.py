"""When a bundle's thumbs-downs are enough to run the loop: votes since the last firing, a minimum and a share.

Pure: the sensor reads and stores the cursor, this decides. Each bundle fires for itself and starts counting anew;
`Firing.run_key` carries the epoch, for an orchestrator remembers run keys for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mangaassist_assets.triggers.thumbs import Counted, PressedThumb, TraceVote, Votes, count_votes


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdConfig:
    """A bundle fires at `minimum_negative` thumbs-downs that are at least `minimum_share` of its thumbs.

    `remembered_events` bounds how many events that are not on their traces yet are remembered, and so the cursor.
    """

    minimum_negative: int = 20
    minimum_share: float = 0.2
    remembered_events: int = 1_000


DEFAULT_THRESHOLD = ThresholdConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleMark:
    """The votes of one bundle when it last fired, and how often it has fired."""

    votes: Votes = field(default_factory=Votes)
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackState:
    """What the sensor remembers: where each bundle's count began, and events that are not on their traces yet."""

    marks: Mapping[str, BundleMark] = field(default_factory=dict)
    remembered: tuple[PressedThumb, ...] = ()

    @staticmethod
    def beginning(votes: Mapping[str, Votes]) -> FeedbackState:
        """Return the state of a first look: votes that were mined already are no news."""
        return FeedbackState(marks={bundle: BundleMark(votes=count) for bundle, count in votes.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """One bundle that reached the threshold, with the votes since the last firing and those in all."""

    release_bundle: str
    epoch: int
    up: int
    down: int
    votes: Votes

    @property
    def run_key(self) -> str:
        """Unique per bundle and epoch."""
        return f"feedback-{self.release_bundle}-{self.epoch}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What fires, the state to store, and a sentence with the numbers."""

    fire: tuple[Firing, ...]
    state: FeedbackState
    reason: str


def decide(
    state: FeedbackState,
    events: Iterable[PressedThumb],
    *,
    on_traces: Mapping[str, Votes],
    traces: Mapping[str, TraceVote],
    config: ThresholdConfig = DEFAULT_THRESHOLD,
) -> Decision:
    """Count all votes and say which bundles fire.

    `events` are new thumbs of the stream, repeated ones or not; `traces` has what their traces and those of
    `state.remembered` say, by trace id and by response id.
    """
    new = list(events)
    counted = count_votes(on_traces, [*state.remembered, *new], traces, remember=config.remembered_events)
    marks = {bundle: mark for bundle, mark in state.marks.items() if mark.epoch or bundle in counted.votes}
    fire: list[Firing] = []
    since: dict[str, Votes] = {}
    for bundle, votes in counted.votes.items():
        mark = marks.get(bundle, BundleMark())
        count = votes.since(mark.votes)
        if count.down >= config.minimum_negative and count.share >= config.minimum_share:
            epoch = mark.epoch + 1
            fire.append(Firing(release_bundle=bundle, epoch=epoch, up=count.up, down=count.down, votes=votes))
            marks[bundle] = BundleMark(votes=votes, epoch=epoch)
        else:
            since[bundle] = count
            if bundle in marks:
                marks[bundle] = BundleMark(votes=mark.votes.at_most(votes), epoch=mark.epoch)
    after = FeedbackState(marks=marks, remembered=counted.remembered)
    return Decision(fire=tuple(fire), state=after, reason=_reason(fire, since, len(new), counted, config))


def _reason(fire: list[Firing], since: Mapping[str, Votes], new: int, counted: Counted, config: ThresholdConfig) -> str:
    heard = f"{new} new events"
    for number, what in (
        (counted.waiting, "wait for their traces"),
        (counted.strays, "of another bundle than their traces"),
        (counted.let_go, "too many to remember, which count when they are recorded on their traces"),
    ):
        if number:
            heard += f", {number} {what}"
    if fire:
        fired = "; ".join(
            f"{one.release_bundle}: {one.down} thumbs-down of {one.up + one.down} thumbs "
            f"({one.down / (one.up + one.down):.0%})"
            for one in fire
        )
        return f"{heard}; {fired}"
    needed = f"needed {config.minimum_negative} and {config.minimum_share:.0%}"
    waiting = [(bundle, count) for bundle, count in since.items() if count.total]
    if not waiting:
        return f"{heard}; no thumb since the last firing, {needed}"
    nearest = sorted(waiting, key=lambda item: (-item[1].down, item[0]))[:5]
    standing = "; ".join(
        f"{bundle}: {count.down} thumbs-down of {count.total} ({count.share:.0%})" for bundle, count in nearest
    )
    more = f"; and {len(waiting) - len(nearest)} more bundles" if len(waiting) > len(nearest) else ""
    return f"{heard}; {standing}{more}; {needed}"
