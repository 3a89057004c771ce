"""The reranker as a model type: what the platform needs to train, gate, serve and watch it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.core.ranking_metrics import ndcg, reciprocal_rank
from mangaassist_assets.evaluation.metrics import order_by_scores
from mangaassist_assets.evaluation.results import ModelResults
from mangaassist_assets.models.encoders import PACKAGED_MINILM
from mangaassist_assets.models.examples import RankingExample
from mangaassist_assets.models.model_types import ModelType, TrainedArtifact, TrainingRequest, text_slices
from mangaassist_assets.models.reranker.calibration import calibration_figures, relevant_pairs
from mangaassist_assets.models.reranker.model import Reranker
from mangaassist_assets.models.reranker.networks.files import ARTIFACT_KIND
from mangaassist_assets.models.reranker.ranking_losses import RankingLoss
from mangaassist_assets.models.reranker.training import train_reranker
from mangaassist_assets.models.reranker.training_config import (
    NETWORK_CHOICES,
    NetworkChoice,
    RerankerTrainingConfig,
)

if TYPE_CHECKING:
    import polars as pl

    from mangaassist_assets.models.reranker.training import RerankerTrainingResult

_NDCG, _MRR = "ndcg@10", "mrr@10"


class RerankerModelType(ModelType[RankingExample]):
    """Networks that order a query's passages; the gate decides on nDCG@10.

    Args:
        network: `split-attention`, `cross-encoder`, or `auto`: what is sensible for the data and the starts at hand is
            trained, and validation chooses.
        base: Pretrained sentence encoder, see `encoders.load_base`.
        cross_encoder: Published cross-encoder of one label to start from, by folder or hub name; None for a fresh head
            on the base.
        budget_minutes: About how long a training may take on one core; None takes the configuration's.
        config: How to train; None lets everything follow the amount of data and the budget.
        loss: In place of the configuration's. `distillation` learns from the champion.
        checkpoint_steps: A checkpoint every so many steps; None leaves it to the time.
    """

    kind: ClassVar[str] = ARTIFACT_KIND
    metric: ClassVar[str] = _NDCG
    binary: ClassVar[bool] = False
    reads_knowledge: ClassVar[bool] = True
    request_forms: ClassVar[tuple[str, ...]] = ("query_passages", "inputs")

    def __init__(
        self,
        *,
        network: NetworkChoice = "auto",
        base: str = PACKAGED_MINILM,
        cross_encoder: str | None = None,
        budget_minutes: float | None = None,
        config: RerankerTrainingConfig | None = None,
        loss: RankingLoss | None = None,
        checkpoint_steps: int | None = None,
    ) -> None:
        if network not in NETWORK_CHOICES:
            raise ValueError(f"network must be one of {NETWORK_CHOICES}, got {network!r}")
        settings = config or RerankerTrainingConfig()
        settings = settings if budget_minutes is None else replace(settings, budget_minutes=budget_minutes)
        self._config = replace(settings, loss=loss) if loss else settings
        self._network: NetworkChoice = network
        self._base = base
        self._cross_encoder = cross_encoder
        self._checkpoint_steps = checkpoint_steps

    def settings(self) -> Mapping[str, Any]:
        """Return network, starts and configuration."""
        starts = {"network": self._network, "base": self._base, "cross_encoder": self._cross_encoder}
        return {**starts, **asdict(self._config)}

    def examples(self, frame: pl.DataFrame, side: str) -> list[RankingExample]:
        """Return the queries of one side by id, their passages in the retriever's order.

        Rows without a rank are what the retriever missed.
        """
        import polars as pl

        chosen = frame.filter(pl.col("split") == side).sort("example_id", "first_stage_rank", "chunk_id")
        examples = []
        for (example_id,), group in chosen.group_by(["example_id"], maintain_order=True):
            listed = group.filter(pl.col("first_stage_rank").is_not_null())
            missed = group.filter(pl.col("first_stage_rank").is_null())
            examples.append(
                RankingExample(
                    example_id=str(example_id),
                    query=group["query"][0],
                    passages=tuple(listed["passage"]),
                    relevances=tuple(listed["relevance"]),
                    first_stage_ranks=tuple(listed["first_stage_rank"]),
                    missed=tuple(missed["relevance"]),
                    tenant=group["tenant"][0] or "",
                )
            )
        return examples

    def train(self, request: TrainingRequest[RankingExample]) -> TrainedArtifact:
        """Train from base or champion, whichever validation says is better."""
        result = train_reranker(
            request,
            config=self._config,
            base=self._base,
            network=self._network,
            cross_encoder=self._cross_encoder,
            teacher=request.champion,
            checkpoint_steps=self._checkpoint_steps,
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
        figures = _figures(examples, _scores(model, examples))
        return ModelResults(
            version=version, outcomes=figures.pop(_NDCG), other_figures=figures, size_bytes=model.size_bytes
        )

    def request_input(self, example: RankingExample) -> Any:  # noqa: ANN401 - a JSON value
        """Return the pairs that one query sends: all its passages at once."""
        return [{"text": example.query, "text_pair": passage} for passage in example.passages]

    def slices(self, examples: Sequence[RankingExample]) -> Mapping[str, tuple[str, ...]]:
        """Return language and length of each query, and whose shopper asked where that is known."""
        return text_slices([(example.query, example.tenant) for example in examples])

    def report(self, model: Any, examples: Sequence[RankingExample]) -> Mapping[str, Any]:  # noqa: ANN401
        """Return retriever alone against the model: nDCG@10, MRR@10, and the share of queries that nothing can help."""
        if not examples:
            return {"queries": 0}
        scores = _scores(model, examples)
        by_rank = [[-float(rank) for rank in example.first_stage_ranks] for example in examples]
        calibration = asdict(calibration_figures(np.concatenate(scores), relevant_pairs(examples)))
        del calibration["pairs"]
        return {
            "queries": len(examples),
            "queries_without_a_relevant_candidate": float(
                np.mean([max(example.relevances, default=0.0) <= 0 for example in examples])
            ),
            "retriever": _means(examples, by_rank),
            "model": _means(examples, scores) | calibration,
        }

    def _limits(self, result: RerankerTrainingResult) -> tuple[str, ...]:
        config = self._config
        reads = f"the first {config.passage_tokens} tokens of a passage and {config.query_tokens} of a query"
        if result.network == "cross-encoder":
            reads = f"at most {config.passage_tokens + config.query_tokens} tokens of query and passage together"
        limits = [
            f"It is a {result.network} network and reads {reads}.",
            "It orders what the retriever found: a document that is not among the candidates stays unseen.",
        ]
        if self._base == PACKAGED_MINILM and result.started_from == PACKAGED_MINILM:
            limits.append("Its encoder was pretrained on English: other languages are ordered by shared words at best.")
        if result.metrics["validation_queries"] < config.minimum_validation:
            limits.append(
                f"It was chosen and calibrated without the {config.minimum_validation} validation queries that this "
                "takes: its probabilities may be too sure."
            )
        if result.served is not None:
            limits.append(result.served.described())
        return (*limits, *_comparison(result))


def _comparison(result: RerankerTrainingResult) -> tuple[str, ...]:
    """Say by how much one network won, where two were trained."""
    best: dict[str, float] = {}
    for one in result.candidates:
        if one.figures is not None:
            network = one.name.split()[0]
            best[network] = max(one.figures.ndcg, best.get(network, 0.0))
    if len(best) < 2:
        return ()
    said = ", ".join(f"{network} {ndcg:.4f}" for network, ndcg in sorted(best.items(), key=lambda item: -item[1]))
    queries = f"{result.metrics['validation_queries']:.0f} validation queries"
    return (f"Chosen by nDCG@10 on {queries}: {said}. Of so few queries a small difference is chance.",)


def _charts(result: RerankerTrainingResult) -> dict[str, bytes]:
    """Return the learning curve as a PNG file; none where nothing was trained."""
    from mangaassist_assets.models.intent.charts import learning_curve_chart

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


def _figures(examples: Sequence[RankingExample], scores: Sequence[Sequence[float]]) -> dict[str, Floats]:
    """Return nDCG@10 and MRR@10 of each query's order."""
    ranked = [
        [example.relevances[place] for place in order_by_scores(row, example.first_stage_ranks)]
        for example, row in zip(examples, scores, strict=True)
    ]
    gains = [ndcg(row, ideal=example.ideal) for row, example in zip(ranked, examples, strict=True)]
    return {
        _NDCG: np.array(gains, dtype=np.float64),
        _MRR: np.array([reciprocal_rank(row) for row in ranked], dtype=np.float64),
    }


def _means(examples: Sequence[RankingExample], scores: Sequence[Sequence[float]]) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in _figures(examples, scores).items()}


def _candidate_rows(result: RerankerTrainingResult) -> list[dict[str, str | int | float]]:
    rows: list[dict[str, str | int | float]] = []
    for one in result.candidates:
        figures = {} if one.figures is None else {name: round(value, 4) for name, value in one.figures.named().items()}
        rows.append({"candidate": one.name, "seconds": round(one.seconds, 1), **figures})
    return rows
