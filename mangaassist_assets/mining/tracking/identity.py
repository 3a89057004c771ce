"""Cluster identity: the same failure keeps its id from bundle to bundle, in whatever order the bundles are mined.

An id is given once, when the group is first mined, and never changed by mining another bundle. For each group it comes
from the first of these that has one to give, and no id is given twice within a bundle:

1. this bundle as it was mined before: the group that shares most members (late traces do not rename a cluster);
2. the bundle before: the cluster it carries on, of a merge or a split the one that shares most (`Links.heirs`);
3. the next newer bundle that is already mined: a backfill takes the ids of the newer bundle, which keeps them;
4. clusters that the bundle before has not, but an older one had: a failure that comes back;
5. nothing: a new id, made of the bundle and the group's members, so that mining again gives the same one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from mangaassist_assets.mining.tracking.cluster_events import (
    DEFAULT_IDENTITY,
    IdentityConfig,
    inheritance,
    link_clusters,
)
from mangaassist_assets.mining.tracking.profiles import ClusterProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Identities:
    """Of each current group, in the order given: its id, its profile with that id, and what it took over.

    `inherits` gives the share of each cluster of the bundle before that the group took over, by that cluster's id.
    """

    ids: tuple[str, ...]
    profiles: tuple[ClusterProfile, ...]
    inherits: tuple[Mapping[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OtherClusters:
    """The clusters that a bundle's groups may be.

    `same_bundle` are the trace ids of this bundle's clusters as it was mined before, by cluster id; `previous` are the
    clusters of the bundle before, `following` those of the next newer bundle that was mined already, `dormant` the last
    profile of each cluster that older bundles had and `previous` has not. `taken` are all ids in use anywhere.
    """

    same_bundle: Mapping[str, Sequence[str]] = field(default_factory=dict)
    previous: Sequence[ClusterProfile] = ()
    following: Sequence[ClusterProfile] = ()
    dormant: Sequence[ClusterProfile] = ()
    taken: frozenset[str] = frozenset()


NO_OTHERS = OtherClusters()


def resolve_identities(
    current: Sequence[ClusterProfile],
    *,
    release_bundle: str,
    members: Sequence[Sequence[str]],
    others: OtherClusters = NO_OTHERS,
    config: IdentityConfig = DEFAULT_IDENTITY,
) -> Identities:
    """Give each group of a bundle its id; the order of no argument matters.

    Args:
        current: the groups' profiles; their `cluster_id` is ignored.
        release_bundle: the bundle they belong to.
        members: the trace ids of each group.
        others: what the store knows of clusters.
        config: thresholds.

    Raises:
        ValueError: groups and member lists do not fit together, a trace is in two groups, a bundle names an id twice,
            or the embeddings differ in dimension.
    """
    _check(current, members)
    for which in ("previous", "following", "dormant"):
        _check_unique([cluster.cluster_id for cluster in getattr(others, which)], f"the {which} clusters")
    keys = [birth_id(release_bundle, group) for group in members]
    order = sorted(range(len(current)), key=lambda place: (keys[place], sorted(members[place])))
    groups = [replace(current[place], cluster_id=keys[place]) for place in order]
    sets = [frozenset(members[place]) for place in order]
    earlier = sorted(others.previous, key=lambda cluster: cluster.cluster_id)

    links = link_clusters(groups, earlier, config=config.matching)
    assigned = _kept_ids(sets, others.same_bundle, config.kept_overlap)
    _assign(assigned, {row: earlier[column].cluster_id for row, column in links.heirs().items()})
    for clusters in (others.following, others.dormant):
        pool = sorted(clusters, key=lambda cluster: cluster.cluster_id)
        open_rows = [row for row in range(len(groups)) if row not in assigned]
        if not open_rows or not pool:
            continue
        # All groups are compared, not only the open ones: an id goes to a group because it is the heir, not the rest.
        found = link_clusters(groups, pool, config=config.matching).heirs()
        _assign(assigned, {row: pool[found[row]].cluster_id for row in open_rows if row in found})
    known = [cluster.cluster_id for cluster in (*others.previous, *others.following, *others.dormant)]
    used = others.taken.union(known, others.same_bundle)
    for row, group in enumerate(sets):
        if row not in assigned:
            assigned[row] = birth_id(release_bundle, group, taken=used | frozenset(assigned.values()))

    inherits = inheritance(groups, earlier, links)
    place_of = {place: row for row, place in enumerate(order)}
    rows = [place_of[place] for place in range(len(current))]
    return Identities(
        ids=tuple(assigned[row] for row in rows),
        profiles=tuple(replace(groups[row], cluster_id=assigned[row]) for row in rows),
        inherits=tuple(inherits[row] for row in rows),
    )


def birth_id(release_bundle: str, trace_ids: Iterable[str], *, taken: frozenset[str] = frozenset()) -> str:
    """Return an id for a new group: a hash of the bundle it was born in and its member traces; never one in `taken`."""
    content = "\n".join([release_bundle, *sorted(trace_ids)])
    digests = (hashlib.sha256(f"{attempt}\n{content}".encode()).hexdigest() for attempt in count())
    return next(identity for digest in digests if (identity := f"fc-{digest[:10]}") not in taken)


def _check(current: Sequence[ClusterProfile], members: Sequence[Sequence[str]]) -> None:
    if len(current) != len(members):
        raise ValueError(f"{len(current)} groups but {len(members)} lists of members")
    for cluster, group in zip(current, members, strict=True):
        if len(group) != cluster.size:
            raise ValueError(f"group {cluster.cluster_id!r} has size {cluster.size} but {len(group)} members")
    _check_unique([trace_id for group in members for trace_id in group], "the groups' members")


def _check_unique(identities: Sequence[str], where: str) -> None:
    seen: set[str] = set()
    for identity in identities:
        if identity in seen:
            raise ValueError(f"{identity!r} stands twice in {where}")
        seen.add(identity)


def _kept_ids(
    groups: Sequence[frozenset[str]], mined: Mapping[str, Sequence[str]], kept_overlap: float
) -> dict[int, str]:
    """Return ids of this bundle as mined before, by row: the one-to-one matching of greatest overlap of members."""
    from scipy.optimize import linear_sum_assignment

    if not groups or not mined:
        return {}
    before = sorted(mined)
    shared = np.array([[len(group.intersection(mined[old])) for old in before] for group in groups], dtype=float)
    sizes = np.array([len(group) for group in groups], dtype=float)[:, None]
    old_sizes = np.array([len(mined[old]) for old in before], dtype=float)[None, :]
    # Of two groups that share alike the one that is more alike wins; a Jaccard index is at most one.
    weights = np.round(shared + shared / np.maximum(sizes + old_sizes - shared, 1.0) / 2, 9)
    enough = (shared >= kept_overlap * old_sizes) | (shared >= kept_overlap * sizes)
    weights = np.where(enough & (shared > 0), weights, 0.0)
    pairs = zip(*linear_sum_assignment(weights, maximize=True), strict=True)
    return {int(row): before[column] for row, column in pairs if weights[row, column] > 0}


def _assign(assigned: dict[int, str], offered: Mapping[int, str]) -> None:
    """Take over the offered ids of rows that have none, unless another row of the bundle has the id."""
    used = set(assigned.values())
    for row, identity in sorted(offered.items()):
        if row not in assigned and identity not in used:
            assigned[row] = identity
            used.add(identity)
