"""The reranker as a model type: what the platform needs to train, gate, serve and watch it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mangaassist_assets.core.ranking_metrics import ndcg, reciprocal_rank
from mangaassist_assets.core.text_keys import language_of, length_slice
from mangaassist_assets.evaluation.metrics import expected_calibration_error, order_by_scores
from mangaassist_assets.evaluation.results import ModelResults
from mangaassist_assets.models.encoders.pretrained import PACKAGED_MINILM
from mangaassist_assets.models.examples import RankingExample
from mangaassist_assets.models.model_types import ModelType, TrainedArtifact, TrainingRequest
from mangaassist_assets.models.reranker.model import ARTIFACT_KIND, Reranker
from mangaassist_assets.models.reranker.pair_training import RerankerTrainingConfig
from mangaassist_assets.models.reranker.ranking_losses import RankingLoss
from mangaassist_assets.models.reranker.training import train_reranker

if TYPE_CHECKING:
    import polars as pl

    from mangaassist_assets.models.reranker.training import RerankerTrainingResult

_MRR = "mrr@10"
_TENANT = "tenant"


class RerankerModelType(ModelType[RankingExample]):
    """Cross-encoders that order a query's passages; the gate decides on nDCG@10.

    Args:
        base: Pretrained sentence encoder, see `encoders.load_base`.
        config: How to train; None takes what suits a few hundred queries.
        loss: In place of the configuration's. `distillation` learns from the champion.
        checkpoint_steps: A checkpoint every so many steps; None leaves it to the time.
    """

    kind: ClassVar[str] = ARTIFACT_KIND
    metric: ClassVar[str] = "ndcg@10"
    binary: ClassVar[bool] = False
    reads_knowledge: ClassVar[bool] = True
    request_forms: ClassVar[tuple[str, ...]] = ("query_passages", "inputs")

    def __init__(
        self,
        *,
        base: str = PACKAGED_MINILM,
        config: RerankerTrainingConfig | None = None,
        loss: RankingLoss | None = None,
        checkpoint_steps: int | None = None,
    ) -> None:
        values = asdict(config or RerankerTrainingConfig())
        self._config = RerankerTrainingConfig(**(values | ({"loss": loss} if loss else {})))
        self._base = base
        self._checkpoint_steps = checkpoint_steps

    def settings(self) -> Mapping[str, Any]:
        """Return base and configuration."""
        return {"base": self._base, **asdict(self._config)}

    def examples(self, frame: pl.DataFrame, side: str) -> list[RankingExample]:
        """Return the queries of one side by id, their passages in the retriever's order."""
        import polars as pl

        chosen = frame.filter(pl.col("split") == side).sort("example_id", "first_stage_rank", "chunk_id")
        return [
            RankingExample(
                example_id=str(example_id),
                query=group["query"][0],
                passages=tuple(group["passage"]),
                relevances=tuple(group["relevance"]),
                first_stage_ranks=tuple(group["first_stage_rank"]),
                tenant=(group[_TENANT][0] or "") if _TENANT in group.columns else "",
            )
            for (example_id,), group in chosen.group_by(["example_id"], maintain_order=True)
        ]

    def train(self, request: TrainingRequest[RankingExample]) -> TrainedArtifact:
        """Train from base or champion, whichever validation says is better."""
        result = train_reranker(
            request.train,
            request.validation,
            config=self._config,
            output=request.output,
            base=self._base,
            start_from=request.champion,
            corpus=list(request.corpus) or None,
            teacher=request.champion if self._config.loss == "distillation" else None,
            checkpoints=request.checkpoints,
            checkpoint_steps=self._checkpoint_steps,
            progress=request.progress,
        )
        return TrainedArtifact(
            directory=result.directory,
            digest=result.digest,
            metrics={**result.metrics, **result.costs},
            history=result.history,
            kept=result.kept,
            started_from=result.started_from,
            charts=_charts(result),
            tables={"candidates": _candidate_rows(result)},
            limits=self._limits(result),
        )

    def load(self, directory: Path, expected_digest: str | None = None) -> Reranker:
        """Verify and load an artifact."""
        return Reranker.load(directory, expected_digest)

    def evaluate(self, model: Any, examples: Sequence[RankingExample], *, version: str) -> ModelResults:  # noqa: ANN401
        """Let a reranker order each query's passages.

        It states no confidence in an order, so `confidences` is None; `report` judges its probabilities pair by pair.
        """
        scores = _scores(model, examples)
        ranked = [_ranked(example, row) for example, row in zip(examples, scores, strict=True)]
        return ModelResults(
            version=version,
            outcomes=np.array([ndcg(relevances) for relevances in ranked], dtype=np.float64),
            other_figures={
                _MRR: np.array([reciprocal_rank(relevances) for relevances in ranked], dtype=np.float64),
            },
            size_bytes=model.size_bytes,
        )

    def request_input(self, example: RankingExample) -> Any:  # noqa: ANN401 - a JSON value
        """Return the pairs that one query sends: all its passages at once."""
        return [{"text": example.query, "text_pair": passage} for passage in example.passages]

    def slices(self, examples: Sequence[RankingExample]) -> Mapping[str, tuple[str, ...]]:
        """Return language and length of each query, and whose shopper asked where that is known."""
        found: dict[str, tuple[str, ...]] = {
            "language": tuple(language_of(example.query) for example in examples),
            "length": tuple(length_slice(example.query) for example in examples),
        }
        if any(example.tenant for example in examples):
            found[_TENANT] = tuple(example.tenant for example in examples)
        return found

    def report(self, model: Any, examples: Sequence[RankingExample]) -> Mapping[str, Any]:  # noqa: ANN401
        """Return retriever alone against the model: nDCG@10, MRR@10, and the share of queries that nothing can help."""
        if not examples:
            return {"queries": 0}
        scores = _scores(model, examples)
        by_rank = [[-float(rank) for rank in example.first_stage_ranks] for example in examples]
        return {
            "queries": len(examples),
            "queries_without_a_relevant_candidate": float(
                np.mean([max(example.relevances, default=0.0) <= 0 for example in examples])
            ),
            "retriever": _figures(examples, by_rank),
            "model": _figures(examples, scores) | _honesty(examples, scores),
        }

    def _limits(self, result: RerankerTrainingResult) -> tuple[str, ...]:
        config = self._config
        limits = [
            f"It reads the first {config.passage_tokens} tokens of a passage and {config.query_tokens} of a query.",
            "It orders what the retriever found: a document that is not among the candidates stays unseen.",
        ]
        if self._base == PACKAGED_MINILM:
            limits.append("Its encoder was pretrained on English: other languages are ordered by shared words at best.")
        if result.metrics["validation_queries"] < config.minimum_validation:
            limits.append(
                f"It was chosen and calibrated without the {config.minimum_validation} validation queries that this "
                "takes: its probabilities may be too sure."
            )
        return tuple(limits)


