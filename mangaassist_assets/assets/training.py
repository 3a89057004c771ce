"""How the two models are trained from sealed datasets: settings in, registered version out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from mangaassist_assets.assets.lanes import INTENT, RERANKER
from mangaassist_assets.assets.reading import TrainedModel
from mangaassist_assets.assets.registration import Trained, train_and_register

if TYPE_CHECKING:
    from mangaassist_assets.datasets.utterances import Utterance
    from mangaassist_assets.datasets.versions import DatasetVersion
    from mangaassist_assets.knowledge.types import Chunk
    from mangaassist_assets.tracing.turns import ChatTurn
    from resources.app_config import AppConfigResource
    from resources.embeddings import EmbeddingsResource
    from resources.mlflow_tracking import MlflowResource
    from resources.search import SearchResource
    from resources.store import StoreResource


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
    from mangaassist_assets.learning.intent import IntentTrainingConfig, TrainingProgress, train_intent_classifier

    config = IntentTrainingConfig()

    def report(progress: TrainingProgress) -> None:
        figures = ", ".join(f"{name} {value:.3f}" for name, value in progress.figures.items())
        epoch = f" {progress.epoch}/{progress.epochs}" if progress.epochs else ""
        context.log.info(f"{progress.stage}{epoch}{': ' + figures if figures else ''}")

    def train(folder: Path) -> Trained:
        result = train_intent_classifier(
            intent_examples(dataset.frame, "train"),
            intent_examples(dataset.frame, "validation"),
            config=config,
            output=folder,
            progress=report,
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
    from mangaassist_assets.learning.encoders import PACKAGED_MINILM
    from mangaassist_assets.learning.intent import TrainingProgress
    from mangaassist_assets.learning.reranker import RerankerTrainingConfig, train_reranker

    config = RerankerTrainingConfig()

    def report(progress: TrainingProgress) -> None:
        figures = ", ".join(f"{name} {value:.3f}" for name, value in progress.figures.items())
        epoch = f" {progress.epoch}/{progress.epochs}" if progress.epochs else ""
        context.log.info(f"{progress.stage}{epoch}{': ' + figures if figures else ''}")

    def train(folder: Path) -> Trained:
        result = train_reranker(
            ranking_examples(dataset.frame, "train"),
            ranking_examples(dataset.frame, "validation"),
            config=config,
            output=folder,
            progress=report,
        )
        history = [
            {name: value for name, value in asdict(epoch).items() if name != "epoch" and value is not None}
            for epoch in result.history
        ]
        return Trained(directory=result.directory, digest=result.digest, metrics=result.metrics, history=tuple(history))

    settings = {"kind": "reranker", "base": PACKAGED_MINILM, **asdict(config)}
    return train_and_register(
        context, mlflow, store, RERANKER, dataset=dataset, bundle=bundle, settings=settings, train=train
    )


def ranking_version(
    corpus: Sequence[Utterance],
    turns: Sequence[ChatTurn],
    chunks: Sequence[Chunk],
    *,
    search: SearchResource,
    embeddings: EmbeddingsResource,
    app_config: AppConfigResource,
    as_of: str | None = None,
) -> DatasetVersion:
    """Seal the ranking dataset of a corpus and reviewed turns; the first stage is the live index."""
    from mangaassist_assets.assets.retrieving import first_stage
    from mangaassist_assets.datasets.reranker_dataset import build_ranking_dataset
    from mangaassist_assets.knowledge.chunking import embedding_text

    return build_ranking_dataset(
        corpus,
        turns,
        chunks={chunk.chunk_id: chunk for chunk in chunks},
        search=first_stage(search=search, embeddings=embeddings, app_config=app_config),
        passage_of=lambda chunk: embedding_text(chunk.title, chunk.text),
    ).seal(as_of=as_of)


def first_ranking_version(
    corpus: Sequence[Utterance],
    chunks: Sequence[Chunk],
    *,
    search: SearchResource,
    embeddings: EmbeddingsResource,
    app_config: AppConfigResource,
) -> DatasetVersion:
    """Seal the first ranking dataset: the corpus' relevant documents, or, where it names none, titles as queries.

    A chunk's title asking for its own text is weak supervision, but it is the store's own words.
    """
    from mangaassist_assets.datasets.utterances import Utterance

    if not any(one.relevant_documents for one in corpus):
        titles: dict[str, set[str]] = {}
        for chunk in chunks:
            titles.setdefault(chunk.title, set()).add(chunk.document_id)
        corpus = [
            Utterance(text=title, relevant_documents=tuple(sorted(documents)))
            for title, documents in sorted(titles.items())
            if title.strip()
        ][:MAX_WEAK_QUERIES]
    return ranking_version(corpus, [], chunks, search=search, embeddings=embeddings, app_config=app_config)


MAX_WEAK_QUERIES = 400
