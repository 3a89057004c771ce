"""How the two models are trained from sealed datasets: settings in, registered version out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from mangaassist_assets.assets.lanes import INTENT, RERANKER
from mangaassist_assets.assets.reading import TrainedModel, read_chunks
from mangaassist_assets.assets.registration import Trained, train_and_register

if TYPE_CHECKING:
    from mangaassist_assets.datasets.utterances import Utterance
    from mangaassist_assets.datasets.versions import DatasetVersion
    from mangaassist_assets.knowledge.types import Chunk
    from mangaassist_assets.learning.progress import TrainingProgress
    from mangaassist_assets.tracing.turns import ChatTurn
    from resources.app_config import AppConfigResource
    from resources.embeddings import EmbeddingsResource
    from resources.mlflow_tracking import MlflowResource
    from resources.search import SearchResource
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
    """Seal the ranking dataset of a corpus and reviewed turns; the first stage is the live index.

    A corpus that names no relevant documents is replaced by the knowledge's own titles, each asking for its text.
    """
    from mangaassist_assets.assets.retrieving import first_stage
    from mangaassist_assets.datasets.reranker_dataset import RankingDatasetConfig, build_ranking_dataset
    from mangaassist_assets.knowledge.chunking import embedding_text
    from mangaassist_assets.knowledge.vocabulary import store_phrases
    from mangaassist_assets.tracing.redaction import Vocabulary

    named = [one for one in corpus if one.relevant_documents]
    notes = [] if named else ["the corpus names no relevant documents: titles of the knowledge stand in as queries"]
    base = named or title_queries(chunks)
    return build_ranking_dataset(
        base,
        turns,
        chunks={chunk.chunk_id: chunk for chunk in chunks},
        search=first_stage(
            search=search, embeddings=embeddings, app_config=app_config, queries=[one.text for one in base]
        ),
        passage_of=lambda chunk: embedding_text(chunk.title, chunk.text),
        config=RankingDatasetConfig(vocabulary=Vocabulary(store_phrases(chunks))),
    ).seal(as_of=as_of, notes=notes)


def title_queries(chunks: Sequence[Chunk]) -> list[Utterance]:
    """Return at most `MAX_TITLE_QUERIES` titles as queries for their own documents, spread evenly over the knowledge.

    Weak supervision, but in the store's own words.
    """
    from mangaassist_assets.datasets.utterances import Utterance

    documents: dict[str, set[str]] = {}
    for chunk in chunks:
        if chunk.title.strip():
            documents.setdefault(chunk.title, set()).add(chunk.document_id)
    step = max(1, len(documents) // MAX_TITLE_QUERIES)
    return [
        Utterance(text=title, relevant_documents=tuple(sorted(documents[title])))
        for title in sorted(documents)[::step][:MAX_TITLE_QUERIES]
    ]


MAX_TITLE_QUERIES = 200
