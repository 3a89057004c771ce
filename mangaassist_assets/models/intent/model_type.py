"""The intent classifier as one kind of model among others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mangaassist_assets.core.arrays import Flags
from mangaassist_assets.evaluation.results import ModelResults
from mangaassist_assets.models.encoders import PACKAGED_MINILM
from mangaassist_assets.models.examples import IntentExample
from mangaassist_assets.models.intent.charts import intent_charts
from mangaassist_assets.models.intent.fine_tuning import IntentTrainingConfig
from mangaassist_assets.models.intent.fold_learner import IntentFoldLearner
from mangaassist_assets.models.intent.model import INTENT_CLASSIFIER, IntentClassifier
from mangaassist_assets.models.intent.results import intent_report, intent_results, intent_rows, unknown_intents
from mangaassist_assets.models.intent.training import IntentTrainingResult, train_intent_classifier
from mangaassist_assets.models.model_types import ModelType, TrainedArtifact, TrainingRequest, text_slices

if TYPE_CHECKING:
    import polars as pl

    from mangaassist_assets.datasets.sources.golden_file import GoldenMessage

_FEW_EXAMPLES = 10


class IntentModelType(ModelType[IntentExample]):
    """DistilBERT with a logistic head, which says what a shopper wants, or that it is none of what it knows."""

    kind: ClassVar[str] = INTENT_CLASSIFIER
    metric: ClassVar[str] = "accuracy"
    binary: ClassVar[bool] = True
    folds: ClassVar[int] = 5
    text_fields: ClassVar[tuple[str, ...]] = ("intent", "confidence", "in_scope")

    def __init__(self, base: str = PACKAGED_MINILM, config: IntentTrainingConfig | None = None) -> None:
        self._base = base
        self._config = config or IntentTrainingConfig()

    def settings(self) -> Mapping[str, Any]:
        """Return the base and the configuration, without when checkpoints are written."""
        return {"base": self._base, **self._config.deciding()}

    def examples(self, frame: pl.DataFrame, side: str) -> list[IntentExample]:
        """Return one side of the intent dataset, by id; the weight is the label's confidence."""
        import polars as pl

        rows = frame.filter(pl.col("split") == side).sort("example_id")
        columns = ("example_id", "text", "intent", pl.col("confidence").alias("weight"), pl.col("tenant").fill_null(""))
        return [IntentExample(**row) for row in rows.select(columns).iter_rows(named=True)]

    def train(self, request: TrainingRequest[IntentExample]) -> TrainedArtifact:
        """Train, write and report what came of it."""
        result = train_intent_classifier(request, config=self._config, base=self._base)
        return TrainedArtifact(
            directory=result.directory,
            digest=result.digest,
            metrics=result.metrics,
            history=result.history,
            kept=result.kept,
            started_from=result.started_from,
            charts=intent_charts(
                result.validation,
                result.history,
                threshold=result.scope.threshold,
                kept_epoch=result.best_epoch,
                step_losses=result.step_losses,
            ),
            tables=_tables(result),
            limits=_limits(result, request.train),
        )

    def load(self, directory: Path, expected_digest: str | None = None) -> IntentClassifier:
        """Verify and load an artifact."""
        return IntentClassifier.load(directory, expected_digest)

    def evaluate(self, model: IntentClassifier, examples: Sequence[IntentExample], *, version: str) -> ModelResults:
        """Let the classifier answer, see `intent_results`."""
        return intent_results(model, examples, version=version)

    def fold_learner(self, examples: Sequence[IntentExample], recipe: Mapping[str, Any]) -> IntentFoldLearner:
        """Return what trains classifiers of folds."""
        return IntentFoldLearner(examples, recipe)

    def golden_examples(self, messages: Sequence[GoldenMessage]) -> list[IntentExample]:
        """Return the messages with an intent."""
        return [
            IntentExample(example_id=f"golden-{number}", text=message.text, intent=message.intent)
            for number, message in enumerate(messages)
            if message.intent is not None
        ]

    def request_input(self, example: IntentExample) -> str:
        """Return the message."""
        return example.text

    def slices(self, examples: Sequence[IntentExample]) -> Mapping[str, tuple[str, ...]]:
        """Return intent, language, length, and tenant where there is any."""
        intents = {"intent": tuple(example.intent for example in examples)}
        return intents | text_slices([(example.text, example.tenant) for example in examples])

    def unknown_to(self, model: IntentClassifier, examples: Sequence[IntentExample]) -> Flags | None:
        """Return which messages have an intent that the classifier has no label for."""
        return unknown_intents(model, examples)

    def report(self, model: IntentClassifier, examples: Sequence[IntentExample]) -> Mapping[str, Any]:
        """Return per-intent figures, confusions, calibration bins and scope figures."""
        return intent_report(model, examples)


def _tables(result: IntentTrainingResult) -> dict[str, Sequence[Mapping[str, str | int | float]]]:
    """Return the kept model's figures on validation, an intent a row."""
    outcome = result.validation
    if outcome is None:
        return {}
    accepted = result.scope.accepts(outcome.scope_scores) if result.scope.threshold is not None else None
    return {"validation_intents": intent_rows(outcome.truth, outcome.predictions, accepted=accepted)}


def _limits(result: IntentTrainingResult, train: Sequence[IntentExample]) -> tuple[str, ...]:
    """Return what the model should not be trusted with."""
    limits = [result.served.described(), *result.notices]
    counts = Counter(example.intent for example in train)
    few = sum(counts[intent] < _FEW_EXAMPLES for intent in result.intents)
    if few:
        limits.append(
            f"{few} of {len(result.intents)} intents were learned from fewer than {_FEW_EXAMPLES} messages each"
        )
    if result.scope.threshold is None:
        limits.append("there was too little validation for an out-of-scope threshold: it answers every message")
    elif result.scope.source != "both_errors":
        limits.append("no messages of no intent were at hand: how many it refuses is not known")
    if result.validation is None:
        limits.append("validation was too small to choose by: epoch, candidate and confidences were not checked on it")
    return tuple(limits)
