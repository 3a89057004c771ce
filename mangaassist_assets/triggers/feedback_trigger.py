"""When complaints start a retraining: from new thumbs and what is remembered to what fires, what is held, and why not.

Nothing here knows Dagster, a stream or a clock. The same thumbs give the same state in any order, and again they give
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mangaassist_assets.core.intervals import wilson_interval
from mangaassist_assets.triggers.evidence import Reference
from mangaassist_assets.triggers.production_changes import ProductionChange
from mangaassist_assets.triggers.settings import TriggerConfig
from mangaassist_assets.triggers.standing import Standing, standings
from mangaassist_assets.triggers.trigger_state import Arrival, BundleState, Fired, TriggerState, measure_for
from mangaassist_assets.triggers.votes import (
    ALL,
    TurnFacts,
    Vote,
    Window,
    added,
    counts,
    fold,
    merge,
    window_weights,
    with_facts,
    without,
)

Outcome = Literal["fired", "held", "cooling down", "not enough", "quiet", "nothing to compare with"]
_HOUR_MS = 60 * 60 * 1000
_PAST_BUNDLES = 50
_RECOVERED = 0.98
_RECOVERY_BLOCKS = 10
SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What became of the thumbs of one look.

    `strays` name another bundle than their turn; `let_go` were too many to wait; `late` are older than the window;
    `over_cap` are more than one shopper or session may cast.
    """

    events: int = 0
    counted: int = 0
    repeated: int = 0
    waiting: int = 0
    unknown_bundle: int = 0
    strays: int = 0
    let_go: int = 0
    late: int = 0
    over_cap: int = 0

    def described(self) -> str:
        """Return the numbers in a phrase; what is none is left out."""
        parts = [f"{self.events} new events, {self.counted} counted"]
        for number, what in (
            (self.repeated, "said again"),
            (self.over_cap, "over what one shopper or session may cast"),
            (self.late, "too late"),
            (self.strays, "of another bundle than their turn"),
            (self.waiting, "wait for their turns"),
            (self.unknown_bundle, "of bundles that nobody knows"),
            (self.let_go, "let go, too many wait"),
        ):
            if number:
                parts.append(f"{number} {what}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleEvaluation:
    """What was found of one bundle.

    `nearest` are its streams that are nearest to firing, at most five. `epoch` counts its firings, a new one included.
    `changes` are those of production that hold it, `ask` those of them whose evaluation was not asked for yet.
    """

    release_bundle: str
    outcome: Outcome
    epoch: int
    counted: int
    sentence: str
    nearest: tuple[Standing, ...] = ()
    changes: tuple[ProductionChange, ...] = ()
    ask: tuple[ProductionChange, ...] = ()
    recovered: bool = False

    @property
    def closeness(self) -> float:
        """Evidence over what is needed, of the nearest stream."""
        return self.nearest[0].evidence / self.nearest[0].needed if self.nearest else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One look: the state to go on from, what was found of each bundle, nearest to firing first, and what was heard."""

    state: TriggerState
    bundles: tuple[BundleEvaluation, ...]
    heard: Heard

    @property
    def fired(self) -> tuple[BundleEvaluation, ...]:
        """The bundles that fire."""
        return tuple(one for one in self.bundles if one.outcome == "fired")

    def reason(self) -> str:
        """Return the numbers in words: what was heard, and a sentence for each of the nearest bundles."""
        sentences = [f"{one.release_bundle}: {one.sentence}" for one in self.bundles[:SHOWN]]
        if len(self.bundles) > SHOWN:
            sentences.append(f"and {len(self.bundles) - SHOWN} more bundles")
        return "; ".join([self.heard.described(), *(sentences or ["no bundle has votes"])])


def run_key(state: TriggerState, evaluated: BundleEvaluation) -> str:
    """Return what tells the retraining of this bundle and epoch from every other."""
    return f"feedback-{evaluated.release_bundle}-{state.generation}-{evaluated.epoch}"


def evaluate(
    state: TriggerState,
    arrivals: Iterable[Arrival],
    *,
    known: Collection[str],
    order: Sequence[str],
    facts: Mapping[str, TurnFacts],
    changes: Callable[[int, int], Sequence[ProductionChange]],
    now_ms: int,
    config: TriggerConfig,
    erased: Collection[str] = (),
) -> Evaluation:
    """Take new thumbs in and say what fires.

    Args:
        state: What is remembered.
        arrivals: New thumbs, in any order, repeated or not.
        known: The release bundles that exist.
        order: Bundles with stored turns, oldest first.
        facts: What was found out about turns, by trace id and by response id.
        changes: What of production changed between two times (ms since the epoch, UTC).
        now_ms: The present (ms since the epoch, UTC).
        config: The settings.
        erased: Digests of shoppers who were erased: their votes go.
    """
    heard, votes, waiting = _sort(state, arrivals, known=known, facts=facts, config=config)
    watched = dict(state.bundles)
    totals = state.totals(config)
    past = dict(state.past)
    counted: dict[str, int] = {}
    for name in sorted(set(watched) - set(known)):
        # Somebody deleted it: nothing can be run for it, but it was.
        past[name] = watched.pop(name).totals(config)
    for name in sorted({*watched, *votes}):
        bundle = watched.get(name)
        if bundle is None:
            own = past.pop(name, {})
            baseline = measure_for(name, totals, tuple(order), config)
            bundle = BundleState(baseline=baseline, window=Window(folded=own))
        window = without(with_facts(bundle.window, facts), erased)
        merged = merge(window, (one for one in votes.get(name, []) if one.shopper not in erased), config)
        watched[name] = replace(bundle, window=merged.window)
        counted[name] = merged.counted
        heard = replace(
            heard,
            counted=heard.counted + merged.counted,
            repeated=heard.repeated + merged.repeated,
            late=heard.late + merged.late,
            over_cap=heard.over_cap + merged.over_cap,
        )
    for name in sorted(watched, key=lambda one: (watched[one].newest_ms(), one), reverse=True)[config.bundles :]:
        past[name] = watched.pop(name).totals(config)
    found: list[BundleEvaluation] = []
    for name in sorted(watched):
        watched[name], evaluated = _judge(
            name, watched[name], counted.get(name, 0), changes=changes, now_ms=now_ms, config=config
        )
        found.append(evaluated)
    # Those that were mined last stay, in the order of bundles.
    ranked = sorted(past, key=lambda one: (order.index(one) if one in order else -1, one))
    return Evaluation(
        state=replace(
            state,
            bundles=watched,
            past={name: past[name] for name in sorted(ranked[-_PAST_BUNDLES:])},
            waiting=waiting,
        ),
        bundles=tuple(sorted(found, key=lambda one: (-one.closeness, one.release_bundle))),
        heard=heard,
    )


def _sort(
    state: TriggerState,
    arrivals: Iterable[Arrival],
    *,
    known: Collection[str],
    facts: Mapping[str, TurnFacts],
    config: TriggerConfig,
) -> tuple[Heard, dict[str, list[Vote]], tuple[Arrival, ...]]:
    """Return what was heard, the votes that can be counted by bundle, and the thumbs that wait."""
    new = list(arrivals)
    votes: dict[str, list[Vote]] = {}
    waiting: dict[str, Arrival] = {}
    strays = unknown = 0
    for thumb in [*state.waiting, *new]:
        fact = facts.get(thumb.trace_id or "") or facts.get(thumb.response_id or "")
        bundle = thumb.release_bundle if fact is None else fact.release_bundle
        if fact is not None and thumb.release_bundle not in (None, fact.release_bundle):
            # What the turn says of itself is true: such an event was made up, or misdirected.
            strays += 1
            continue
        shopper = thumb.shopper or (fact.shopper if fact else None) or thumb.session or (fact.session if fact else None)
        turn = fact.trace_id if fact is not None else thumb.trace_id or thumb.response_id
        if bundle is None or bundle not in known or shopper is None or turn is None:
            waiting[thumb.event] = thumb
            continue
        vote = Vote(
            time_ms=thumb.time_ms,
            event=thumb.event,
            turn=turn,
            shopper=shopper,
            session=thumb.session or (fact.session if fact else None),
            down=thumb.down,
            mined=fact is not None,
            intent=fact.intent if fact else None,
            cluster=fact.cluster if fact else None,
            stage=fact.stage if fact else None,
        )
        votes.setdefault(bundle, []).append(vote)
    kept = sorted(waiting.values(), key=lambda one: (one.time_ms, one.event))[-config.waiting_votes :]
    unknown = sum(one.release_bundle is not None and one.release_bundle not in known for one in kept)
    return (
        Heard(
            events=len(new),
            waiting=len(kept) - unknown,
            unknown_bundle=unknown,
            strays=strays,
            let_go=len(waiting) - len(kept),
        ),
        votes,
        tuple(kept),
    )


def _judge(
    name: str,
    bundle: BundleState,
    counted: int,
    *,
    changes: Callable[[int, int], Sequence[ProductionChange]],
    now_ms: int,
    config: TriggerConfig,
) -> tuple[BundleState, BundleEvaluation]:
    bundle, recovered = _recovered(bundle, config)
    ranked = standings(bundle.window, bundle.baseline, config)
    nearest = tuple(ranked[:SHOWN])

    def found(
        outcome: Outcome, sentence: str, *, epoch: int = bundle.epoch, **more: tuple[ProductionChange, ...]
    ) -> BundleEvaluation:
        return BundleEvaluation(
            release_bundle=name,
            outcome=outcome,
            epoch=epoch,
            counted=counted,
            sentence=("recovered from its last firing; " if recovered else "") + sentence,
            nearest=nearest,
            recovered=recovered,
            **more,
        )

    if not ranked:
        votes = bundle.baseline.get(ALL, Reference(down=0.0, votes=0.0)).votes + len(bundle.window.votes)
        return bundle, found(
            "nothing to compare with", f"{votes:.0f} votes, needed {config.minimum_reference:.0f} to compare with"
        )
    firing = next((one for one in ranked if one.fires), None)
    if firing is None:
        near = ranked[0]
        lacking = f", but {'; '.join(near.unmet)}" if near.unmet else ""
        return bundle, found("not enough" if near.reached else "quiet", near.described() + lacking)
    if bundle.fired_ms is not None and now_ms - bundle.fired_ms < config.cooldown_hours * _HOUR_MS:
        hours = max(0, now_ms - bundle.fired_ms) / _HOUR_MS
        sentence = f"{firing.described()}, but it fired {hours:.1f} h ago, needed {config.cooldown_hours:g}"
        return bundle, found("cooling down", sentence)
    causes = tuple(changes(firing.since_ms - round(config.confound_hours * _HOUR_MS), now_ms))
    held = {one.key: bundle.held.get(one.key, now_ms) for one in causes}
    holding = tuple(one for one in causes if now_ms - held[one.key] < config.hold_hours * _HOUR_MS)
    if holding:
        names = ", ".join(map(str, holding))
        sentence = f"{firing.described()}, but held: {names} changed around it, and is evaluated first"
        ask = tuple(one for one in holding if one.key not in bundle.held)
        return replace(bundle, held=held), found("held", sentence, changes=holding, ask=ask)
    fired = _reset(bundle, firing, now_ms, config)
    return fired, found("fired", firing.described(), epoch=fired.epoch, changes=causes)


def _reset(bundle: BundleState, firing: Standing, now_ms: int, config: TriggerConfig) -> BundleState:
    """Return the bundle after a firing: what it is compared with from now on is how it was when it fired."""
    votes = bundle.window.votes
    start = next(place for place, one in enumerate(votes) if one.time_ms >= firing.since_ms)
    weights = window_weights(votes, config)
    level = counts(votes[start:], weights[start:])
    before = added(bundle.baseline, fold(bundle.window, start, config).folded)
    return BundleState(
        window=Window(since_ms=bundle.newest_ms()),
        baseline=level,
        epoch=bundle.epoch + 1,
        fired_ms=now_ms,
        fired=Fired(
            stream=firing.stream,
            share_before=firing.share_before,
            share=firing.share,
            baseline={name: count.at_most(config.reference_votes) for name, count in before.items()},
        ),
    )


def _recovered(bundle: BundleState, config: TriggerConfig) -> tuple[BundleState, bool]:
    """Return the bundle, compared with what was before its firing again once its newest votes are nearer to that."""
    fired = bundle.fired
    if fired is None:
        return bundle, False
    votes = bundle.window.votes[-_RECOVERY_BLOCKS * config.block_votes :]
    since = counts(votes, window_weights(votes, config)).get(fired.stream)
    if since is None or since.votes < config.minimum_votes:
        return bundle, False
    interval = wilson_interval(round(since.down), round(since.votes), confidence=_RECOVERED)
    if interval is None or interval.high >= (fired.share_before + fired.share) / 2:
        return bundle, False
    # The bad votes in between are of neither.
    since_ms = max(bundle.window.since_ms, votes[0].time_ms)
    return replace(bundle, window=Window(votes=votes, since_ms=since_ms), baseline=fired.baseline, fired=None), True
