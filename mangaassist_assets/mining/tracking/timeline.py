"""The history of failure clusters over all bundles: who was there, how large, and what became of whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from mangaassist_assets.mining.tracking.cluster_events import DEFAULT_IDENTITY, EventKind, IdentityConfig, bundle_events
from mangaassist_assets.mining.tracking.clusters import MinedBundle
from mangaassist_assets.mining.tracking.profiles import ClusterProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleClusters:
    """The clusters of one bundle: profiles, and by id the names and the verdicts on growth where there are any.

    `turns` counts all turns of the bundle, failed or not.
    """

    release_bundle: str
    turns: int
    profiles: tuple[ClusterProfile, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    verdicts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One cluster in one bundle. `order` is the place of the bundle in time, from 0; `share` is size / turns."""

    cluster_id: str
    name: str
    stage: str
    release_bundle: str
    order: int
    size: int
    share: float
    verdict: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEvent:
    """What happened on the way from the bundle before to the bundle at `order`.

    `cluster_ids` are of that bundle, `previous_ids` of the one before; see `IdentityEvent`.
    """

    kind: EventKind
    release_bundle: str
    order: int
    cluster_ids: tuple[str, ...]
    previous_ids: tuple[str, ...]
    similarity: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Bundles in order of time, an entry for each cluster in each bundle, and the events between bundles."""

    bundles: tuple[str, ...]
    entries: tuple[TimelineEntry, ...]
    events: tuple[TimelineEvent, ...]


class TimelineRow(TypedDict):
    """One cluster in one bundle with what happened to it there, as plain values."""

    cluster_id: str
    name: str
    stage: str
    release_bundle: str
    bundle_order: int
    size: int
    share: float
    verdict: str | None
    events: str


def cluster_timeline(bundles: Sequence[MinedBundle], *, config: IdentityConfig = DEFAULT_IDENTITY) -> Timeline:
    """Return the history of mined bundles given oldest first; see `build_timeline`."""
    return build_timeline(
        [
            BundleClusters(
                release_bundle=bundle.release_bundle,
                turns=bundle.turns,
                profiles=bundle.profiles,
                names={cluster.cluster_id: cluster.name for cluster in bundle.clusters},
                verdicts={cluster.cluster_id: cluster.growth.verdict for cluster in bundle.clusters},
            )
            for bundle in bundles
            if bundle.turns > 0
        ],
        config=config,
    )


def build_timeline(bundles: Sequence[BundleClusters], *, config: IdentityConfig = DEFAULT_IDENTITY) -> Timeline:
    """Return the history of bundles given oldest first; entries by bundle, then by size, the largest first.

    Events are found anew from the profiles of neighbouring bundles, so a bundle that was mined late stands where it
    belongs. The first bundle has none: nothing is known of what was before it.

    Raises:
        ValueError: a bundle stands twice, names an id twice, has no turns, or the embeddings differ in dimension.
    """
    names = [bundle.release_bundle for bundle in bundles]
    if len(set(names)) < len(names):
        raise ValueError(f"a bundle stands twice in the timeline: {names}")
    entries: list[TimelineEntry] = []
    events: list[TimelineEvent] = []
    known: frozenset[str] = frozenset()
    for order, bundle in enumerate(bundles):
        entries += _entries(bundle, order)
        if order:
            before = bundles[order - 1]
            events += [
                TimelineEvent(
                    kind=event.kind,
                    release_bundle=bundle.release_bundle,
                    order=order,
                    cluster_ids=event.cluster_ids,
                    previous_ids=event.previous_ids,
                    similarity=event.similarity,
                )
                for event in bundle_events(
                    bundle.profiles,
                    before.profiles,
                    turns=bundle.turns,
                    previous_turns=before.turns,
                    known=known,
                    config=config,
                )
            ]
        known |= {profile.cluster_id for profile in bundle.profiles}
    return Timeline(bundles=tuple(names), entries=tuple(entries), events=tuple(events))


def timeline_rows(timeline: Timeline) -> list[TimelineRow]:
    """Return one plain row an entry; `events` says in words what happened to the cluster on the way into the bundle.

    A death is written to the row of the last bundle that has the cluster.
    """
    words_of: dict[tuple[int, str], list[str]] = {}
    for event in timeline.events:
        for identity, words in _told(event):
            order = event.order - 1 if event.kind in {"death", "unseen"} else event.order
            words_of.setdefault((order, identity), []).append(words)
    return [
        TimelineRow(
            cluster_id=entry.cluster_id,
            name=entry.name,
            stage=entry.stage,
            release_bundle=entry.release_bundle,
            bundle_order=entry.order,
            size=entry.size,
            share=round(entry.share, 9),
            verdict=entry.verdict,
            events="; ".join(words_of.get((entry.order, entry.cluster_id), [])),
        )
        for entry in timeline.entries
    ]


def _entries(bundle: BundleClusters, order: int) -> list[TimelineEntry]:
    identities = [profile.cluster_id for profile in bundle.profiles]
    if len(set(identities)) < len(identities):
        raise ValueError(f"bundle {bundle.release_bundle!r} names a cluster twice: {sorted(identities)}")
    if bundle.turns <= 0:
        raise ValueError(f"bundle {bundle.release_bundle!r} has {bundle.turns} turns: a share needs at least one")
    return [
        TimelineEntry(
            cluster_id=profile.cluster_id,
            name=bundle.names.get(profile.cluster_id, profile.cluster_id),
            stage=profile.stage,
            release_bundle=bundle.release_bundle,
            order=order,
            size=profile.size,
            share=profile.size / bundle.turns,
            verdict=bundle.verdicts.get(profile.cluster_id),
        )
        for profile in sorted(bundle.profiles, key=lambda profile: (-profile.size, profile.cluster_id))
    ]


def _told(event: TimelineEvent) -> list[tuple[str, str]]:
    """Return the clusters an event is listed under, with the words."""
    previous = event.previous_ids[0] if event.previous_ids else ""
    if event.kind in {"death", "unseen"}:
        words = "died after this bundle" if event.kind == "death" else "not seen in the next bundle"
        return [(previous, words)]
    words = {
        "birth": "born",
        "return": "came back",
        "merge": f"merged from {', '.join(event.previous_ids)}",
        "split": f"split from {previous}",
        "continuation": "continued" if event.cluster_ids == event.previous_ids else f"continued from {previous}",
    }[event.kind]
    return [(identity, words) for identity in event.cluster_ids]
