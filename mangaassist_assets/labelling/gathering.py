"""The labels of a bundle: people before the judge before what clusters propagate, one label a turn; as files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.labelling.disagreement import (
    Disagreement,
    DisagreementKind,
    answer_of,
    disagreement,
    in_order,
)
from mangaassist_assets.labelling.intent_labels import (
    CONFLICTS_FILE,
    LABELS_FILE,
    IntentLabel,
    LabelConflict,
    LabelKind,
    labels_to_parquet,
)
from mangaassist_assets.labelling.judge import (
    DEFAULT_JUDGING,
    NO_JUDGE,
    IntentJudge,
    IntentJudgement,
    Judging,
    JudgingConfig,
    judge_labels,
)
from mangaassist_assets.labelling.propagation import Propagation, propagate_labels
from mangaassist_assets.labelling.queue.stored_queue import NO_QUEUE, ReviewQueue
from mangaassist_assets.labelling.reviewed_messages import DEFAULT_PROPAGATION, PropagationConfig
from mangaassist_assets.labelling.reviews import ReviewLabels, labels_from_reviews
from mangaassist_assets.retrieval.types import Vectors
from mangaassist_assets.tracing.contract.turns import ChatTurn

if TYPE_CHECKING:
    from mangaassist_assets.mining.tracking.clusters import FailureCluster

REPORT_FILE = "report.json"
JUDGEMENTS_FILE = "judgements.json"
"""A judge's answers by `judgement_key`, which holds no word of the messages."""
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

    def origins(self) -> dict[str, int]:
        """Return how many labels are of which origin, by origin."""
        return dict(sorted(Counter(label.origin or "unknown" for label in self.labels).items()))

    def report(self) -> dict[str, Any]:
        """Return plain JSON values; no text of a message is in it."""
        judging = self.judging
        return {
            "schema": 1,
            "labels": {kind: self.count(kind) for kind in _TRUST},
            "origins": self.origins(),
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


def label_bundle(
    turns: Sequence[ChatTurn],
    clusters: Sequence[FailureCluster],
    *,
    intents: Mapping[str, Sequence[str]],
    embed: Callable[[Sequence[str]], Vectors],
    judge: IntentJudge | None = None,
    queue: ReviewQueue | None = None,
    judged_before: Mapping[str, IntentJudgement] | None = None,
    judging: JudgingConfig = DEFAULT_JUDGING,
    propagation: PropagationConfig = DEFAULT_PROPAGATION,
) -> GatheredLabels:
    """Return one label for each turn of a bundle that has one.

    Args:
        turns: The bundle's turns, at least those that people reviewed and those of the clusters.
        clusters: Its failure clusters.
        intents: The known intents, each with a few redacted example messages.
        embed: Returns the vectors of messages, each of length one.
        judge: The language model that is asked, if there is one.
        queue: The bundle's review queue, if there is one: it says how each turn came to be reviewed, and the judge is
            asked about those failures of it that nobody reviewed.
        judged_before: The judge's answers of an earlier call, by `judgement_key`.
        judging: When the judge's answers count.
        propagation: When a cluster's reviews count for its other members.
    """
    reviews = labels_from_reviews(turns, known_intents=intents)
    members = {trace_id for cluster in clusters for trace_id in cluster.trace_ids}
    failed = [turn for turn in turns if turn.trace_id in members]
    judged = NO_JUDGE
    queued = {item.trace_id for item in queue.items} if queue else set()
    if judge is not None:
        judged = judge_labels(
            judge,
            [turn for turn in failed if turn.trace_id in queued],
            {label.trace_id: label for label in reviews.labels},
            intents=intents,
            earlier=judged_before,
            config=judging,
        )
    said = {label.trace_id for label in reviews.labels} - members
    compared = [*failed, *(turn for turn in turns if turn.trace_id in said)]
    vectors = embed([turn.learnable_text for turn in compared])
    gathered = gather_labels(reviews, clusters, compared, vectors, judging=judged, propagation=propagation)
    return replace(gathered, labels=tuple(_with_origin(label, queue) for label in gathered.labels))


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

    `turns` are those behind the clusters and other reviewed ones, `embeddings` those of their messages, float32 of
    shape (len(turns), d), rows of length one.

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
        disagreements=in_order({*reviews.disagreements, *judging.disagreements, *spread.disagreements, *found}),
        unknown_intents=reviews.unknown_intents,
        propagation=spread,
        judging=judging,
        skipped=dict(sorted(skipped.items())),
    )


def _with_origin(label: IntentLabel, queue: ReviewQueue | None) -> IntentLabel:
    """Return a label that knows how its message came to be reviewed.

    Guesses are about failed turns alone. They stand for no others, also where their turn was drawn at random: of the
    sample only what failed would be guessed, and nothing of the rest.
    """
    origin = queue.origin_of(label.trace_id) if queue else NO_QUEUE
    if label.kind != "human":
        origin = replace(origin, origin="failure queue", inclusion_probability=None)
    return replace(label, **asdict(origin))


def _order(label: IntentLabel) -> tuple[int, str, str, str]:
    return (_TRUST[label.kind], label.trace_id, label.labeller, label.intent)


def _between(first: IntentLabel, other: IntentLabel) -> Disagreement:
    kind: DisagreementKind = "judge" if "judge" in (first.kind, other.kind) else "propagated"
    outcome = f"the {first.kind} label counts: {first.intent}"
    return disagreement(kind, (answer_of(first), answer_of(other)), outcome=outcome)


def label_files(gathered: GatheredLabels) -> dict[str, bytes]:
    """Return the files of a bundle's labels by name; the same labels give the same bytes."""
    return {
        LABELS_FILE: labels_to_parquet(gathered.labels),
        CONFLICTS_FILE: canonical_json(gathered.conflicts),
        REPORT_FILE: canonical_json(gathered.report()),
        JUDGEMENTS_FILE: canonical_json(dict(gathered.judging.judgements)),
    }


def read_judgements(store: SnapshotStore, release_bundle: str) -> dict[str, IntentJudgement] | None:
    """Return what the judge said of a bundle's messages before; None where its labels were never gathered."""
    before = store.find("intent_labels", partition=release_bundle)
    return None if before is None else from_json(dict[str, IntentJudgement], store.read(before, JUDGEMENTS_FILE))
