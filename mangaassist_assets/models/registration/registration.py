"""From a trained artifact to a registered model version, without training or registering the same thing twice."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from mangaassist_assets.core.snapshots import Snapshot, SnapshotStore, canonical_json
from mangaassist_assets.models.registration.cross_fit import CROSS_FIT_FILE, CrossFit
from mangaassist_assets.models.registration.finished_training import TrainingFolder
from mangaassist_assets.models.registration.registry import (
    BUNDLE_START_TAG,
    CHALLENGER,
    CHAMPION,
    MODEL_FILE,
    DatasetInput,
    ModelStore,
    ModelVersion,
    Run,
    Tracking,
    TrainedModel,
    artifact_uri,
)
from mangaassist_assets.training.checkpoints import Checkpoints
from mangaassist_assets.training.objective import ProgressCallback, TrainingProgress

if TYPE_CHECKING:
    from mangaassist_assets.datasets.versions.versions import DatasetVersion
    from mangaassist_assets.models.model_types import TrainedArtifact
    from mangaassist_assets.models.pipelines import ModelPipeline
    from mangaassist_assets.models.registration.model_card import ModelCard

TRAINING_KEY_TAG = "training_key"
STARTED_FROM_TAG = "started_from"
MODEL_CARD_FILE = "model_card.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A registered model, and what its training left; None where it was found instead of trained.

    `cross_fit` is what models of folds answered to its dataset's tests; None where there are none.
    """

    model: TrainedModel
    trained: TrainedArtifact | None = None
    cross_fit: CrossFit | None = None


