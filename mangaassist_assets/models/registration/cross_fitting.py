"""Cross-fitting: what models that have not seen a label answer to it, for every label that people gave traffic.

The registered model learns from all labels, so none of them can test it. Its recipe can be tested: as many models as
there are folds are trained like it, each without the shoppers, messages and near-duplicates of its fold, and answer
those. What a verdict on such answers certifies is the recipe on this data; the registered model is the same recipe on
all of it, from more labels than any fold's model had.

A fold's answers are written down when they are there, so a killed run goes on with the next fold. All of them are an
artifact of the training run, where a version that was found instead of trained has its answers from.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from filelock import FileLock

from mangaassist_assets.core.files import write_whole
from mangaassist_assets.datasets.building.folds import Fold, folds_of
from mangaassist_assets.datasets.schema import labels_of_people
from mangaassist_assets.models.artifacts import artifact_settings, verify_artifact
from mangaassist_assets.models.registration.cross_fit import CROSS_FIT_FILE, CrossFit, kept_answers
from mangaassist_assets.training.checkpoints import Checkpoints
from mangaassist_assets.training.objective import ProgressCallback, TrainingProgress

if TYPE_CHECKING:
    from mangaassist_assets.datasets.versions.versions import DatasetVersion
    from mangaassist_assets.models.model_types import ModelType
    from mangaassist_assets.models.pipelines import ModelPipeline
    from mangaassist_assets.models.registration.registration import TrainingPlatform
    from mangaassist_assets.models.registration.registry import TrainedModel
    from mangaassist_assets.models.registration.trainer import Trainer


def cross_fit(
    platform: TrainingPlatform,
    pipeline: ModelPipeline,
    dataset: DatasetVersion,
    model: TrainedModel,
    *,
    model_type: ModelType[Any],
    trainer: Trainer,
) -> CrossFit | None:
    """Return what models that have not seen them answer to a dataset's tests; made, or found with the training run.

    None for a model type whose tests are not made by folds, and for a dataset without tests.

    Raises:
        ArtifactMismatchError: the registered artifact, which says how it was trained, is damaged.
    """
    tests = frozenset(labels_of_people(dataset.frame)["example_id"]) if model_type.folds else frozenset()
    if not tests:
        return None
    tracking = platform.tracking
    version = tracking.registry().get(model.name, model.version)
    found = kept_answers(tracking, version)
    if found is not None and found.tested == tests:
        platform.logger.info("version %s: the answers of its folds are there: nothing to train", version.version)
        return found
    # The artifact is what came of the choice that the folds follow.
    key = hashlib.sha256(f"{version.artifact_sha256}\n{dataset.digest}".encode()).hexdigest()
    folder = platform.scratch / f"folds-{key[:32]}"
    frame = dataset.frame
    artifact = tracking.artifact_directory(version)
    verify_artifact(artifact, version.artifact_sha256)
    job = _FoldsJob(
        model_type=model_type,
        examples=model_type.examples(frame.with_columns(pl.lit("train").alias("split")), "train"),
        folds=folds_of(frame, count=model_type.folds, text_column=pipeline.dataset.text_columns[0]),
        recipe=artifact_settings(artifact),
        folder=folder,
        key=key,
        version=version.version,
    )
    with FileLock(folder.with_suffix(".lock")):
        made = trainer.run(job, progress=platform.report)
        if version.run_id:
            tracking.write_run_file(version.run_id, CROSS_FIT_FILE, made.to_parquet())
        shutil.rmtree(folder, ignore_errors=True)
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class _FoldsJob:
    """The training of all folds as workers take it: values alone, called with a function to report to."""

    model_type: ModelType[Any]
    examples: Sequence[Any]
    folds: Sequence[Fold]
    recipe: Mapping[str, Any]
    folder: Path
    key: str
    version: str

    def __call__(self, progress: ProgressCallback) -> CrossFit:
        from mangaassist_assets.training.compute import Compute

        leads = Compute.detect().leads
        answered = {fold.number: answers for fold in self.folds if (answers := self._kept(fold)) is not None}
        if len(answered) < len(self.folds):
            learner = self.model_type.fold_learner(self.examples, self.recipe)
        for fold in self.folds:
            if fold.number in answered:
                continue
            stage = f"fold {fold.number} of {self.model_type.folds}"
            if leads:
                counts = {"tests": float(len(fold.tests)), "learned_from": float(len(fold.learned))}
                progress(TrainingProgress(stage=stage, figures=counts))
            asked = [one for one in self.examples if one.example_id in fold.tests]
            checkpoints = Checkpoints(self.folder / f"fold-{fold.number}", fingerprint=f"{self.key}/{fold.number}")
            results = learner.answers(
                fold.learned,
                asked,
                version=self.version,
                checkpoints=checkpoints,
                progress=_named(progress, stage),
            )
            answered[fold.number] = CrossFit.of([(fold.number, [one.example_id for one in asked], results)])
            if leads:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_whole(self._file(fold), answered[fold.number].to_parquet())
                checkpoints.clear()
        return CrossFit(frame=pl.concat([one.frame for one in answered.values()]).sort("example_id"))

    def _file(self, fold: Fold) -> Path:
        return self.folder / f"fold-{fold.number}.parquet"

    def _kept(self, fold: Fold) -> CrossFit | None:
        file = self._file(fold)
        return CrossFit.from_parquet(file.read_bytes()) if file.is_file() else None


def _named(progress: ProgressCallback, stage: str) -> ProgressCallback:
    """Return what tells the steps of a fold under the fold's name: they count from 1 in each."""
    return lambda what: progress(replace(what, stage=stage if what.stage == "fine-tune" else what.stage))
