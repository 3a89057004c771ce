"""Champion against challenger on examples that neither has seen, with the gate's verdict."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.core.markdown import plain
from mangaassist_assets.core.snapshots import Snapshot, SnapshotStore, canonical_json
from mangaassist_assets.datasets.versions.stored_versions import read_dataset
from mangaassist_assets.evaluation.gate.budget import Look, promotion_level
from mangaassist_assets.evaluation.gate.gate import judge
from mangaassist_assets.evaluation.gate.table import decision_table
from mangaassist_assets.evaluation.results import GateInput, latencies_in_turns
from mangaassist_assets.models.compared import Contender, compare_by_folds, compare_on_test_side
from mangaassist_assets.models.registration.registry import (
    BUNDLE_START_TAG,
    CHAMPION,
    EVALUATION_FILE,
    ModelStore,
    ModelVersion,
    TrainedModel,
)

if TYPE_CHECKING:
    from mangaassist_assets.datasets.sources.golden_file import GoldenMessage
    from mangaassist_assets.evaluation.gate.decision import GateConfig, GateDecision
    from mangaassist_assets.models.model_types import ModelType
    from mangaassist_assets.models.pipelines import ModelPipeline

_TIMED_EXAMPLES = 30


class NoChampionError(LookupError):
    """A model has no champion to compare with; the message says how to get one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a model pipeline's evaluation stores.

    Scores are estimated for the traffic where the tests are a sample of it, else means over them. `details` is its own,
    `looks` are those of the gate until then, this one among them.
    """

    release_bundle: str
    bundle_start_ms: int
    dataset_digest: str
    champion_version: str
    challenger_version: str
    metric: str
    champion_score: float
    challenger_score: float
    test_examples: int
    verdict: str
    reasons: tuple[str, ...]
    table: str
    details: Mapping[str, Any]
    challenger_artifact_sha256: str | None = None
    looks: tuple[Look, ...] = ()

    def summary(self) -> str:
        """Return scores and verdict in a line."""
        return (
            f"{self.metric} by {self.test_examples} held-out examples: champion {self.champion_score:.3f}, challenger "
            f"{self.challenger_score:.3f}: {self.verdict}"
        )


def evaluate(
    models: ModelStore,
    snapshots: SnapshotStore,
    pipeline: ModelPipeline,
    model_type: ModelType[Any],
    *,
    bundle: str,
    gate: GateConfig,
    golden: Sequence[GoldenMessage] = (),
    now_ms: int | None = None,
) -> tuple[Evaluation, GateDecision | None]:
    """Compare champion and challenger on what neither has learned (`compared`), and ask the gate.

    `golden` are the messages of the golden set, for both to answer beside the tests, `now_ms` is the present where it
    is not now (milliseconds since the epoch, UTC).

    Returns:
        The evaluation with the gate's decision; None for that where an earlier evaluation stands.

    Raises:
        NoChampionError: There is no champion to compare with.
        UntestedChallengerError: The challenger has no answers of models that have not seen its labels.
        ArtifactMismatchError: One of the artifacts is damaged.
    """
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    challenger = TrainedModel.read(snapshots, pipeline.model_asset, bundle)
    champion = present_champion(models, pipeline)
    if (standing := standing_evaluation(snapshots, pipeline, challenger, champion)) is not None:
        return standing, None
    frame = read_dataset(snapshots, pipeline.dataset_asset, bundle).frame

    def load(version: ModelVersion) -> Contender:
        model = model_type.load(models.artifact_directory(version), version.artifact_sha256)
        return Contender(version=version.version, model=model)

    registered = models.registry().get(pipeline.model_name, challenger.version)
    ours, theirs = load(registered), load(champion)
    if model_type.folds:
        compared = compare_by_folds(
            snapshots,
            pipeline,
            model_type,
            frame,
            theirs,
            ours,
            champion_version=champion,
            bundle=bundle,
            golden=golden,
        )
    else:
        compared = compare_on_test_side(model_type, frame, theirs, ours, golden)
    champion_results, challenger_results = compared.champion, compared.challenger
    inputs = [model_type.request_input(example) for example in compared.examples[:_TIMED_EXAMPLES]]
    latencies = latencies_in_turns(
        theirs.model, ours.model, [one if isinstance(one, list) else [one] for one in inputs]
    )
    if latencies is not None:
        champion_results = replace(champion_results, latencies_ms=latencies[0])
        challenger_results = replace(challenger_results, latencies_ms=latencies[1])
    looks = earlier_looks(snapshots, pipeline)
    named = {"champion": champion.version, "challenger": challenger.version, "evidence": challenger.dataset_digest}
    promotion = promotion_level(looks, **named, now_ms=now_ms, config=gate)
    decision = judge(
        GateInput(
            metric=model_type.metric,
            binary=model_type.binary,
            champion=champion_results,
            challenger=challenger_results,
            slices=model_type.slices(compared.examples),
            unknown_to_champion=model_type.unknown_to(theirs.model, compared.examples),
            shoppers=compared.shoppers,
            sample=compared.sample,
            fixed=compared.fixed,
        ),
        promotion=promotion,
        config=gate,
    )
    can_promote = challenger.bundle_start_ms >= int(champion.tags.get(BUNDLE_START_TAG, "0"))
    if compared.sample is not None and len(compared.examples) >= gate.minimum_examples and can_promote:
        # Where nothing could have been proven, or no verdict promotes (a backfill of the past), nothing is spent.
        looks.append(Look(**named, judged_ms=now_ms, level=promotion.level))
    evaluation = Evaluation(
        release_bundle=challenger.release_bundle or "",
        bundle_start_ms=challenger.bundle_start_ms,
        dataset_digest=challenger.dataset_digest,
        champion_version=champion.version,
        challenger_version=challenger.version,
        metric=model_type.metric,
        champion_score=decision.figures.get("champion", 0.0),
        challenger_score=decision.figures.get("challenger", 0.0),
        test_examples=len(compared.examples),
        verdict=decision.verdict,
        reasons=tuple(decision.reasons),
        table=f"{plain(compared.about)}\n\n{decision_table(decision)}",
        challenger_artifact_sha256=registered.artifact_sha256,
        looks=tuple(_distinct(looks)),
        details={
            "decision": decision.to_dict(),
            "tests": {"about": compared.about, "left_out": dict(compared.left_out)},
            "fixed": {
                name: {
                    "examples": len(one.champion),
                    "champion": _mean(one.champion),
                    "challenger": _mean(one.challenger),
                }
                for name, one in compared.fixed.items()
            },
            "challenger": model_type.report(ours.model, compared.reported) if compared.reported else {},
            "champion": model_type.report(theirs.model, compared.reported) if compared.reported else {},
        },
    )
    return evaluation, decision


def present_champion(models: ModelStore, pipeline: ModelPipeline) -> ModelVersion:
    """Return a model pipeline's champion.

    Raises:
        NoChampionError: There is none; says what to do.
    """
    champion = models.version_by_alias(pipeline.model_name, CHAMPION)
    if champion is None:
        by_hand = f"promote a first version by hand (`mangaassist models promote --model {pipeline.group} …`)"
        advice = f"run `mangaassist bootstrap`, which makes the first one, or {by_hand}"
        raise NoChampionError(
            f"{pipeline.model_name} has no champion to compare with: {advice if pipeline.first_asset else by_hand}"
        )
    return champion


def earlier_looks(snapshots: SnapshotStore, pipeline: ModelPipeline) -> list[Look]:
    """Return the gate's looks so far: each evaluation carries those before it, whichever bundle they were of."""
    asset = pipeline.evaluation_asset
    stored = (snapshots.find(asset, partition=bundle) for bundle in snapshots.partitions(asset))
    evaluations = [snapshots.read_json(one, EVALUATION_FILE) for one in stored if one is not None]
    return _distinct(Look(**look) for values in evaluations for look in values.get("looks", ()))


