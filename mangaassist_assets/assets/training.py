"""How the two models are trained from sealed datasets: settings in, registered version out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from mangaassist_assets.assets.lanes import INTENT, RERANKER
from mangaassist_assets.assets.reading import TrainedModel, read_chunks
from mangaassist_assets.assets.registration import Trained, train_and_register

if TYPE_CHECKING:
    from mangaassist_assets.datasets.versions import DatasetVersion
    from mangaassist_assets.learning.progress import TrainingProgress
    from resources.mlflow_tracking import MlflowResource
    from resources.store import StoreResource


def log_progress(context: dg.AssetExecutionContext) -> Callable[[TrainingProgress], None]:
    """Return what writes training progress to the run's log: stages, and at most ten lines of steps."""

    def report(progress: TrainingProgress) -> None:
        every = max(1, progress.epochs // 10)
        if progress.epoch and progress.epoch % every and progress.epoch != progress.epochs:
            return
        figures = ", ".join(f"{name} {value:.3f}" for name, value in progress.figures.items())
        step = f" {progress.epoch}/{progress.epochs}" if progress.epochs else ""
        context.log.info(f"{progress.stage}{step}{': ' + figures if figures else ''}")

    return report


def train_intent(
    context: dg.AssetExecutionContext,
    mlflow: MlflowResource,
    store: StoreResource,
    *,
    dataset: DatasetVersion,
    bundle: str | None,
) -> TrainedModel:
    """Train the intent classifier on a dataset version and register it."""
    from mangaassist_assets.datasets.intent_dataset import intent_examples
    from mangaassist_assets.learning.encoders import PACKAGED_MINILM
    from mangaassist_assets.learning.intent import IntentTrainingConfig, train_intent_classifier

    config = IntentTrainingConfig()

    def train(folder: Path) -> Trained:
        result = train_intent_classifier(
            intent_examples(dataset.frame, "train"),
            intent_examples(dataset.frame, "validation"),
            config=config,
            output=folder,
            progress=log_progress(context),
        )
        history = [
            {name: value for name, value in asdict(epoch).items() if name != "epoch" and value is not None}
            for epoch in result.history
        ]
        return Trained(directory=result.directory, digest=result.digest, metrics=result.metrics, history=tuple(history))

    settings = {"kind": "intent_classifier", "base": PACKAGED_MINILM, **asdict(config)}
    return train_and_register(
        context, mlflow, store, INTENT, dataset=dataset, bundle=bundle, settings=settings, train=train
    )


def train_ranking(
    context: dg.AssetExecutionContext,
    mlflow: MlflowResource,
    store: StoreResource,
    *,
    dataset: DatasetVersion,
    bundle: str | None,
) -> TrainedModel:
    """Train the reranker on a dataset version and register it."""
    from mangaassist_assets.datasets.reranker_dataset import ranking_examples
    from mangaassist_assets.knowledge.chunking import embedding_text
    from mangaassist_assets.learning.encoders import PACKAGED_MINILM
    from mangaassist_assets.learning.reranker import RerankerTrainingConfig, train_reranker

    config = RerankerTrainingConfig()
    snapshots = store.snapshots()
    # Word frequencies come from the whole knowledge, not from the passages that happen to be in the dataset.
    knowledge = snapshots.latest("knowledge_chunks")
    passages = [embedding_text(chunk.title, chunk.text) for chunk in read_chunks(snapshots)]

    def train(folder: Path) -> Trained:
        result = train_reranker(
            ranking_examples(dataset.frame, "train"),
            ranking_examples(dataset.frame, "validation"),
            config=config,
            output=folder,
            corpus=passages,
            progress=log_progress(context),
        )
        history = [{"training_loss": loss} for loss in result.training_losses]
        return Trained(directory=result.directory, digest=result.digest, metrics=result.metrics, history=tuple(history))

    settings = {"kind": "reranker", "base": PACKAGED_MINILM, "knowledge_digest": knowledge.digest, **asdict(config)}
    return train_and_register(
        context, mlflow, store, RERANKER, dataset=dataset, bundle=bundle, settings=settings, train=train
    )
