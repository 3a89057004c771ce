"""From failed turns to failure clusters: grouped, separated from noise, recognised, counted, named, shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.mining.blame.blame import FailedTurn
from mangaassist_assets.mining.blame.rule_names import LOOP_OF_STAGE
from mangaassist_assets.mining.clustering.communities import ClusteringConfig, Labels, cluster_messages
from mangaassist_assets.mining.clustering.grouping import FailureGroup, group_failures
from mangaassist_assets.mining.clustering.noise import NoiseConfig, decide_noise
from mangaassist_assets.mining.clustering.representatives import nearest_first, representatives
from mangaassist_assets.mining.clustering.stability import StabilityConfig, cluster_stability
from mangaassist_assets.mining.naming.model_names import ClusterName, ClusterNamer, choose_names
from mangaassist_assets.mining.tracking.cluster_events import (
    DEFAULT_IDENTITY,
    EventKind,
    IdentityConfig,
    IdentityEvent,
    bundle_events,
)
from mangaassist_assets.mining.tracking.clusters import (
    NO_HISTORY,
    ClusterHistory,
    ClusterState,
    FailureCluster,
    MinedBundle,
)
from mangaassist_assets.mining.tracking.growth import ClusterCounts, Growth, GrowthConfig, judge_growth
from mangaassist_assets.mining.tracking.identity import Identities, OtherClusters, resolve_identities
from mangaassist_assets.mining.tracking.profiles import profile_of
from mangaassist_assets.privacy import Vocabulary, redact, shopper_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ClustersConfig:
    """How clusters are formed, tracked and shown.

    `stability` None leaves stability unmeasured. `vocabulary` are the store's own words, which are no personal data.
    """

    clustering: ClusteringConfig = field(default_factory=ClusteringConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    identity: IdentityConfig = DEFAULT_IDENTITY
    growth: GrowthConfig = field(default_factory=GrowthConfig)
    stability: StabilityConfig | None = field(default_factory=StabilityConfig)
    examples: int = 5
    edge_examples: int = 2
    example_characters: int = 160
    vocabulary: Vocabulary | None = None


DEFAULT_CLUSTERS = ClustersConfig()
_STATES: dict[EventKind, ClusterState] = {
    "merge": "merged",
    "split": "split",
    "continuation": "continued",
    "return": "returned",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClusterMining:
    """The clusters of a bundle, the largest first, and the cluster id of each failed turn in the order given."""

    bundle: MinedBundle
    cluster_ids: tuple[str, ...]


def mine_clusters(
    failures: Sequence[FailedTurn],
    vectors: NDArray[np.float32],
    *,
    release_bundle: str,
    turns: int,
    embedding_model_id: str,
    history: ClusterHistory = NO_HISTORY,
    namer: ClusterNamer | None = None,
    config: ClustersConfig = DEFAULT_CLUSTERS,
) -> ClusterMining:
    """Group the failed turns of one bundle by meaning and stage, and recognise in the groups what earlier bundles had.

    The order of the failed turns does not matter.

    Args:
        failures: the failed turns of the bundle.
        vectors: of their messages, float32 of shape (len(failures), d), rows of length one.
        release_bundle: the bundle all of them belong to.
        turns: how many turns the bundle has in all, failed or not.
        embedding_model_id: the model that made the vectors.
        history: what the store knows of clusters.
        namer: the model that is asked for names of new clusters; None names them by their words.
        config: thresholds.

    Raises:
        ValueError: counts do not fit together, a turn belongs to another bundle, or another bundle was embedded by
            another model.
    """
    _check_history(history, embedding_model_id)
    _check(failures, vectors, release_bundle, turns)
    order = sorted(range(len(failures)), key=lambda row: failures[row].turn.trace_id)
    ordered, rows_of = [failures[row] for row in order], np.asarray(vectors)[order]
    groups = group_failures([failure.blame.stage for failure in ordered], rows_of, config=config.clustering)
    members = [[ordered[row] for row in group.rows] for group in groups]
    noise = decide_noise(
        rows_of, _numbers(groups, len(ordered)), users=[_shopper(one) for one in ordered], config=config.noise
    )
    profiles = [
        profile_of(f"group-{number}", rows_of[list(group.rows)], _trace_ids(members[number]), stage=group.stage)
        for number, group in enumerate(groups)
    ]
    previous, following = history.previous, history.following
    identities = resolve_identities(
        profiles,
        release_bundle=release_bundle,
        members=[_trace_ids(one) for one in members],
        others=OtherClusters(
            same_bundle={one.cluster_id: one.trace_ids for one in history.same.clusters} if history.same else {},
            previous=previous.profiles if previous else (),
            following=following.profiles if following else (),
            dormant=history.dormant(),
            taken=history.taken,
        ),
        config=config.identity,
    )
    events = bundle_events(
        identities.profiles,
        previous.profiles if previous else (),
        turns=turns,
        previous_turns=previous.turns if previous else 0,
        known=history.known(),
        config=config.identity,
    )
    shown = [
        representatives(
            rows_of[list(group.rows)],
            _trace_ids(members[number]),
            [one.turn.learnable_text for one in members[number]],
            nearest=config.examples,
            farthest=config.edge_examples,
        )
        for number, group in enumerate(groups)
    ]
    nearest = [
        nearest_first(rows_of[list(group.rows)], _trace_ids(members[number])) for number, group in enumerate(groups)
    ]
    names = _names(members, shown, nearest, identities, history, namer=namer, config=config)
    found = zip(
        groups,
        members,
        identities.ids,
        _growth(members, identities, history, turns=turns, config=config),
        _stability(rows_of, groups, config),
        shown,
        strict=True,
    )
    clusters: list[FailureCluster] = []
    for number, (group, own, identity, growth, stability, examples) in enumerate(found):
        state, previous_ids = _origin(identity, events)
        times = [member.turn.timestamp_ms for member in own]
        near, far = (dict.fromkeys(_example(own[row], config) for row in rows) for rows in examples)
        clusters.append(
            FailureCluster(
                cluster_id=identity,
                release_bundle=release_bundle,
                name=names[identity].text,
                name_model=names[identity].model_id,
                name_refused=names[identity].why,
                state=state,
                previous_ids=previous_ids,
                stage=group.stage,
                loop=LOOP_OF_STAGE[group.stage],
                size=len(own),
                turns=turns,
                users=growth.count,
                growth=growth,
                first_seen_ms=min(times),
                last_seen_ms=max(times),
                blame_counts=dict(sorted(Counter(member.blame.stage for member in own).items())),
                signal_counts=dict(sorted(Counter(one.name for member in own for one in member.signals).items())),
                examples=tuple(near),
                edge_examples=tuple(text for text in far if text not in near),
                trace_ids=_trace_ids(own),
                cohesion=float(noise.cohesion[number]),
                stability=stability,
                noise_reason=noise.reasons.get(number),
            )
        )
    by_size = sorted(range(len(clusters)), key=lambda number: (-clusters[number].size, clusters[number].cluster_id))
    cluster_ids = [""] * len(failures)
    for number, group in enumerate(groups):
        for row in group.rows:
            cluster_ids[order[row]] = identities.ids[number]
    return ClusterMining(
        bundle=MinedBundle(
            release_bundle=release_bundle,
            turns=turns,
            embedding_model_id=embedding_model_id,
            clusters=tuple(clusters[number] for number in by_size),
            profiles=tuple(identities.profiles[number] for number in by_size),
            events=events,
        ),
        cluster_ids=tuple(cluster_ids),
    )


def _check(failures: Sequence[FailedTurn], vectors: NDArray[np.float32], release_bundle: str, turns: int) -> None:
    if len(vectors) != len(failures):
        raise ValueError(f"{len(failures)} failed turns but {len(vectors)} embeddings")
    if turns < len(failures):
        raise ValueError(f"bundle {release_bundle!r} cannot have {len(failures)} failed turns among {turns} turns")
    for failure in failures:
        if failure.turn.release_bundle != release_bundle:
            raise ValueError(
                f"trace {failure.turn.trace_id} belongs to {failure.turn.release_bundle!r}, not {release_bundle!r}"
            )


def _check_history(history: ClusterHistory, embedding_model_id: str) -> None:
    for bundle in (history.same, *history.earlier, history.following):
        if bundle is not None and bundle.embedding_model_id != embedding_model_id:
            raise ValueError(
                f"bundle {bundle.release_bundle!r} was embedded by {bundle.embedding_model_id!r}, this one by "
                f"{embedding_model_id!r}: leave it out of the history or mine it again"
            )


def _numbers(groups: Sequence[FailureGroup], count: int, *, of_meaning: bool = False) -> Labels:
    """Return the number of each row's group, or of the meaning that its group is a part of."""
    labels = np.zeros(count, dtype=np.int64)
    for number, group in enumerate(groups):
        labels[list(group.rows)] = group.meaning if of_meaning else number
    return labels