def _distinct(looks: Iterable[Look]) -> list[Look]:
    """Return each look once, the oldest first, at the time at which it was first taken."""
    first: dict[tuple[str, str, str], Look] = {}
    for look in sorted(looks, key=lambda one: one.judged_ms):
        first.setdefault((look.champion, look.challenger, look.evidence), look)
    return list(first.values())


def keep_evaluation(snapshots: SnapshotStore, pipeline: ModelPipeline, evaluation: Evaluation) -> Snapshot:
    """Store an evaluation as its bundle's."""
    files = {EVALUATION_FILE: canonical_json(asdict(evaluation))}
    return snapshots.write(pipeline.evaluation_asset, files, partition=evaluation.release_bundle)


def standing_evaluation(
    snapshots: SnapshotStore, pipeline: ModelPipeline, challenger: TrainedModel, champion: ModelVersion
) -> Evaluation | None:
    """Return the evaluation by which a challenger became the champion, or None where it is not champion by one.

    Compared with itself it could only lose that verdict, which the manifest of its bundle and its registry tags keep.
    """
    stored = snapshots.find(pipeline.evaluation_asset, partition=challenger.release_bundle)
    if champion.version != challenger.version or stored is None:
        return None
    values = snapshots.read_json(stored, EVALUATION_FILE)
    if (values["challenger_version"], values["dataset_digest"]) != (challenger.version, challenger.dataset_digest):
        return None
    looks = tuple(Look(**look) for look in values.get("looks", ()))
    return Evaluation(**{**values, "reasons": tuple(values["reasons"]), "looks": looks})


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else 0.0
