"""The history of failure clusters over all bundles: who was there, how large, and what became of whom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mangaassist_assets.core.figures import Row
from mangaassist_assets.mining.tracking.cluster_events import (
    DEFAULT_IDENTITY,
    IdentityConfig,
    IdentityEvent,
    bundle_events,
)
from mangaassist_assets.mining.tracking.clusters import MinedBundle


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
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEvent(IdentityEvent):
    """What happened on the way from the bundle before to the bundle at `order`."""

    order: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Bundles in order of time, an entry for each cluster in each bundle, and the events between bundles."""

    bundles: tuple[str, ...]
    entries: tuple[TimelineEntry, ...]
    events: tuple[TimelineEvent, ...]


def build_timeline(bundles: Sequence[MinedBundle], *, config: IdentityConfig = DEFAULT_IDENTITY) -> Timeline:
    """Return the history of bundles given oldest first; entries by bundle, then by size, the largest first.

    Events are found anew from the profiles of neighbouring bundles, so a bundle that was mined late stands where it
    belongs. The first bundle has none: nothing is known of what was before it. A bundle without turns is left out.

    Raises:
        ValueError: a bundle stands twice, names an id twice, or the embeddings differ in dimension.
    """
    bundles = [bundle for bundle in bundles if bundle.turns > 0]
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
            found = bundle_events(
                bundle.profiles,
                before.profiles,
                turns=bundle.turns,
                previous_turns=before.turns,
                known=known,
                config=config,
            )
            events += [TimelineEvent(**asdict(event), order=order) for event in found]
        known |= {profile.cluster_id for profile in bundle.profiles}
    return Timeline(bundles=tuple(names), entries=tuple(entries), events=tuple(events))


def timeline_rows(timeline: Timeline) -> list[Row]:
    """Return one plain row an entry; `events` says in words what happened to the cluster on the way into the bundle.

    A death is written to the row of the last bundle that has the cluster.
    """
    words_of: defaultdict[tuple[int, str], list[str]] = defaultdict(list)
    for event in timeline.events:
        for identity, words in _in_words(event):
            order = event.order - 1 if event.kind in {"death", "unseen"} else event.order
            words_of[order, identity].append(words)
    return [
        {
            "cluster_id": entry.cluster_id,
            "name": entry.name,
            "stage": entry.stage,
            "release_bundle": entry.release_bundle,
            "bundle_order": entry.order,
            "size": entry.size,
            "share": round(entry.share, 4),
            "verdict": entry.verdict,
            "events": "; ".join(words_of[entry.order, entry.cluster_id]),
        }
        for entry in timeline.entries
    ]


def _entries(bundle: MinedBundle, order: int) -> list[TimelineEntry]:
    identities = [profile.cluster_id for profile in bundle.profiles]
    if len(set(identities)) < len(identities):
        raise ValueError(f"bundle {bundle.release_bundle!r} names a cluster twice: {sorted(identities)}")
    clusters = {cluster.cluster_id: cluster for cluster in bundle.clusters}
    return [
        TimelineEntry(
            cluster_id=profile.cluster_id,
            name=clusters[profile.cluster_id].name,
            stage=profile.stage,
            release_bundle=bundle.release_bundle,
            order=order,
            size=profile.size,
            share=profile.size / bundle.turns,
            verdict=clusters[profile.cluster_id].growth.verdict,
        )
        for profile in sorted(bundle.profiles, key=lambda profile: (-profile.size, profile.cluster_id))
    ]


def _in_words(event: TimelineEvent) -> list[tuple[str, str]]:
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