def _shopper(failure: FailedTurn) -> str:
    return shopper_of(failure.turn.user_key, failure.turn.session_id)


def _trace_ids(members: Sequence[FailedTurn]) -> tuple[str, ...]:
    return tuple(member.turn.trace_id for member in members)


def _growth(
    members: Sequence[Sequence[FailedTurn]],
    identities: Identities,
    history: ClusterHistory,
    *,
    turns: int,
    config: ClustersConfig,
) -> tuple[Growth, ...]:
    """Compare shoppers, not turns: one shopper who asks ten times is no growth."""
    if not members:
        return ()
    earlier = [bundle for bundle in history.earlier if bundle.turns > 0]
    users = [{cluster.cluster_id: cluster.users for cluster in bundle.clusters} for bundle in earlier]
    counts = [
        ClusterCounts(
            cluster_id=identity,
            count=len({_shopper(one) for one in members[number]}),
            earlier=tuple(
                # What returns inherits nothing of the bundle before: it is compared with itself.
                sum(share * of_bundle.get(parent, 0) for parent, share in (inherits or {identity: 1.0}).items())
                for of_bundle in users
            ),
        )
        for number, (identity, inherits) in enumerate(zip(identities.ids, identities.inherits, strict=True))
    ]
    return judge_growth(counts, turns=turns, earlier_turns=[bundle.turns for bundle in earlier], config=config.growth)


