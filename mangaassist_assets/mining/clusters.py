"""Failure clusters of one bundle: failed turns that mean alike, with an identity, a name, a size, a trend, examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.mining.blame import STAGES, FailedTurn, Loop, Stage
from mangaassist_assets.mining.clustering import ClusteringConfig, cluster_messages
from mangaassist_assets.mining.identity import IdentityMatch, birth_id, match_identities
from mangaassist_assets.mining.naming import name_groups
from mangaassist_assets.tracing.redaction import Vocabulary, redact

ClusterState = Literal["born", "continued"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """How a cluster moved since the previous bundle, in shares of all turns so that bundles of any size compare.

    `ratio` is share / previous_share, None where the cluster is new.
    """

    share: float
    previous_share: float | None
    previous_size: int | None
    ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureCluster:
    """One group of failed turns.

    `stage` is the one most members are blamed on and `loop` the one it feeds; `blame_counts` and `signal_counts` count
    members. `users` counts distinct shoppers (sessions where the shopper is unknown). `examples` are redacted messages,
    the most central first, no two alike. `centroid` has length one. `turns` is the number of all turns of the bundle.
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
    trend: Trend
    first_seen_ms: int
    last_seen_ms: int
    blame_counts: dict[str, int]
    signal_counts: dict[str, int]
    examples: tuple[str, ...]
    trace_ids: tuple[str, ...]
    centroid: tuple[float, ...]
    matched_similarity: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClustersConfig:
    """How clusters are formed, told apart and shown; `vocabulary` are the store's own words, no personal data."""

    clustering: ClusteringConfig = field(default_factory=ClusteringConfig)
    continue_similarity: float = 0.75
    examples: int = 5
    example_characters: int = 160
    vocabulary: Vocabulary | None = None


DEFAULT_CLUSTERS = ClustersConfig()


def build_clusters(
    failures: Sequence[FailedTurn],
    embeddings: NDArray[np.float32],
    *,
    release_bundle: str,
    turns: int,
    previous: Sequence[FailureCluster] = (),
    config: ClustersConfig = DEFAULT_CLUSTERS,
) -> list[FailureCluster]:
    """Group the failed turns of one bundle, the largest cluster first, then by id.

    Args:
        failures: the failed turns of the bundle.
        embeddings: of their messages, float32 of shape (len(failures), d).
        release_bundle: the bundle all of them belong to.
        turns: how many turns the bundle has in all, failed or not.
        previous: the clusters of the bundle before, if there is one.
        config: thresholds.

    Raises:
        ValueError: counts do not fit together, or a turn belongs to another bundle.
    """
    _check(failures, embeddings, release_bundle, turns)
    if not failures:
        return []
    labels = cluster_messages(embeddings, config=config.clustering)
    members = [np.flatnonzero(labels == label).tolist() for label in range(int(labels.max()) + 1)]
    centroids = np.stack([_centroid(embeddings[rows]) for rows in members])
    matches = match_identities(
        centroids,
        [cluster.cluster_id for cluster in previous],
        np.array([cluster.centroid for cluster in previous], dtype=np.float32),
        minimum_similarity=config.continue_similarity,
    )
    names = name_groups(
        {str(group): [failures[row].turn.learnable_text for row in rows] for group, rows in enumerate(members)}
    )
    earlier = {cluster.cluster_id: cluster for cluster in previous}
    clusters = [
        _cluster(
            [failures[row] for row in rows],
            embeddings[rows],
            centroids[group],
            name=names[str(group)],
            match=matches[group],
            earlier=earlier,
            release_bundle=release_bundle,
            turns=turns,
            config=config,
        )
        for group, rows in enumerate(members)
    ]
    return sorted(clusters, key=lambda cluster: (-cluster.size, cluster.cluster_id))


def dead_clusters(current: Sequence[FailureCluster], previous: Sequence[FailureCluster]) -> list[FailureCluster]:
    """Return the clusters of the previous bundle that nothing continues."""
    alive = {cluster.cluster_id for cluster in current}
    return [cluster for cluster in previous if cluster.cluster_id not in alive]


