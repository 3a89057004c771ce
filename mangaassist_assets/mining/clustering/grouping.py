"""The groups of a bundle: failed turns that mean alike and are blamed on the same stage.

Messages are grouped by meaning first, all of a bundle together, for a group is the better known the more of it there
is; then each group is divided by stage. A turn blamed on nothing goes with the blamed one that is most like it: the
same question with the same trouble, of which only some were reviewed. Only not with an error or a block: those leave
a fact in the trace, so a turn without that fact did not fail for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.mining.blame.rule_names import STAGES, Stage
from mangaassist_assets.mining.clustering.communities import DEFAULT_CLUSTERING, ClusteringConfig, cluster_messages

SEEN_IN_THE_TRACE: frozenset[Stage] = frozenset({"infrastructure", "guardrail"})
"""Stages whose failures the trace itself shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """One group: the stage it stands for, the number of the meaning it is a part of, its members' rows, ascending."""

    stage: Stage
    meaning: int
    rows: tuple[int, ...]


def group_failures(
    stages: Sequence[Stage], vectors: NDArray[np.float32], *, config: ClusteringConfig = DEFAULT_CLUSTERING
) -> list[FailureGroup]:
    """Return the groups of failed turns, ordered by their first member; every turn is in exactly one.

    Args:
        stages: what each turn is blamed on.
        vectors: of their messages, float32 of shape (len(stages), d).
        config: how finely messages are grouped.

    Raises:
        ValueError: the two differ in length, or the vectors are not finite.
    """
    if len(stages) != len(vectors):
        raise ValueError(f"{len(stages)} blamed turns but {len(vectors)} vectors")
    if not stages:
        return []
    labels = cluster_messages(vectors, config=config)
    order = np.argsort(labels, kind="stable")
    meanings = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    groups = [
        FailureGroup(stage=stage, meaning=meaning, rows=tuple(sorted(members)))
        for meaning, rows in enumerate(meanings)
        for stage, members in _by_stage(rows.tolist(), stages, vectors).items()
        if members
    ]
    return sorted(groups, key=lambda group: group.rows)


def _by_stage(rows: list[int], stages: Sequence[Stage], vectors: NDArray[np.float32]) -> dict[Stage, list[int]]:
    members: defaultdict[Stage, list[int]] = defaultdict(list)
    for row in rows:
        members[stages[row]].append(row)
    joinable = [row for row in rows if stages[row] not in SEEN_IN_THE_TRACE and stages[row] != "unknown"]
    if joinable and members["unknown"]:
        # Ties go to the earlier stage: a later one cannot be judged on what an earlier one spoiled.
        joinable.sort(key=lambda row: (STAGES.index(stages[row]), row))
        unknown = members.pop("unknown")
        closeness = np.round(vectors[unknown] @ vectors[joinable].T, 5)
        for row, nearest in zip(unknown, closeness.argmax(axis=1).tolist(), strict=True):
            members[stages[joinable[nearest]]].append(row)
    return dict(members)
