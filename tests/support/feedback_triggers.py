"""Thumbs for the feedback trigger, and a trigger that is looked at as the sensor does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mangaassist_assets.triggers.feedback_trigger import BundleEvaluation, Evaluation, evaluate
from mangaassist_assets.triggers.production_changes import ProductionChange
from mangaassist_assets.triggers.settings import TriggerConfig
from mangaassist_assets.triggers.trigger_state import Arrival, TriggerState
from mangaassist_assets.triggers.votes import TurnFacts

BUNDLE = "2026.03.24-rc2"
MINUTE_MS = 60_000
START_MS = 1_774_310_400_000


def thumb(
    number: int, *, down: bool, shopper: str | None = None, bundle: str | None = BUNDLE, **said: object
) -> Arrival:
    """Return the thumb of a turn of a shopper of its own, a minute after the one before."""
    plain: dict[str, object] = {
        "time_ms": START_MS + number * MINUTE_MS,
        "event": f"event-{number}",
        "trace_id": f"tr-{number}",
        "response_id": None,
        "release_bundle": bundle,
        "shopper": f"shopper-{number}" if shopper is None else shopper,
        "session": None,
        "down": down,
    }
    return Arrival(**{**plain, **said})  # type: ignore[arg-type]


def thumbs(count: int, *, share: float, first: int = 0, bundle: str = BUNDLE) -> list[Arrival]:
    """Return thumbs of which every so many-th is down."""
    return [
        thumb(first + number, down=int((number + 1) * share) > int(number * share), bundle=bundle)
        for number in range(count)
    ]


@dataclass
class Trigger:
    """A trigger between two looks."""

    config: TriggerConfig = field(default_factory=TriggerConfig)
    state: TriggerState = field(default_factory=lambda: TriggerState(generation="00000000"))
    known: Sequence[str] = (BUNDLE,)
    order: Sequence[str] = ()
    now_ms: int = START_MS
    changes: Sequence[ProductionChange] = ()

    def look(self, arrivals: Iterable[Arrival] = (), *, facts: Mapping[str, TurnFacts] | None = None) -> Evaluation:
        """Look once, and remember."""
        found = evaluate(
            self.state,
            arrivals,
            known=self.known,
            order=self.order,
            facts=facts or {},
            changes=lambda from_ms, until_ms: [one for one in self.changes if from_ms <= one.at_ms <= until_ms],
            now_ms=self.now_ms,
            config=self.config,
        )
        self.state = found.state
        return found

    def hear(self, arrivals: Sequence[Arrival], *, every: int = 20) -> list[BundleEvaluation]:
        """Look after every so many thumbs, at the time of the last; return what fired."""
        fired: list[BundleEvaluation] = []
        for start in range(0, len(arrivals), every):
            part = arrivals[start : start + every]
            self.now_ms = max(self.now_ms, part[-1].time_ms)
            fired += self.look(part).fired
        return fired

    def copy(self) -> Trigger:
        """Return a trigger that stands where this one does."""
        return replace(self)