def _names(
    members: Sequence[Sequence[FailedTurn]],
    shown: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
    nearest: Sequence[Sequence[int]],
    identities: Identities,
    history: ClusterHistory,
    *,
    namer: ClusterNamer | None,
    config: ClustersConfig,
) -> Mapping[str, ClusterName]:
    """A cluster that had a name keeps it; one that a model was asked for in vain is asked for again."""
    kept: dict[str, ClusterName] = {}
    for bundle in (*history.earlier, history.following, history.same):
        for cluster in bundle.clusters if bundle else ():
            if namer is None or cluster.name_refused is None:
                kept[cluster.cluster_id] = ClusterName(
                    text=cluster.name,
                    source="words" if cluster.name_model is None else "model",
                    model_id=cluster.name_model,
                    why=cluster.name_refused,
                )
    texts = {
        identity: [one.turn.learnable_text for one in group]
        for identity, group in zip(identities.ids, members, strict=True)
    }
    return choose_names(
        texts,
        namer=namer,
        examples={
            identity: [texts[identity][row] for row in rows]
            for identity, (rows, _) in zip(identities.ids, shown, strict=True)
        },
        nearest=dict(zip(identities.ids, nearest, strict=True)),
        speakers={
            identity: [_shopper(one) for one in group] for identity, group in zip(identities.ids, members, strict=True)
        },
        earlier=kept,
        vocabulary=config.vocabulary,
    )


def _stability(
    vectors: NDArray[np.float32], groups: Sequence[FailureGroup], config: ClustersConfig
) -> list[float | None]:
    if config.stability is None or not groups:
        return [None] * len(groups)
    meanings = _numbers(groups, len(vectors), of_meaning=True)
    cluster = partial(cluster_messages, config=config.clustering)
    measured = cluster_stability(vectors, meanings, cluster=cluster, config=config.stability)
    return [None if np.isnan(measured[group.meaning]) else float(measured[group.meaning]) for group in groups]


def _origin(identity: str, events: Sequence[IdentityEvent]) -> tuple[ClusterState, tuple[str, ...]]:
    """Return what happened to a cluster; where several things did, the one that joins or divides says most."""
    found = {event.kind: event for event in events if identity in event.cluster_ids}
    for kind, state in _STATES.items():
        if kind in found:
            return state, found[kind].previous_ids
    return "born", ()


def _example(failure: FailedTurn, config: ClustersConfig) -> str:
    text = " ".join(redact(failure.turn.learnable_text, vocabulary=config.vocabulary).text.split())
    return text if len(text) <= config.example_characters else text[: config.example_characters - 1] + "…"
