"""Champion against challenger on one lane's held-out side, the gate's verdict, and what is stored of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from mangaassist_assets.assets.common import materialized
from mangaassist_assets.assets.lanes import INTENT, RERANKER, Lane
from mangaassist_assets.assets.reading import EVALUATION_FILE, TrainedModel, read_dataset, read_json
from mangaassist_assets.storage import SnapshotStore, canonical_json

if TYPE_CHECKING:
    from mangaassist_assets.learning.gate import GateDecision
    from resources.mlflow_registry import ModelVersion
    from resources.mlflow_tracking import MlflowResource
    from resources.store import StoreResource


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a lane's evaluation stores. Scores are means over the test examples; `details` is what the lane adds."""

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


def _champion(mlflow: MlflowResource, lane: Lane) -> ModelVersion:
    champion = mlflow.version_by_alias(lane.model_name, "champion")
    if champion is None:
        msg = f"{lane.model_name} has no champion to compare with: run `mangaassist bootstrap` first"
        raise dg.Failure(msg)
    return champion


def _standing_evaluation(
    snapshots: SnapshotStore, lane: Lane, challenger: TrainedModel, champion: ModelVersion
) -> Evaluation | None:
    """Return the evaluation by which a challenger became the champion, or None where it is not champion by one.

    Compared with itself it could only lose that verdict, which the manifest of its bundle and its registry tags keep.
    """
    stored = snapshots.find(lane.evaluation_asset, partition=challenger.release_bundle)
    if champion.version != challenger.version or stored is None:
        return None
    values = read_json(snapshots, stored, EVALUATION_FILE)
    if (values["challenger_version"], values["dataset_digest"]) != (challenger.version, challenger.dataset_digest):
        return None
    return Evaluation(**{**values, "reasons": tuple(values["reasons"])})


def _evaluation(
    challenger: TrainedModel,
    champion: ModelVersion,
    decision: GateDecision,
    *,
    metric: str,
    scores: tuple[float, float],
    examples: int,
    details: Mapping[str, Any],
) -> Evaluation:
    return Evaluation(
        release_bundle=challenger.release_bundle or "",
        bundle_start_ms=challenger.bundle_start_ms,
        dataset_digest=challenger.dataset_digest,
        champion_version=champion.version,
        challenger_version=challenger.version,
        metric=metric,
        champion_score=scores[0],
        challenger_score=scores[1],
        test_examples=examples,
        verdict=decision.verdict,
        reasons=tuple(decision.reasons),
        table=decision.markdown(),
        details={"decision": decision.to_dict(), **details},
    )


def evaluate_intents(mlflow: MlflowResource, store: StoreResource, *, bundle: str) -> Evaluation:
    """Let both classifiers predict the test side of the intent dataset, and ask the gate."""
    from mangaassist_assets.datasets.intent_dataset import intent_examples
    from mangaassist_assets.learning.gate import intent_gate
    from mangaassist_assets.learning.intent_model import IntentClassifier
    from mangaassist_assets.learning.metrics import classification_figures

    snapshots = store.snapshots()
    frame, _ = read_dataset(snapshots, INTENT.dataset_asset, bundle)
    test = intent_examples(frame, "test")
    challenger = TrainedModel.read(snapshots, INTENT.model_asset, bundle)
    champion = _champion(mlflow, INTENT)
    if (standing := _standing_evaluation(snapshots, INTENT, challenger, champion)) is not None:
        return standing
    truth = [example.intent for example in test]
    texts = [example.text for example in test]

    def predict(version: ModelVersion) -> list[str]:
        classifier = IntentClassifier.load(mlflow.artifact_directory(version), version.artifact_sha256)
        return [scores[0].label for scores in classifier.predict(texts, top_k=1)]

    ours = predict(mlflow.registry().get(INTENT.model_name, challenger.version))
    theirs = predict(champion)
    decision = intent_gate(truth, theirs, ours)
    figures = {
        "challenger": asdict(classification_figures(truth, ours)) if truth else {},
        "champion": asdict(classification_figures(truth, theirs)) if truth else {},
    }
    return _evaluation(
        challenger,
        champion,
        decision,
        metric="accuracy",
        scores=(_agreement(truth, theirs), _agreement(truth, ours)),
        examples=len(truth),
        details=figures,
    )


