"""How a model pipeline's model is trained from a sealed dataset: settings in, registered version out."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mangaassist_assets.core.bundles import bundles_by_start
from mangaassist_assets.models.model_types import ModelType, TrainedArtifact, TrainingRequest
from mangaassist_assets.models.registration.cross_fitting import cross_fit
from mangaassist_assets.models.registration.registration import (
    Registered,
    Training,
    TrainingPlatform,
    train_and_register,
)
from mangaassist_assets.models.registration.registry import BUNDLE_START_TAG, CHAMPION, ModelStore
from mangaassist_assets.retrieval.chunking import embedding_text
from mangaassist_assets.retrieval.stored_knowledge import read_chunks
from mangaassist_assets.training.checkpoints import Checkpoints
from mangaassist_assets.training.objective import ProgressCallback, TrainingProgress

if TYPE_CHECKING:
    from mangaassist_assets.datasets.versions.versions import DatasetVersion
    from mangaassist_assets.models.pipelines import ModelPipeline
    from mangaassist_assets.models.registration.trainer import Trainer


def progress_logger(logger: logging.Logger) -> ProgressCallback:
    """Return what writes training progress to a log: stages, epochs, notices, and steps as they are reported."""

    def report(progress: TrainingProgress) -> None:
        if progress.notice:
            logger.warning("%s: %s", progress.stage, progress.notice)
            return
        figures = ", ".join(f"{name} {value:.3f}" for name, value in progress.figures.items())
        step = f" step {progress.step}/{progress.steps}" if progress.steps else ""
        epoch = f", epoch {progress.epoch}/{progress.epochs} done" if progress.epoch else ""
        logger.info("%s%s%s%s", progress.stage, step, epoch, f": {figures}" if figures else "")

    return report


def train_model(
    platform: TrainingPlatform,
    pipeline: ModelPipeline,
    dataset: DatasetVersion,
    *,
    bundle: str | None,
    model_type: ModelType[Any],
    trainer: Trainer,
) -> Registered:
    """Train a model pipeline's model on a dataset version and register it.

    The same dataset and settings are the same model version: what was trained before is found, not trained again. So
    the champion that training may start from is no part of the key; its digest is a tag of the version. A model type
    with folds starts from no champion, which has learned from tests; its version brings what the models of its folds
    answer.
    """
    snapshots = platform.snapshots
    settings: dict[str, Any] = {"kind": model_type.kind, **model_type.settings()}
    corpus: list[str] = []
    if model_type.reads_knowledge:
        # Word frequencies come from the whole knowledge, not from the passages that happen to be in the dataset.
        settings["knowledge_digest"] = snapshots.latest("knowledge_chunks").digest
        corpus = [embedding_text(chunk.title, chunk.text) for chunk in read_chunks(snapshots)]
    start_ms = 0 if bundle is None else bundles_by_start(snapshots).get(bundle, 0)

    def train(folder: Path, checkpoints: Checkpoints, progress: ProgressCallback) -> TrainedArtifact:
        may_start = bundle is not None and not model_type.folds
        champion = _champion_to_start_from(platform.tracking, pipeline, start_ms) if may_start else None
        request = TrainingRequest(
            train=model_type.examples(dataset.frame, "train"),
            validation=model_type.examples(dataset.frame, "validation"),
            output=folder,
            champion=champion,
            checkpoints=checkpoints,
            corpus=corpus,
        )
        return trainer.run(_TrainingJob(model_type, request), progress=progress)

    training = Training(
        pipeline=pipeline, dataset=dataset, bundle=bundle, start_ms=start_ms, settings=settings, train=train
    )
    registered = train_and_register(platform, training)
    answers = cross_fit(platform, pipeline, dataset, registered.model, model_type=model_type, trainer=trainer)
    return replace(registered, cross_fit=answers)


class _TrainingJob:
    """One training as workers take it: values alone, called with a function to report to."""

    def __init__(self, model_type: ModelType[Any], request: TrainingRequest[Any]) -> None:
        self._model_type = model_type
        self._request = request

    def __call__(self, progress: ProgressCallback) -> TrainedArtifact:
        import shutil

        from mangaassist_assets.training.compute import Compute

        if Compute.detect().leads:
            # A worker that was lost after it had written leaves an artifact, which nobody returned.
            shutil.rmtree(self._request.output, ignore_errors=True)
        return self._model_type.train(replace(self._request, progress=progress))


def _champion_to_start_from(models: ModelStore, pipeline: ModelPipeline, start_ms: int) -> Path | None:
    """Return the champion's artifact; None where there is none, or where it learned from a later bundle.

    A backfill of an old bundle shall make what that bundle could have made.
    """
    champion = models.version_by_alias(pipeline.model_name, CHAMPION)
    if champion is None or int(champion.tags.get(BUNDLE_START_TAG, "0")) > start_ms:
        return None
    from mangaassist_assets.models.artifacts import verify_artifact

    folder = models.artifact_directory(champion)
    verify_artifact(folder, champion.artifact_sha256)
    return folder
