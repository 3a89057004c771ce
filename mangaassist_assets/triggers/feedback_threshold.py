"""When a bundle's thumbs-downs are enough to run the loop: counts since the last firing, a minimum and a share.

Pure: the sensor reads events and stores the cursor, this decides. Each bundle fires for itself and starts counting
anew; `Firing.run_key` carries the epoch, for an orchestrator remembers run keys for ever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from mangaassist_assets.triggers.cursors import CursorError, cursor_from_json, cursor_to_json
from mangaassist_assets.triggers.new_bundles import bundle_defect

_KIND = "feedback_threshold"
_VERSION = 1


class FeedbackLike(Protocol):
    """What the decision needs of a feedback event."""

    @property
    def event_id(self) -> str:
        """Unique per event; a repeat is dropped."""

    @property
    def release_bundle(self) -> str:
        """The bundle that gave the answer."""

    @property
    def feedback(self) -> str:
        """`thumbs_up` or `thumbs_down`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackEvent:
    """A feedback event reduced to what the decision needs."""

    event_id: str
    release_bundle: str
    feedback: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdConfig:
    """A bundle fires at `minimum_negative` thumbs-downs that are at least `minimum_share` of its thumbs.

    `remembered_events` bounds the window in which a repeated event is known, `tracked_bundles` how many bundles are
    counted (those heard of longest ago are forgotten first): both bound the cursor.
    """

    minimum_negative: int = 20
    minimum_share: float = 0.2
    remembered_events: int = 2_000
    tracked_bundles: int = 100


DEFAULT_THRESHOLD = ThresholdConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleCount:
    """Thumbs of one bundle since it last fired, and how often it has fired."""

    up: int = 0
    down: int = 0
    epoch: int = 0

    @property
    def share(self) -> float:
        """Share of thumbs-downs, 0.0 without any thumb."""
        total = self.up + self.down
        return self.down / total if total else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackState:
    """What the sensor remembers: counts by bundle, in the order last heard of, and recent event keys, oldest first."""

    counts: Mapping[str, BundleCount] = field(default_factory=dict)
    recent: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the state as a cursor."""
        counts = [[bundle, count.up, count.down, count.epoch] for bundle, count in self.counts.items()]
        return cursor_to_json(_KIND, _VERSION, {"counts": counts, "recent": "".join(self.recent)})

    @classmethod
    def from_json(cls, text: str | None) -> FeedbackState:
        """Return the state in a cursor; None and "" give the empty state.

        Raises:
            CursorError: the text is no cursor of this sensor and version.
        """
        if not text:
            return cls()
        state = cursor_from_json(_KIND, _VERSION, text)
        try:
            return cls(counts=_read_counts(state), recent=_read_recent(state))
        except (KeyError, TypeError, ValueError) as error:
            msg = f"the cursor of {_KIND} is damaged ({error}): reset the sensor's cursor to start afresh"
            raise CursorError(msg) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """One bundle that reached the threshold, with the counts that made it."""

    release_bundle: str
    epoch: int
    up: int
    down: int

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
    state: FeedbackState, events: Iterable[FeedbackLike], *, config: ThresholdConfig = DEFAULT_THRESHOLD
) -> Decision:
    """Count new events into the state and say which bundles fire.

    Events seen before (by id, within the window), of an invalid bundle or with another word than a thumb are counted
    in the reason and change nothing.
    """
    counts = dict(state.counts)
    seen = dict.fromkeys(state.recent)
    new = repeated = invalid = 0
    for event in events:
        if event.feedback not in {"thumbs_up", "thumbs_down"} or bundle_defect(event.release_bundle) is not None:
            invalid += 1
            continue
        key = _event_key(event.event_id)
        if key in seen:
            repeated += 1
            continue
        seen[key] = None
        new += 1
        count = counts.pop(event.release_bundle, BundleCount())
        counts[event.release_bundle] = (
            replace(count, up=count.up + 1) if event.feedback == "thumbs_up" else replace(count, down=count.down + 1)
        )
    kept = dict(list(counts.items())[-config.tracked_bundles :])
    fire: list[Firing] = []
    for bundle, count in kept.items():
        if count.down >= config.minimum_negative and count.share >= config.minimum_share:
            epoch = count.epoch + 1
            fire.append(Firing(release_bundle=bundle, epoch=epoch, up=count.up, down=count.down))
            kept[bundle] = BundleCount(epoch=epoch)
    after = FeedbackState(counts=kept, recent=tuple(seen)[-config.remembered_events :])
    reason = _reason(fire, kept, new=new, repeated=repeated, invalid=invalid, config=config)
    return Decision(fire=tuple(fire), state=after, reason=reason)


def _reason(
    fire: list[Firing],
    counts: Mapping[str, BundleCount],
    *,
    new: int,
    repeated: int,
    invalid: int,
    config: ThresholdConfig,
) -> str:
    heard = f"{new} new events"
    if repeated:
        heard += f", {repeated} repeated"
    if invalid:
        heard += f", {invalid} invalid"
    if fire:
        fired = "; ".join(
            f"{one.release_bundle}: {one.down} thumbs-down of {one.up + one.down} thumbs "
            f"({one.down / (one.up + one.down):.0%})"
            for one in fire
        )
        return f"{heard}; {fired}"
    needed = f"needed {config.minimum_negative} and {config.minimum_share:.0%}"
    waiting = [(bundle, count) for bundle, count in counts.items() if count.up + count.down]
    if not waiting:
        return f"{heard}; no thumb since the last firing, {needed}"
    nearest = sorted(waiting, key=lambda item: (-item[1].down, item[0]))[:5]
    standing = "; ".join(
        f"{bundle}: {count.down} thumbs-down of {count.up + count.down} ({count.share:.0%})"
        for bundle, count in nearest
    )
    more = f"; and {len(waiting) - len(nearest)} more bundles" if len(waiting) > len(nearest) else ""
    return f"{heard}; {standing}{more}; {needed}"


_KEY_LENGTH = 16


def _event_key(event_id: str) -> str:
    """A short hash: two thousand full ids would make the cursor five times as long."""
    return hashlib.sha256(event_id.encode("utf-8", errors="surrogatepass")).hexdigest()[:_KEY_LENGTH]


def _read_counts(state: Mapping[str, Any]) -> dict[str, BundleCount]:
    counts: dict[str, BundleCount] = {}
    for bundle, up, down, epoch in state["counts"]:
        numbers = (up, down, epoch)
        if not isinstance(bundle, str) or not all(type(number) is int and number >= 0 for number in numbers):
            msg = f"counts of {bundle!r}"
            raise ValueError(msg)
        counts[bundle] = BundleCount(up=up, down=down, epoch=epoch)
    return counts


def _read_recent(state: Mapping[str, Any]) -> tuple[str, ...]:
    joined = state["recent"]
    if not isinstance(joined, str) or len(joined) % _KEY_LENGTH:
        msg = "recent events"
        raise ValueError(msg)
    return tuple(joined[start : start + _KEY_LENGTH] for start in range(0, len(joined), _KEY_LENGTH))