def _agreement(truth: Sequence[str], predicted: Sequence[str]) -> float:
    return sum(one == other for one, other in zip(truth, predicted, strict=True)) / len(truth) if truth else 0.0


def evaluate_rankings(mlflow: MlflowResource, store: StoreResource, *, bundle: str) -> Evaluation:
    """Let both rerankers order the passages of the test side's queries, and ask the gate (nDCG@10)."""
    from mangaassist_assets.datasets.reranker_dataset import ranking_examples
    from mangaassist_assets.learning.gate import ranking_gate
    from mangaassist_assets.learning.metrics import ndcg, order_by_scores, reciprocal_rank
    from mangaassist_assets.learning.reranker_model import Reranker

    snapshots = store.snapshots()
    frame, _ = read_dataset(snapshots, RERANKER.dataset_asset, bundle)
    test = ranking_examples(frame, "test")
    challenger = TrainedModel.read(snapshots, RERANKER.model_asset, bundle)
    champion = _champion(mlflow, RERANKER)
    if (standing := _standing_evaluation(snapshots, RERANKER, challenger, champion)) is not None:
        return standing

    def orders(version: ModelVersion) -> list[list[float]]:
        """Return each query's relevances in the model's order."""
        reranker = Reranker.load(mlflow.artifact_directory(version), version.artifact_sha256)
        pairs = [(example.query, passage) for example in test for passage in example.passages]
        scores = reranker.score(pairs)
        ordered: list[list[float]] = []
        start = 0
        for example in test:
            own = scores[start : start + len(example.passages)]
            start += len(example.passages)
            ordered.append(
                [example.relevances[index] for index in order_by_scores(own, list(example.first_stage_ranks))]
            )
        return ordered

    ours = orders(mlflow.registry().get(RERANKER.model_name, challenger.version))
    theirs = orders(champion)
    retriever = [
        [relevance for _, relevance in sorted(zip(example.first_stage_ranks, example.relevances, strict=True))]
        for example in test
    ]
    challenger_ndcg = [ndcg(relevances) for relevances in ours]
    champion_ndcg = [ndcg(relevances) for relevances in theirs]
    decision = ranking_gate(champion_ndcg, challenger_ndcg, metric="nDCG@10")
    by_model = {"challenger": ours, "champion": theirs, "retriever_alone": retriever}
    figures = {
        name: {
            "ndcg@10": _mean([ndcg(relevances) for relevances in rows]),
            "mrr@10": _mean([reciprocal_rank(relevances) for relevances in rows]),
        }
        for name, rows in by_model.items()
    }
    return _evaluation(
        challenger,
        champion,
        decision,
        metric="nDCG@10",
        scores=(_mean(champion_ndcg), _mean(challenger_ndcg)),
        examples=len(test),
        details=figures,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def evaluation_result(
    context: dg.AssetExecutionContext,
    mlflow: MlflowResource,
    store: StoreResource,
    lane: Lane,
    evaluation: Evaluation,
) -> dg.MaterializeResult[None]:
    """Store an evaluation, tag the challenger's version with its verdict, and return the materialization."""
    snapshot = store.snapshots().write(
        lane.evaluation_asset,
        {EVALUATION_FILE: canonical_json(asdict(evaluation))},
        partition=evaluation.release_bundle,
    )
    registry = mlflow.registry()
    registry.set_tags(
        lane.model_name,
        evaluation.challenger_version,
        {
            "evaluation_verdict": evaluation.verdict,
            "evaluated_against": evaluation.champion_version,
            f"evaluation_{evaluation.metric.replace('@', '_at_')}": f"{evaluation.challenger_score:.4f}",
        },
    )
    context.log.info(
        f"{evaluation.metric} on {evaluation.test_examples} held-out examples: champion "
        f"{evaluation.champion_score:.3f}, challenger {evaluation.challenger_score:.3f}: {evaluation.verdict}"
    )
    challenger = registry.get(lane.model_name, evaluation.challenger_version)
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
                mlflow.model_version_url(lane.model_name, evaluation.champion_version)
            ),
            "challenger_version": dg.MetadataValue.url(
                mlflow.model_version_url(lane.model_name, evaluation.challenger_version)
            ),
            "mlflow_run": dg.MetadataValue.url(mlflow.run_url(challenger.run_id or "")),
        },
    )