def _charts(result: RerankerTrainingResult) -> dict[str, bytes]:
    """Return the learning curve as a PNG file; none where nothing was trained."""
    from mangaassist_assets.models.intent.training_charts import learning_curve_chart

    if not result.history:
        return {}
    kept = result.best_epoch if result.kept == "trained" else None
    return {"learning_curve.png": learning_curve_chart(result.history, step_losses=result.training_losses, kept=kept)}


def _scores(model: Reranker, examples: Sequence[RankingExample]) -> list[list[float]]:
    """Return the probability of each passage of each example, asked in one go."""
    flat = model.score([(example.query, passage) for example in examples for passage in example.passages])
    ends = np.cumsum([len(example.passages) for example in examples])
    # Rounded, so that the last bits, which depend on the company of a pair, do not decide an order.
    return [np.round(row.astype(np.float64), 6).tolist() for row in np.split(flat, ends[:-1])] if examples else []


def _ranked(example: RankingExample, scores: Sequence[float]) -> list[float]:
    return [example.relevances[place] for place in order_by_scores(scores, example.first_stage_ranks)]


def _figures(examples: Sequence[RankingExample], scores: Sequence[Sequence[float]]) -> dict[str, float]:
    ranked = [_ranked(example, row) for example, row in zip(examples, scores, strict=True)]
    return {
        "ndcg@10": float(np.mean([ndcg(relevances) for relevances in ranked])),
        _MRR: float(np.mean([reciprocal_rank(relevances) for relevances in ranked])),
    }


def _honesty(examples: Sequence[RankingExample], scores: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return Brier score and expected calibration error of the probabilities of all pairs."""
    said = np.array([score for row in scores for score in row], dtype=np.float64)
    relevant = np.array([relevance > 0 for example in examples for relevance in example.relevances], dtype=np.bool_)
    return {
        "brier": float(np.mean((said - relevant) ** 2)),
        "brier_of_base_rate": float(relevant.mean() * (1.0 - relevant.mean())),
        "expected_calibration_error": expected_calibration_error(said, relevant),
    }


def _candidate_rows(result: RerankerTrainingResult) -> list[dict[str, str | int | float]]:
    rows: list[dict[str, str | int | float]] = []
    for one in result.candidates:
        figures = {} if one.figures is None else {name: round(value, 4) for name, value in one.figures.named().items()}
        rows.append({"candidate": one.name, "seconds": round(one.seconds, 1), **figures})
    return rows
