"""Gathering the labels of a bundle: people before the judge before what clusters propagate, one label a turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.labelling.cluster_reviews import DEFAULT_PROPAGATION, PropagationConfig
from mangaassist_assets.labelling.disagreement import (
    Answer,
    Disagreement,
    DisagreementKind,
    disagreement,
    in_order,
)
from mangaassist_assets.labelling.intent_labels import IntentLabel, LabelConflict, LabelKind
from mangaassist_assets.labelling.judge import NO_JUDGE, Judging
from mangaassist_assets.labelling.propagation import Propagation, propagate_labels
from mangaassist_assets.labelling.reviews import ReviewLabels
from mangaassist_assets.tracing.contract.turns import ChatTurn

if TYPE_CHECKING:
    from mangaassist_assets.mining.tracking.clusters import FailureCluster

_TRUST: dict[LabelKind, int] = {"human": 0, "judge": 1, "propagated": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class GatheredLabels:
    """One label for each turn that has one, ordered by trace id, with everything that was said against them.

    `skipped` counts turns without a label by reason.
    """

    labels: tuple[IntentLabel, ...]
    conflicts: tuple[LabelConflict, ...]
    disagreements: tuple[Disagreement, ...]
    unknown_intents: Mapping[str, int]
    propagation: Propagation
    judging: Judging
    skipped: Mapping[str, int]

    def count(self, kind: LabelKind) -> int:
        """Return how many labels are of a kind."""
        return sum(label.kind == kind for label in self.labels)

    def report(self) -> dict[str, Any]:
        """Return plain JSON values; no text of a message is in it."""
        judging = self.judging
        return {
            "schema": 1,
            "labels": {kind: self.count(kind) for kind in _TRUST},
            "skipped": dict(self.skipped),
            "unknown_intents": dict(self.unknown_intents),
            "disagreements": [asdict(one) for one in self.disagreements],
            "propagation": {
                "error": asdict(self.propagation.error),
                "clusters": [asdict(one) for one in self.propagation.clusters],
            },
            "judge": {
                "model_id": judging.model_id,
                "disagreement_rate": None if judging.disagreement_rate is None else asdict(judging.disagreement_rate),
                "kept_out": judging.kept_out,
            },
        }


def gather_labels(
    reviews: ReviewLabels,
    clusters: Sequence[FailureCluster],
    turns: Sequence[ChatTurn],
    embeddings: NDArray[np.float32],
    *,
    judging: Judging = NO_JUDGE,
    propagation: PropagationConfig = DEFAULT_PROPAGATION,
) -> GatheredLabels:
    """Bring the labels of a bundle together.

    Only people's reviews are propagated: a guess is no ground for another one. Messages in conflict get no label from
    anybody.

    Args:
        reviews: what people said.
        clusters: the failure clusters of the bundle.
        turns: the turns behind them.
        embeddings: of the turns' messages, float32 of shape (len(turns), d), rows of length one.
        judging: what a judge said, if there is one.
        propagation: thresholds.

    Raises:
        ValueError: `turns` and `embeddings` differ in length.
        KeyError: a cluster names a trace that is not among `turns`.
    """
    spread = propagate_labels(clusters, turns, embeddings, reviews, config=propagation)
    disputed = {trace_id for conflict in reviews.conflicts for trace_id in conflict.trace_ids}
    skipped: Counter[str] = Counter(reviews.skipped)
    skipped.update({f"judge: {reason}": count for reason, count in judging.skipped.items()})
    skipped.update({f"propagation: {reason}": count for reason, count in spread.skipped.items()})
    chosen: dict[str, IntentLabel] = {}
    found: list[Disagreement] = []
    for label in sorted((*reviews.labels, *judging.labels, *spread.labels), key=_order):
        if label.trace_id in disputed:
            skipped[f"{label.kind}: people contradict each other"] += 1
        elif (first := chosen.get(label.trace_id)) is None:
            chosen[label.trace_id] = label
        elif first.intent != label.intent:
            found.append(_between(first, label))
    return GatheredLabels(
        labels=tuple(chosen[trace_id] for trace_id in sorted(chosen)),
        conflicts=reviews.conflicts,
        disagreements=in_order(
            _distinct([*reviews.disagreements, *judging.disagreements, *spread.disagreements, *found])
        ),
        unknown_intents=reviews.unknown_intents,
        propagation=spread,
        judging=judging,
        skipped=dict(sorted(skipped.items())),
    )


def _order(label: IntentLabel) -> tuple[int, str, str, str]:
    return (_TRUST[label.kind], label.trace_id, label.labeller, label.intent)


def _between(first: IntentLabel, other: IntentLabel) -> Disagreement:
    answers = (
        Answer(
            trace_id=label.trace_id,
            intent=label.intent,
            kind=label.kind,
            by=label.labeller,
            given_ms=label.labelled_ms,
        )
        for label in (first, other)
    )
    kind: DisagreementKind = "judge" if "judge" in (first.kind, other.kind) else "propagated"
    return disagreement(kind, answers, outcome=f"the {first.kind} label counts: {first.intent}")


def _distinct(disagreements: Iterable[Disagreement]) -> list[Disagreement]:
    return list(dict.fromkeys(disagreements))
