"""What became of each cluster from one bundle to the next: birth, continuation, merge, split, death, return.

Kin are looked for among clusters blamed on the same stage first; what is left on both sides is then compared across
stages, because a failure whose blame moves (from `unknown` to `reranker`, say) is still the same failure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Flags, Floats
from mangaassist_assets.mining.tracking.cluster_matching import (
    DEFAULT_CLUSTER_MATCHING,
    ClusterMatchingConfig,
    check_dimensions,
    cover,
)
from mangaassist_assets.mining.tracking.profiles import ClusterProfile

EventKind = Literal["birth", "return", "continuation", "merge", "split", "death", "unseen"]
EVENT_KINDS: tuple[EventKind, ...] = ("birth", "return", "continuation", "merge", "split", "death", "unseen")

_BARRED = -1.0  # below any product of shares


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityConfig:
    """How clusters of two bundles are matched.

    A death is claimed only where, at its rate in the bundle before, seeing nothing of the cluster among this bundle's
    turns has a probability below `death_chance`, and where this bundle's clusters hold in parts no more than
    `scattered_share` of the messages that would be expected of it. `kept_overlap` is the share of the members, of the
    old or of the new cluster, that makes a cluster of a bundle mined again the same one.
    """

    matching: ClusterMatchingConfig = field(default_factory=ClusterMatchingConfig)
    death_chance: float = 0.01
    scattered_share: float = 0.5
    kept_overlap: float = 0.5


DEFAULT_IDENTITY = IdentityConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityEvent:
    """One thing that happened between two bundles.

    `cluster_ids` are of the newer bundle, `previous_ids` of the older one. Of a merge or a split the one that shares
    most stands first. `return`: a cluster known from before the older bundle. `unseen`: nothing continues the cluster,
    yet that is no evidence of its end, because few were to be expected or because its messages went to several others.
    `similarity` is the cosine of the centroids of the first pair, None where there is no pair.
    """

    kind: EventKind
    cluster_ids: tuple[str, ...] = ()
    previous_ids: tuple[str, ...] = ()
    similarity: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Links:
    """Cluster matching of n current and m previous clusters, in the order they were given.

    `kin` (n, m) says who is kin of whom, `mutual` (n, m) how much they share, `similarity` (n, m) the cosine of the
    centroids. `inherited` (n, m): which share of a previous cluster's members a current one took over; a column sums
    to one, or to zero where nothing is kin. `remaining` (m,): how many messages like each previous cluster's there
    still are, in current clusters that are kin of any previous one.
    """

    kin: Flags
    mutual: Floats
    similarity: Floats
    inherited: Floats
    remaining: Floats

    def heirs(self) -> dict[int, int]:
        """Return the column that each row carries on: the best one-to-one matching of kin by what they share."""
        from scipy.optimize import linear_sum_assignment

        weights = np.where(self.kin, self.mutual, _BARRED)
        pairs = zip(*linear_sum_assignment(weights, maximize=True), strict=True)
        return {int(row): int(column) for row, column in pairs if self.kin[row, column]}


def link_clusters(
    current: Sequence[ClusterProfile],
    previous: Sequence[ClusterProfile],
    *,
    config: ClusterMatchingConfig = DEFAULT_CLUSTER_MATCHING,
) -> Links:
    """Return who of `current` is kin of whom of `previous`: first within a stage, then what is left across stages.

    Raises:
        ValueError: the two bundles were embedded with models of different dimension.
    """
    check_dimensions(current, previous)
    shape = (len(current), len(previous))
    kin = np.zeros(shape, dtype=bool)
    mutual, similarity, forward, backward = np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape)
    sizes = np.array([cluster.size for cluster in current], dtype=np.float64)

    def compare(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
        if not len(rows) or not len(columns):
            return
        found = cover([current[row] for row in rows], [previous[column] for column in columns], config=config)
        place = np.ix_(rows, columns)
        kin[place], mutual[place], similarity[place] = found.kin(config), found.mutual(), found.similarity
        forward[place], backward[place] = found.forward, found.backward.T

    stages = np.array([cluster.stage for cluster in current], dtype=object)
    earlier_stages = np.array([cluster.stage for cluster in previous], dtype=object)
    for stage in sorted({*stages} & {*earlier_stages}):
        compare(np.flatnonzero(stages == stage), np.flatnonzero(earlier_stages == stage))
    compare(np.flatnonzero(~kin.any(axis=1)), np.flatnonzero(~kin.any(axis=0)))
    taken_over = np.where(kin, backward, 0.0)
    totals = taken_over.sum(axis=0)
    return Links(
        kin=kin,
        mutual=mutual,
        similarity=similarity,
        inherited=np.divide(taken_over, totals, out=np.zeros(shape), where=totals > 0),
        remaining=(sizes * kin.any(axis=1)) @ forward,
    )


def bundle_events(
    current: Sequence[ClusterProfile],
    previous: Sequence[ClusterProfile],
    *,
    turns: int,
    previous_turns: int,
    known: frozenset[str] = frozenset(),
    config: IdentityConfig = DEFAULT_IDENTITY,
) -> tuple[IdentityEvent, ...]:
    """Return what happened between two bundles, by kind, then by id; each cluster is in at least one event.

    Args:
        current: the clusters of the newer bundle, ids resolved.
        previous: those of the older one.
        turns: all turns of the newer bundle, failed or not.
        previous_turns: those of the older one.
        known: ids seen before the older bundle; one that comes back returns, it is not born.
        config: thresholds.

    Raises:
        ValueError: a bundle has fewer turns than failed ones, or the dimensions of the embeddings differ.
    """
    for clusters, count, which in ((current, turns, "newer"), (previous, previous_turns, "older")):
        if count < sum(cluster.size for cluster in clusters):
            raise ValueError(f"the {which} bundle cannot have more failed turns in clusters than its {count} turns")
    current = sorted(current, key=lambda cluster: cluster.cluster_id)
    previous = sorted(previous, key=lambda cluster: cluster.cluster_id)
    links = link_clusters(current, previous, config=config.matching)
    _join_same_ids(current, previous, links)
    exposure = turns / previous_turns if previous_turns else 0.0
    events = [
        *_origins(current, previous, links, known),
        *_splits(current, previous, links),
        *(
            IdentityEvent(
                kind="death" if _is_gone(cluster.size, exposure, float(remaining), config) else "unseen",
                previous_ids=(cluster.cluster_id,),
            )
            for cluster, children, remaining in zip(previous, links.kin.sum(axis=0), links.remaining, strict=True)
            if children == 0
        ),
    ]
    return tuple(
        sorted(events, key=lambda event: (EVENT_KINDS.index(event.kind), event.cluster_ids, event.previous_ids))
    )


def inheritance(
    current: Sequence[ClusterProfile], previous: Sequence[ClusterProfile], links: Links
) -> tuple[Mapping[str, float], ...]:
    """Return for each current cluster which share of each previous one it took over, by the previous id.

    A merged cluster took over all of its parents, the parts of a split one share it out: what a count is to be
    compared with, lest a merge looks like growth.
    """
    return tuple(
        {
            previous[column].cluster_id: float(round(links.inherited[row, column], 6))
            for column in map(int, np.flatnonzero(links.kin[row]))
        }
        for row in range(len(current))
    )


def chance_of_none(size: int, exposure: float) -> float:
    """Return the probability of seeing nothing of a steady cluster that had `size` members in the bundle before.

    `exposure` is this bundle's turns / the other's. Predictive distribution of a Poisson count under Jeffreys' prior,
    so the rate of a small cluster is not taken for known: (1 / (1 + exposure)) ** (size + 1/2).
    """
    return float((1.0 + exposure) ** -(size + 0.5))


def _join_same_ids(current: Sequence[ClusterProfile], previous: Sequence[ClusterProfile], links: Links) -> None:
    """Let an id that both bundles have continue where nothing else explains the two clusters: ids were given before."""
    places = {cluster.cluster_id: column for column, cluster in enumerate(previous)}
    for row, cluster in enumerate(current):
        column = places.get(cluster.cluster_id)
        if column is not None and not links.kin[row].any() and not links.kin[:, column].any():
            links.kin[row, column] = True


def _is_gone(size: int, exposure: float, remaining: float, config: IdentityConfig) -> bool:
    expected = size * exposure
    return remaining <= config.scattered_share * expected and chance_of_none(size, exposure) < config.death_chance


def _origins(
    current: Sequence[ClusterProfile], previous: Sequence[ClusterProfile], links: Links, known: frozenset[str]
) -> list[IdentityEvent]:
    """Births, returns, continuations and merges: events that end in one current cluster."""
    events = []
    for row, cluster in enumerate(current):
        columns = _by_share(np.flatnonzero(links.kin[row]), links.mutual[row])
        if not columns:
            kind: EventKind = "return" if cluster.cluster_id in known else "birth"
            events.append(IdentityEvent(kind=kind, cluster_ids=(cluster.cluster_id,)))
        elif len(columns) > 1 or links.kin[:, columns[0]].sum() == 1:
            events.append(
                IdentityEvent(
                    kind="merge" if len(columns) > 1 else "continuation",
                    cluster_ids=(cluster.cluster_id,),
                    previous_ids=tuple(previous[column].cluster_id for column in columns),
                    similarity=float(links.similarity[row, columns[0]]),
                )
            )
    return events


def _splits(current: Sequence[ClusterProfile], previous: Sequence[ClusterProfile], links: Links) -> list[IdentityEvent]:
    events = []
    for column, cluster in enumerate(previous):
        rows = _by_share(np.flatnonzero(links.kin[:, column]), links.mutual[:, column])
        if len(rows) > 1:
            events.append(
                IdentityEvent(
                    kind="split",
                    cluster_ids=tuple(current[row].cluster_id for row in rows),
                    previous_ids=(cluster.cluster_id,),
                    similarity=float(links.similarity[rows[0], column]),
                )
            )
    return events


def _by_share(places: NDArray[np.int64], shares: Floats) -> list[int]:
    return sorted(map(int, places), key=lambda place: (-shares[place], place))
