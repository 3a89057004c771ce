"""Champion against challenger on one model pipeline's held-out side, the gate's verdict, and what is stored of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import dagster as dg

from mangaassist_assets.assets.common import image, materialized
from mangaassist_assets.assets.reading import EVALUATION_FILE, TrainedModel, read_dataset, read_json
from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.models.pipelines import ModelPipeline
from mangaassist_assets.releases.champion import no_champion

if TYPE_CHECKING:
    from mangaassist_assets.evaluation.gate.gate import GateDecision
    from mangaassist_assets.models.model_types import ServableModel
    from resources.mlflow.registry import ModelVersion
    from resources.mlflow.tracking import MlflowResource
    from resources.settings.learning import LearningResource
    from resources.store import StoreResource

_TIMED_EXAMPLES = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a model pipeline's evaluation stores. Scores are means over the test examples; `details` is its own."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """An evaluation with the gate's decision; None where it stands from before, when the decision was made."""

    evaluation: Evaluation
    decision: GateDecision | None


def evaluate(
    mlflow: MlflowResource, store: StoreResource, learning: LearningResource, pipeline: ModelPipeline, *, bundle: str
) -> Judged:
    """Let champion and challenger answer the test side of the model pipeline's dataset, and ask the gate.

    Raises:
        dg.Failure: There is no champion to compare with.
        ArtifactMismatchError: One of the artifacts is damaged.
    """
    from mangaassist_assets.evaluation.gate.gate import judge
    from mangaassist_assets.evaluation.results import GateInput

    snapshots = store.snapshots()
    challenger = TrainedModel.read(snapshots, pipeline.model_asset, bundle)
    champion = _champion(mlflow, pipeline)
    if (standing := _standing_evaluation(snapshots, pipeline, challenger, champion)) is not None:
        return Judged(evaluation=standing, decision=None)
    model_type = learning.model_type(pipeline)
    frame, _ = read_dataset(snapshots, pipeline.dataset_asset, bundle)
    test = model_type.examples(frame, "test")

    def load(version: ModelVersion) -> ServableModel:
        return model_type.load(mlflow.artifact_directory(version), version.artifact_sha256)

    ours = load(mlflow.registry().get(pipeline.model_name, challenger.version))
    theirs = load(champion)
    challenger_results = model_type.evaluate(ours, test, version=challenger.version)
    champion_results = model_type.evaluate(theirs, test, version=champion.version)
    latencies = _latencies(theirs, ours, [model_type.request_input(example) for example in test[:_TIMED_EXAMPLES]])
    if latencies is not None:
        champion_results = replace(champion_results, latencies_ms=latencies[0])
        challenger_results = replace(challenger_results, latencies_ms=latencies[1])
    decision = judge(
        GateInput(
            metric=model_type.metric,
            binary=model_type.binary,
            champion=champion_results,
            challenger=challenger_results,
            slices=model_type.slices(test),
            unknown_to_champion=model_type.unknown_to(theirs, test),
        ),
        config=learning.gate(),
    )
    evaluation = Evaluation(
        release_bundle=challenger.release_bundle or "",
        bundle_start_ms=challenger.bundle_start_ms,
        dataset_digest=challenger.dataset_digest,
        champion_version=champion.version,
        challenger_version=challenger.version,
        metric=model_type.metric,
        champion_score=_mean(champion_results.outcomes),
        challenger_score=_mean(challenger_results.outcomes),
        test_examples=len(test),
        verdict=decision.verdict,
        reasons=tuple(decision.reasons),
        table=decision.markdown(),
        details={
            "decision": decision.to_dict(),
            "challenger": model_type.report(ours, test) if test else {},
            "champion": model_type.report(theirs, test) if test else {},
        },
    )
    return Judged(evaluation=evaluation, decision=decision)


def _champion(mlflow: MlflowResource, pipeline: ModelPipeline) -> ModelVersion:
    champion = mlflow.version_by_alias(pipeline.model_name, "champion")
    if champion is None:
        msg = f"{pipeline.model_name} has no champion to compare with: {no_champion(pipeline)}"
        raise dg.Failure(msg)
    return champion


