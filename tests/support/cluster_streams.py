"""Simulated streams of bundles whose births, deaths, merges and splits are known.

A group of a bundle holds the messages of one topic or of several (merged ones). From bundle to bundle topics appear
and vanish, two groups become one, one of several topics falls apart, rates and places drift. Messages are drawn from
clouds around random centres, or from real messages by topic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

Group = frozenset[int]
Draw = Callable[[int, int], np.ndarray]
"""(topic, count) to unit vectors, shape (count or fewer, d)."""


@dataclass(frozen=True)
class Planted:
    """An event that happened: the groups of topics of the newer and of the older bundle."""

    kind: str
    groups: frozenset[Group]
    previous: frozenset[Group]


@dataclass(frozen=True)
class StreamBundle:
    """One bundle: vectors and trace ids of each group, all turns, and what happened since the bundle before."""

    name: str
    turns: int
    vectors: Mapping[Group, np.ndarray]
    trace_ids: Mapping[Group, tuple[str, ...]]
    events: frozenset[Planted]
    topics: np.ndarray = field(repr=False)
    """The topic of each message, in the order of the groups and their vectors."""


@dataclass(frozen=True)
class StreamPlan:
    """How much happens. `smallest` and `largest` bound the mean size of a topic in a bundle."""

    bundles: int = 6
    groups: int = 20
    births: int = 2
    deaths: int = 2
    merges: int = 2
    splits: int = 2
    smallest: int = 8
    largest: int = 60
    turns: int = 4000


def clouds(
    rng: np.random.Generator,
    *,
    topics: int,
    dimension: int = 384,
    families: int = 12,
    matching: float = 0.45,
    tightness: float = 0.5,
    drift: float = 0.0,
) -> tuple[Draw, Callable[[], None]]:
    """Return a source of synthetic messages and what moves its topics by one bundle.

    Topics of a family have centres of cosine about `matching`; a message has cosine about `tightness` ** 0.5 to its
    centre, so two of a topic about `tightness`; `drift` is the sine of the angle a centre moves by a bundle.
    """

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    roots = unit(rng.normal(size=(families, dimension)))
    own = unit(rng.normal(size=(topics, dimension)))
    centres = unit(np.sqrt(matching) * roots[np.arange(topics) % families] + np.sqrt(1 - matching) * own)

    def draw(topic: int, count: int) -> np.ndarray:
        noise = unit(rng.normal(size=(count, dimension)))
        return unit(np.sqrt(tightness) * centres[topic] + np.sqrt(1 - tightness) * noise).astype(np.float32)

    def move() -> None:
        nonlocal centres
        centres = unit(centres + drift * unit(rng.normal(size=centres.shape)))

    return draw, move


def stream(
    draw: Draw,
    move: Callable[[], None],
    *,
    topics: int,
    plan: StreamPlan,
    seed: int,
    near: np.ndarray | None = None,
) -> list[StreamBundle]:
    """Return bundles in time order; where `near` (topics, topics) is given, topics that lie near are merged first."""
    rng = np.random.default_rng(seed)
    fresh = list(rng.permutation(topics))
    rates: dict[int, float] = {}

    def take() -> int:
        topic = int(fresh.pop())
        rates[topic] = float(np.exp(rng.uniform(np.log(plan.smallest), np.log(plan.largest))))
        return topic

    def partner(group: Group, free: list[Group]) -> Group:
        if near is None:
            return free[int(rng.integers(len(free)))]
        return max(free, key=lambda other: (near[np.ix_(sorted(group), sorted(other))].mean(), sorted(other)))

    groups: list[Group] = [frozenset({take()}) for _ in range(plan.groups - plan.splits)]
    groups += [frozenset({take(), take()}) for _ in range(plan.splits)]
    bundles = [_bundle(0, groups, rates, frozenset(), draw, rng, plan)]
    for number in range(1, plan.bundles):
        free = sorted(groups, key=sorted)
        rng.shuffle(free)
        births = [frozenset({take()}) for _ in range(min(plan.births, len(fresh)))]
        events = [*_changes(free, partner, plan), *(Planted("birth", frozenset({one}), frozenset()) for one in births)]
        events += [Planted("continuation", frozenset({group}), frozenset({group})) for group in free]
        groups = [group for event in events for group in sorted(event.groups, key=sorted)]
        for topic, rate in rates.items():
            rates[topic] = float(np.clip(rate * np.exp(rng.normal() * 0.2), plan.smallest, plan.largest))
        move()
        bundles.append(_bundle(number, groups, rates, frozenset(events), draw, rng, plan))
    return bundles


def _changes(free: list[Group], partner: Callable[[Group, list[Group]], Group], plan: StreamPlan) -> list[Planted]:
    """Split, end and merge some of the groups; those it changes are taken out of `free`."""
    events = []
    for group in [group for group in free if len(group) > 1][: plan.splits]:
        free.remove(group)
        events.append(Planted("split", frozenset(frozenset({topic}) for topic in group), frozenset({group})))
    events += [Planted("death", frozenset(), frozenset({free.pop()})) for _ in range(plan.deaths)]
    for _ in range(plan.merges):
        singles = [group for group in free if len(group) == 1]
        if len(singles) < 2:
            break
        first, second = singles[0], partner(singles[0], singles[1:])
        free.remove(first)
        free.remove(second)
        events.append(Planted("merge", frozenset({first | second}), frozenset({first, second})))
    return events


def _bundle(number, groups, rates, events, draw, rng, plan) -> StreamBundle:
    turns = int(plan.turns * rng.uniform(0.8, 1.25))
    vectors, trace_ids, topics = {}, {}, []
    for place, group in enumerate(groups):
        drawn = []
        for topic in sorted(group):
            count = max(3, int(rng.poisson(rates[topic] * turns / plan.turns)))
            drawn.append(draw(topic, count))
            topics += [topic] * len(drawn[-1])
        vectors[group] = np.concatenate(drawn)
        trace_ids[group] = tuple(f"tr-{number}-{place}-{index}" for index in range(len(vectors[group])))
    return StreamBundle(
        name=f"2026.{number + 1:02d}-rc1",
        turns=turns,
        vectors=vectors,
        trace_ids=trace_ids,
        events=events,
        topics=np.array(topics),
    )
