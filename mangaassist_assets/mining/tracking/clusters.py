"""Failure clusters as values: what is known of one, of all of a bundle, and of the bundles around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mangaassist_assets.mining.blame.rule_names import Loop, Stage
from mangaassist_assets.mining.tracking.cluster_events import IdentityEvent
from mangaassist_assets.mining.tracking.growth import Growth
from mangaassist_assets.mining.tracking.profiles import ClusterProfile

ClusterState = Literal["born", "returned", "continued", "merged", "split"]
"""What happened to a cluster since the bundle before; `split`: it is one of the parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureCluster:
    """One group of failed turns of one bundle.

    `name` is what people call it: words that set it apart, or what a model proposed (`name_model`), or why a model that
    was asked did not (`name_refused`). `stage` is what its members are blamed on, those blamed on nothing excepted, and
    `loop` what that feeds. `previous_ids` are the clusters of the bundle before that it comes from. `turns` are all
    turns of the bundle, `users` the distinct shoppers among the members (sessions where the shopper is unknown).
    `cohesion` is the mean cosine of its messages to their centre, `stability` how much of the group is found again in
    samples of the bundle (mean Jaccard index, None where that was not measured). `noise_reason` says why it is noise,
    None where it is none. `examples` are redacted messages, the most central first, `edge_examples` the farthest from
    the centre; no two are alike.
    """

    cluster_id: str
    release_bundle: str
    name: str
    state: ClusterState
    stage: Stage
    loop: Loop
    size: int
    turns: int
    users: int
    growth: Growth
    first_seen_ms: int
    last_seen_ms: int
    blame_counts: dict[str, int]
    signal_counts: dict[str, int]
    examples: tuple[str, ...]
    edge_examples: tuple[str, ...]
    trace_ids: tuple[str, ...]
    cohesion: float
    stability: float | None = None
    noise_reason: str | None = None
    previous_ids: tuple[str, ...] = ()
    name_model: str | None = None
    name_refused: str | None = None

    @property
    def noise(self) -> bool:
        """Whether the group is too small, or its messages too little alike, to stand for one failure."""
        return self.noise_reason is not None

    @property
    def share(self) -> float:
        """Its members as a share of all turns of the bundle, so that bundles of any size compare."""
        return self.size / self.turns


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MinedBundle:
    """The clusters of one bundle as they were mined: `profiles` in the order of `clusters`, and what happened to them.

    `turns` are all turns of the bundle. `events` are those since the bundle before. Only bundles whose messages were
    embedded by the same model compare.
    """

    release_bundle: str
    turns: int
    embedding_model_id: str
    clusters: tuple[FailureCluster, ...]
    profiles: tuple[ClusterProfile, ...]
    events: tuple[IdentityEvent, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClusterHistory:
    """What the store knows of clusters when a bundle is mined.

    `same` is this bundle as it was mined before, `earlier` the bundles before it, oldest first, `following` the next
    newer bundle that was mined already. `taken` are the ids in use anywhere.
    """

    same: MinedBundle | None = None
    earlier: Sequence[MinedBundle] = ()
    following: MinedBundle | None = None
    taken: frozenset[str] = frozenset()

    @property
    def previous(self) -> MinedBundle | None:
        """The bundle before."""
        return self.earlier[-1] if self.earlier else None

    def dormant(self) -> list[ClusterProfile]:
        """Return the last profile of each cluster that older bundles had and the bundle before has not."""
        last = {profile.cluster_id: profile for bundle in self.earlier[:-1] for profile in bundle.profiles}
        present = {profile.cluster_id for profile in self.previous.profiles} if self.previous else set()
        return [profile for identity, profile in sorted(last.items()) if identity not in present]

    def known(self) -> frozenset[str]:
        """Return the ids that bundles older than the one before had."""
        return frozenset(profile.cluster_id for bundle in self.earlier[:-1] for profile in bundle.profiles)


NO_HISTORY = ClusterHistory()