def _standing_evaluation(
    snapshots: SnapshotStore, pipeline: ModelPipeline, challenger: TrainedModel, champion: ModelVersion
) -> Evaluation | None:
    """Return the evaluation by which a challenger became the champion, or None where it is not champion by one.

    Compared with itself it could only lose that verdict, which the manifest of its bundle and its registry tags keep.
    """
    stored = snapshots.find(pipeline.evaluation_asset, partition=challenger.release_bundle)
    if champion.version != challenger.version or stored is None:
        return None
    values = read_json(snapshots, stored, EVALUATION_FILE)
    if (values["challenger_version"], values["dataset_digest"]) != (challenger.version, challenger.dataset_digest):
        return None
    return Evaluation(**{**values, "reasons": tuple(values["reasons"])})


def _latencies(champion: ServableModel, challenger: ServableModel, inputs: list[Any]) -> Any:  # noqa: ANN401
    from mangaassist_assets.evaluation.latency import latencies_in_turns

    requests = [one if isinstance(one, list) else [one] for one in inputs]
    return latencies_in_turns(champion, challenger, requests)


def _mean(values: Any) -> float:  # noqa: ANN401 - an array, but numpy is not loaded with the definitions
    return float(values.mean()) if len(values) else 0.0


def evaluation_result(
    context: dg.AssetExecutionContext,
    mlflow: MlflowResource,
    store: StoreResource,
    pipeline: ModelPipeline,
    judged: Judged,
) -> dg.MaterializeResult[None]:
    """Store an evaluation, log the verdict with the challenger in MLflow, and return the materialization."""
    evaluation = judged.evaluation
    snapshot = store.snapshots().write(
        pipeline.evaluation_asset,
        {EVALUATION_FILE: canonical_json(asdict(evaluation))},
        partition=evaluation.release_bundle,
    )
    challenger = mlflow.registry().get(pipeline.model_name, evaluation.challenger_version)
    chart = None
    if judged.decision is not None:
        from mangaassist_assets.evaluation.gate.chart import gate_chart
        from resources.mlflow.verdicts import log_verdict

        chart = gate_chart(judged.decision)
        log_verdict(
            mlflow.client(),
            challenger,
            champion_version=evaluation.champion_version,
            verdict=evaluation.verdict,
            metric=evaluation.metric,
            score=evaluation.challenger_score,
            examples=evaluation.test_examples,
            decision=judged.decision.to_dict(),
            markdown=evaluation.table,
            chart=chart,
        )
    context.log.info(
        f"{evaluation.metric} on {evaluation.test_examples} held-out examples: champion "
        f"{evaluation.champion_score:.3f}, challenger {evaluation.challenger_score:.3f}: {evaluation.verdict}"
    )
    return materialized(
        snapshot,
        {
            "verdict": dg.MetadataValue.text(evaluation.verdict),
            "reasons": dg.MetadataValue.text("; ".join(evaluation.reasons)),
            "champion": dg.MetadataValue.float(round(evaluation.champion_score, 4)),
            "challenger": dg.MetadataValue.float(round(evaluation.challenger_score, 4)),
            "test_examples": dg.MetadataValue.int(evaluation.test_examples),
            "decision": dg.MetadataValue.md(evaluation.table),
            "champion_version": dg.MetadataValue.url(
                mlflow.model_version_url(pipeline.model_name, evaluation.champion_version)
            ),
            "challenger_version": dg.MetadataValue.url(
                mlflow.model_version_url(pipeline.model_name, evaluation.challenger_version)
            ),
            "mlflow_run": dg.MetadataValue.url(mlflow.run_url(challenger.run_id or "")),
            **_logged_model(mlflow, challenger),
            **({"differences": image("challenger minus champion", chart)} if chart else {}),
        },
    )


def _logged_model(mlflow: MlflowResource, version: ModelVersion) -> dict[str, dg.MetadataValue]:
    """Return the link that MLflow's own page of a version lacks; versions of before there were models have none."""
    from resources.mlflow.registry import MODEL_TAG

    model_id = version.tags.get(MODEL_TAG)
    return {"logged_model": dg.MetadataValue.url(mlflow.logged_model_url(model_id))} if model_id else {}
