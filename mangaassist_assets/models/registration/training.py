"""How a model pipeline's model is trained from a sealed dataset: settings in, registered version out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from mangaassist_assets.assets.reading import read_chunks
from mangaassist_assets.core.bundles import bundles_by_start
from mangaassist_assets.models.pipelines import ModelPipeline
from mangaassist_assets.models.registration.registration import BUNDLE_START_TAG, Registered, train_and_register

if TYPE_CHECKING:
    from mangaassist_assets.datasets.versions.versions import DatasetVersion
    from mangaassist_assets.models.model_types import TrainedArtifact
    from mangaassist_assets.training.checkpoints import Checkpoints
    from mangaassist_assets.training.progress import ProgressCallback, TrainingProgress
    from resources.mlflow.tracking import MlflowResource
    from resources.ray.trainers import TrainerResource
    from resources.settings.learning import LearningResource
    from resources.store import StoreResource


def log_progress(context: dg.AssetExecutionContext) -> Callable[[TrainingProgress], None]:
    """Return what writes training progress to the run's log: stages, epochs, notices, and steps as they are told."""

    def report(progress: TrainingProgress) -> None:
        if progress.notice:
            context.log.warning(f"{progress.stage}: {progress.notice}")
            return
        figures = ", ".join(f"{name} {value:.3f}" for name, value in progress.figures.items())
        step = f" step {progress.step}/{progress.steps}" if progress.steps else ""
        epoch = f", epoch {progress.epoch}/{progress.epochs} done" if progress.epoch else ""
        context.log.info(f"{progress.stage}{step}{epoch}{': ' + figures if figures else ''}")

    return report


def train_model(
    context: dg.AssetExecutionContext,
    pipeline: ModelPipeline,
    *,
    learning: LearningResource,
    mlflow: MlflowResource,
    store: StoreResource,
    trainer: TrainerResource,
    dataset: DatasetVersion,
    bundle: str | None,
) -> Registered:
    """Train a model pipeline's model on a dataset version and register it.

    The same dataset and settings are the same model version: what was trained before is found, not trained again. So
    the champion that training may start from is no part of the key; its digest is a tag of the version.
    """
    from mangaassist_assets.models.model_types import TrainingRequest
    from mangaassist_assets.retrieval.chunking import embedding_text

    model_type = learning.model_type(pipeline)
    snapshots = store.snapshots()
    settings: dict[str, Any] = {"kind": model_type.kind, **model_type.settings()}
    corpus: list[str] = []
    if model_type.reads_knowledge:
        # Word frequencies come from the whole knowledge, not from the passages that happen to be in the dataset.
        settings["knowledge_digest"] = snapshots.latest("knowledge_chunks").digest
        corpus = [embedding_text(chunk.title, chunk.text) for chunk in read_chunks(snapshots, tenantless=True)]
    start_ms = 0 if bundle is None else bundles_by_start(snapshots).get(bundle, 0)

    def train(folder: Path, checkpoints: Checkpoints, progress: ProgressCallback) -> TrainedArtifact:
        champion = _champion_to_start_from(mlflow, pipeline, start_ms) if bundle else None
        request = TrainingRequest(
            train=model_type.examples(dataset.frame, "train"),
            validation=model_type.examples(dataset.frame, "validation"),
            output=folder,
            champion=champion,
            checkpoints=checkpoints,
            corpus=corpus,
        )
        return trainer.run(_Training(model_type, request), progress=progress)

    return train_and_register(
        context,
        mlflow,
        store,
        pipeline,
        dataset=dataset,
        bundle=bundle,
        start_ms=start_ms,
        settings=settings,
        train=train,
    )


class _Training:
    """One training as workers take it: called with what it should tell its progress."""

    def __init__(self, model_type: Any, request: Any) -> None:  # noqa: ANN401 - a model type and a request of its examples
        self._model_type = model_type
        self._request = request

    def __call__(self, progress: ProgressCallback) -> TrainedArtifact:
        import shutil
        from dataclasses import replace

        from mangaassist_assets.training.compute import Compute

        if Compute.detect().leads:
            # A worker that was lost after it had written leaves an artifact, which nobody returned.
            shutil.rmtree(self._request.output, ignore_errors=True)
        trained: TrainedArtifact = self._model_type.train(replace(self._request, progress=progress))
        return trained


def _champion_to_start_from(mlflow: MlflowResource, pipeline: ModelPipeline, start_ms: int) -> Path | None:
    """Return the champion's artifact; None where there is none, or where it learned from a later bundle.

    A backfill of an old bundle shall make what that bundle could have made.
    """
    champion = mlflow.version_by_alias(pipeline.model_name, "champion")
    if champion is None or int(champion.tags.get(BUNDLE_START_TAG, "0")) > start_ms:
        return None
    from mangaassist_assets.models.artifacts import verify_artifact

    folder = mlflow.artifact_directory(champion)
    verify_artifact(folder, champion.artifact_sha256)
    return folder