Train = Callable[[Path, "Checkpoints", "ProgressCallback"], "TrainedArtifact"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlatform:
    """Where a training keeps what it makes.

    `scratch` is the folder of checkpoints and of what is trained, but not registered yet; `schemas` the endpoint's
    schema files by name; `report` takes the training's progress.
    """

    tracking: Tracking
    snapshots: SnapshotStore
    scratch: Path
    schemas: Mapping[str, bytes]
    dagster_run_id: str
    logger: logging.Logger
    report: ProgressCallback


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What is to be trained.

    `bundle` is None and `start_ms` 0 for a first champion. `settings` are all that decides the weights besides the
    dataset, JSON values; `train` trains into an empty folder.
    """

    pipeline: ModelPipeline
    dataset: DatasetVersion
    bundle: str | None
    start_ms: int
    settings: Mapping[str, Any]
    train: Train

    @property
    def bundle_tag(self) -> str:
        """The bundle as runs and versions are tagged with it."""
        return self.bundle or "bootstrap"

    def registered(self, version: ModelVersion, trained: TrainedArtifact | None = None) -> Registered:
        """Return a version as what came of this training."""
        model = TrainedModel(
            name=version.name,
            version=version.version,
            run_id=version.run_id or "",
            artifact_uri=artifact_uri(version),
            artifact_sha256=version.artifact_sha256 or "",
            dataset_digest=self.dataset.digest,
            release_bundle=self.bundle,
            bundle_start_ms=self.start_ms,
        )
        return Registered(model=model, trained=trained)


def train_and_register(platform: TrainingPlatform, training: Training) -> Registered:
    """Train and register, or return the version that the same dataset and settings made before.

    A training that was killed goes on from its checkpoint; one that was finished, but could not be registered because
    the tracking server was away, is registered without training again.
    """
    tracking, pipeline, dataset = platform.tracking, training.pipeline, training.dataset
    key = training_key(dataset, training.settings)
    known = version_of_training(tracking, pipeline, key)
    if known is not None:
        platform.logger.info("version %s was trained on these very examples: nothing to train", known.version)
        return training.registered(known)
    folder = TrainingFolder(platform.scratch, key)
    trained_on = _dataset_input(platform.snapshots, training)
    with (
        # Two runs that train the same thing share its checkpoints and its scratch folder: one after the other.
        FileLock(folder.path.with_suffix(".lock")),
        tracking.training_run(
            f"{pipeline.model_asset} {training.bundle_tag}",
            tags=_run_tags(platform, training, key),
            params={**training.settings, "examples": dataset.card.examples},
            dataset=trained_on,
            report=platform.logger.warning,
        ) as run,
    ):
        trained = _trained(platform, folder, run, key, training.train)
        card = _model_card(training, trained)
        _log(run, trained, dataset, card)
        logged = run.log_model(
            trained.directory,
            kind=pipeline.kind,
            digest=trained.digest,
            card=card.to_markdown(),
            schemas=platform.schemas,
        )
        run.log_metrics(trained.metrics, model_id=logged.model_id, dataset=trained_on)
        version = tracking.register_version(
            pipeline.model_name,
            run_id=run.run_id,
            artifact_uri=logged.uri,
            artifact_sha256=logged.digest,
            model_id=logged.model_id,
            artifact_path=logged.artifact_path,
            description=card.short(),
            tags={
                TRAINING_KEY_TAG: key,
                BUNDLE_START_TAG: str(training.start_ms),
                STARTED_FROM_TAG: trained.started_from,
                "dataset_digest": dataset.digest,
                "dataset_version": dataset.card.version,
                "release_bundle": training.bundle_tag,
            },
        )
        folder.remove()
    platform.logger.info("registered %s version %s", pipeline.model_name, version.version)
    return training.registered(version, trained)


def _run_tags(platform: TrainingPlatform, training: Training, key: str) -> dict[str, str]:
    bundle = training.bundle
    return {
        "dagster_run_id": platform.dagster_run_id,
        "release_bundle": training.bundle_tag,
        "parent_trace_query": f"tags.release_bundle = '{bundle}'" if bundle else "none: bootstrap corpus",
        "dataset_version": training.dataset.card.version,
        TRAINING_KEY_TAG: key,
    }


def training_key(dataset: DatasetVersion, settings: Mapping[str, Any]) -> str:
    """Return what a training is known by: the digest of the examples it learns from and of the settings.

    What falls on the test side makes a new dataset, but no new model. Labels that folds test are among those that are
    learned from.
    """
    from mangaassist_assets.datasets.versions.versions import content_digest

    learned_from = content_digest(dataset.frame.filter(dataset.frame["split"] != "test"))
    return hashlib.sha256(canonical_json({"examples": learned_from, "settings": dict(settings)})).hexdigest()


def version_of_training(models: ModelStore, pipeline: ModelPipeline, key: str) -> ModelVersion | None:
    """Return the oldest version that a training made."""
    versions = models.registry().versions(pipeline.model_name)
    return next((one for one in versions if one.tags.get(TRAINING_KEY_TAG) == key), None)


def keep_challenger(
    models: ModelStore, snapshots: SnapshotStore, pipeline: ModelPipeline, registered: Registered
) -> tuple[Snapshot, ModelVersion | None]:
    """Store what was registered; let the alias `challenger` name it unless a newer bundle's challenger holds it.

    Returns:
        The snapshot, and the newer bundle's version that keeps the alias, None where there is none.
    """
    model, answers = registered.model, registered.cross_fit
    holder = models.version_by_alias(pipeline.model_name, CHALLENGER)
    if holder is not None and int(holder.tags.get(BUNDLE_START_TAG, "0")) <= model.bundle_start_ms:
        holder = None
    if holder is None:
        models.set_alias(pipeline.model_name, CHALLENGER, model.version)
    files = {MODEL_FILE: canonical_json(asdict(model))}
    if answers is not None:
        files[CROSS_FIT_FILE] = answers.to_parquet()
    return snapshots.write(pipeline.model_asset, files, partition=model.release_bundle), holder


def become_first_champion(models: ModelStore, model: TrainedModel) -> bool:
    """Let the alias `champion` name a model if it names none yet, and return whether it did; a gate moves it later."""
    if models.version_by_alias(model.name, CHAMPION) is not None:
        return False
    models.set_alias(model.name, CHAMPION, model.version)
    return True


def _trained(platform: TrainingPlatform, folder: TrainingFolder, run: Run, key: str, train: Train) -> TrainedArtifact:
    finished = folder.finished()
    if finished is not None:
        platform.logger.info("this training was finished before, but not registered: it is registered now")
        return finished
    folder.start()

    def progress(what: TrainingProgress) -> None:
        platform.report(what)
        if what.step and what.figures:
            run.live_metrics({f"live_{name}": value for name, value in what.figures.items()}, step=what.step)

    trained = train(folder.artifact, Checkpoints(folder.checkpoints, fingerprint=key), progress)
    folder.keep(trained)
    return trained


def _dataset_input(snapshots: SnapshotStore, training: Training) -> DatasetInput:
    asset, dataset = training.pipeline.dataset_asset, training.dataset
    source = snapshots.find(asset, partition=training.bundle) if training.bundle else None
    return DatasetInput(
        name=asset,
        sha256=dataset.digest,
        source=source.uri if source else "bootstrap corpus",
        schema=_column_types(dataset),
        profile=_profile(dataset),
    )


def _column_types(dataset: DatasetVersion) -> dict[str, str]:
    """Return the columns as MLflow calls their types; lists are shown as text."""
    import polars as pl

    names = {pl.Float64(): "double", pl.Int64(): "long", pl.Boolean(): "boolean"}
    return {name: names.get(dtype, "string") for name, dtype in dataset.frame.schema.items()}


def _profile(dataset: DatasetVersion) -> dict[str, int | str]:
    card = dataset.card
    return {
        "num_rows": card.rows,
        "num_examples": card.examples,
        **{f"num_{side}": card.by_split.get(side, 0) for side in ("train", "validation", "test")},
        **{f"num_{kind}_labels": count for kind, count in card.by_label_kind.items()},
        "dataset_version": card.version,
        "as_of": card.as_of or "bootstrap",
    }


def _model_card(training: Training, trained: TrainedArtifact) -> ModelCard:
    from mangaassist_assets.models.registration.model_card import ModelCard
    from mangaassist_assets.training.compute import Compute
    from mangaassist_assets.training.environment import training_environment

    compute = Compute.detect()
    return ModelCard(
        name=training.pipeline.model_name,
        kind=training.pipeline.kind,
        trained=trained,
        dataset=training.pipeline.dataset_asset,
        data=training.dataset.card,
        settings=training.settings,
        release_bundle=training.bundle,
        environment=training_environment(
            device=compute.device,
            precision="bfloat16" if compute.on_gpu else "float32",
            seed=int(training.settings.get("seed", 0)),
        ),
    )


def _log(run: Run, trained: TrainedArtifact, dataset: DatasetVersion, card: ModelCard) -> None:
    from mangaassist_assets.training.environment import environment_tags

    for record in trained.history:
        run.log_metrics({"training_loss": record.training_loss, **record.validation}, step=record.epoch)
    run.log_environment(card.environment, environment_tags(card.environment))
    run.log_text(dataset.card.to_markdown(), "data_card.md")
    run.log_text(card.to_markdown(), MODEL_CARD_FILE)
    for name, png in trained.charts.items():
        run.log_png(png, f"charts/{name}")
    for name, rows in trained.tables.items():
        run.log_rows(list(rows), f"tables/{name}.json")