def _check(failures: Sequence[FailedTurn], embeddings: NDArray[np.float32], release_bundle: str, turns: int) -> None:
    if len(embeddings) != len(failures):
        msg = f"{len(failures)} failed turns but {len(embeddings)} embeddings"
        raise ValueError(msg)
    if turns < len(failures):
        msg = f"bundle {release_bundle!r} cannot have {len(failures)} failed turns among {turns} turns"
        raise ValueError(msg)
    for failure in failures:
        if failure.turn.release_bundle != release_bundle:
            msg = f"trace {failure.turn.trace_id} belongs to {failure.turn.release_bundle!r}, not {release_bundle!r}"
            raise ValueError(msg)


def _cluster(
    members: Sequence[FailedTurn],
    vectors: NDArray[np.float32],
    centroid: NDArray[np.float32],
    *,
    name: str,
    match: IdentityMatch,
    earlier: dict[str, FailureCluster],
    release_bundle: str,
    turns: int,
    config: ClustersConfig,
) -> FailureCluster:
    trace_ids = tuple(sorted(member.turn.trace_id for member in members))
    before = earlier[match.previous_id] if match.previous_id is not None else None
    blames = Counter(member.blame.stage for member in members)
    stage = _main_stage(blames)
    times = [member.turn.timestamp_ms for member in members]
    signals = Counter(signal.name for member in members for signal in member.signals)
    return FailureCluster(
        cluster_id=before.cluster_id if before else birth_id(release_bundle, trace_ids, taken=frozenset(earlier)),
        release_bundle=release_bundle,
        name=name,
        state="continued" if before else "born",
        stage=stage,
        loop=next(member.blame.loop for member in members if member.blame.stage == stage),
        size=len(members),
        turns=turns,
        users=len({member.turn.user_key or f"session:{member.turn.session_id}" for member in members}),
        trend=_trend(len(members), turns, before),
        first_seen_ms=min(times),
        last_seen_ms=max(times),
        blame_counts=dict(sorted(blames.items())),
        signal_counts=dict(sorted(signals.items())),
        examples=_examples(members, vectors @ centroid, config),
        trace_ids=trace_ids,
        centroid=tuple(float(value) for value in centroid),
        matched_similarity=match.similarity,
    )


def _main_stage(blames: Counter[Stage]) -> Stage:
    """Return the most blamed stage; `unknown` only if nothing else is blamed, ties to the earlier stage."""
    known = {stage: count for stage, count in blames.items() if stage != "unknown"}
    return min(known or blames, key=lambda stage: (-blames[stage], STAGES.index(stage)))


def _trend(size: int, turns: int, before: FailureCluster | None) -> Trend:
    share = size / turns
    if before is None:
        return Trend(share=share, previous_share=None, previous_size=None, ratio=None)
    previous_share = before.size / before.turns
    return Trend(share=share, previous_share=previous_share, previous_size=before.size, ratio=share / previous_share)


def _examples(members: Sequence[FailedTurn], closeness: NDArray[np.float32], config: ClustersConfig) -> tuple[str, ...]:
    order = sorted(range(len(members)), key=lambda row: (-round(float(closeness[row]), 5), members[row].turn.trace_id))
    shown: list[str] = []
    for row in order:
        if len(shown) == config.examples:
            break
        text = " ".join(redact(members[row].turn.learnable_text, vocabulary=config.vocabulary).text.split())
        cut = text if len(text) <= config.example_characters else text[: config.example_characters - 1] + "…"
        if cut not in shown:
            shown.append(cut)
    return tuple(shown)


def _centroid(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = vectors.astype(np.float64).mean(axis=0)
    length = float(np.linalg.norm(mean))
    unit: NDArray[np.float32] = (mean / length if length > 0 else mean).astype(np.float32)
    return unit
