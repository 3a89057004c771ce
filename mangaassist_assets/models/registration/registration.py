"""From a trained artifact to a registered model version, without training or registering the same thing twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from mangaassist_assets.assets.common import image, materialized, table
from mangaassist_assets.assets.reading import MODEL_FILE, TrainedModel
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.models.pipelines import ModelPipeline
from mangaassist_assets.models.registration.finished_training import TrainingFolder

if TYPE_CHECKING:
    from mangaassist_assets.datasets.versions.versions import DatasetVersion
    from mangaassist_assets.models.model_types import TrainedArtifact
    from mangaassist_assets.models.registration.model_card import ModelCard
    from mangaassist_assets.training.checkpoints import Checkpoints
    from mangaassist_assets.training.progress import ProgressCallback, TrainingProgress
    from resources.mlflow.registry import ModelVersion
    from resources.mlflow.runs import DatasetInput, TrainingRun
    from resources.mlflow.tracking import MlflowResource
    from resources.store import StoreResource

TRAINING_KEY_TAG = "training_key"
BUNDLE_START_TAG = "bundle_start_ms"
STARTED_FROM_TAG = "started_from"
MODEL_CARD_FILE = "model_card.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A registered model, and what its training told; None where it was found instead of trained."""

    model: TrainedModel
    trained: TrainedArtifact | None = None


Train = Callable[[Path, "Checkpoints", "ProgressCallback"], "TrainedArtifact"]


def train_and_register(
    context: dg.AssetExecutionContext,
    mlflow: MlflowResource,
    store: StoreResource,
    pipeline: ModelPipeline,
    *,
    dataset: DatasetVersion,
    bundle: str | None,
    start_ms: int,
    settings: Mapping[str, Any],
    train: Train,
) -> Registered:
    """Train and register, or return the version that the same dataset and settings made before.

    A training that was killed goes on from its checkpoint; one that was finished, but could not be registered because
    the tracking server was away, is registered without training again.

    Args:
        context: for the log.
        mlflow: tracking and registry.
        store: where the scratch folder lies.
        pipeline: whose model.
        dataset: the sealed dataset version.
        bundle: the release bundle, None for a first champion.
        start_ms: when the bundle's first trace began, 0 for a first champion.
        settings: everything besides the dataset that decides the weights; JSON values.
        train: trains into an empty folder.
    """
    key = training_key(dataset, settings)
    known = version_of_training(mlflow, pipeline, key)
    if known is not None:
        context.log.info(f"version {known.version} was trained on these very examples: nothing to train")
        return Registered(model=_trained_model(known, dataset.digest, bundle, start_ms))

    from filelock import FileLock

    from resources.mlflow.model_files import log_model

    tags = {
        "dagster_run_id": context.run.run_id,
        "release_bundle": bundle or "bootstrap",
        "parent_trace_query": f"tags.release_bundle = '{bundle}'" if bundle else "none: bootstrap corpus",
        "dataset_version": dataset.card.version,
        TRAINING_KEY_TAG: key,
    }
    folder = TrainingFolder(store.cache("training"), key)
    taught = _dataset_input(store, pipeline, dataset, bundle)
    with (
        # Two runs that train the same thing share its checkpoints and its scratch folder: one after the other.
        FileLock(folder.path.with_suffix(".lock")),
        mlflow.training_run(
            f"{pipeline.model_asset} {bundle or 'bootstrap'}",
            tags=tags,
            params={**settings, "examples": dataset.card.examples},
            dataset=taught,
            report=context.log.warning,
        ) as run,
    ):
        trained = _trained(context, folder, run, key, train)
        card = _model_card(pipeline, trained, dataset, settings, bundle)
        _log(run, trained, dataset, card)
        logged = log_model(
            run,
            trained.directory,
            kind=pipeline.kind,
            digest=trained.digest,
            card=card.to_markdown(),
            schemas=pipeline.endpoint_schemas().files,
        )
        run.log_metrics(trained.metrics, model_id=logged.model_id, dataset=taught)
        version = mlflow.register_version(
            pipeline.model_name,
            run_id=run.run_id,
            artifact_uri=logged.uri,
            artifact_sha256=logged.digest,
            model_id=logged.model_id,
            artifact_path=logged.artifact_path,
            description=card.short(),
            tags={
                TRAINING_KEY_TAG: key,
                BUNDLE_START_TAG: str(start_ms),
                STARTED_FROM_TAG: trained.started_from,
                "dataset_digest": dataset.digest,
                "dataset_version": dataset.card.version,
                "release_bundle": bundle or "bootstrap",
            },
        )
        folder.remove()
    context.log.info(f"registered {pipeline.model_name} version {version.version}")
    return Registered(model=_trained_model(version, dataset.digest, bundle, start_ms), trained=trained)


def training_key(dataset: DatasetVersion, settings: Mapping[str, Any]) -> str:
    """Return what a training is known by: the digest of what teaches and of the settings.

    Labels that fall on the test side make a new dataset, but no new model.
    """
    from mangaassist_assets.datasets.versions.versions import content_digest

    taught = content_digest(dataset.frame.filter(dataset.frame["split"] != "test"))
    return hashlib.sha256(canonical_json({"taught": taught, "settings": dict(settings)})).hexdigest()


def version_of_training(mlflow: MlflowResource, pipeline: ModelPipeline, key: str) -> ModelVersion | None:
    """Return the oldest version that a training made."""
    versions = mlflow.registry().versions(pipeline.model_name)
    return next((one for one in versions if one.tags.get(TRAINING_KEY_TAG) == key), None)


def _trained(
    context: dg.AssetExecutionContext, folder: TrainingFolder, run: TrainingRun, key: str, train: Train
) -> TrainedArtifact:
    from mangaassist_assets.models.registration.training import log_progress
    from mangaassist_assets.training.checkpoints import Checkpoints

    finished = folder.finished()
    if finished is not None:
        context.log.info("this training was finished before, but not registered: it is registered now")
        return finished
    folder.start()
    tell = log_progress(context)

    def progress(what: TrainingProgress) -> None:
        tell(what)
        if what.step and what.figures:
            run.live_metrics({f"live_{name}": value for name, value in what.figures.items()}, step=what.step)

    trained = train(folder.artifact, Checkpoints(folder.checkpoints, fingerprint=key), progress)
    folder.keep(trained)
    return trained


def _dataset_input(
    store: StoreResource, pipeline: ModelPipeline, dataset: DatasetVersion, bundle: str | None
) -> DatasetInput:
    from resources.mlflow.runs import DatasetInput

    source = store.snapshots().find(pipeline.dataset_asset, partition=bundle) if bundle else None
    return DatasetInput(
        name=pipeline.dataset_asset,
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


def _model_card(
    pipeline: ModelPipeline,
    trained: TrainedArtifact,
    dataset: DatasetVersion,
    settings: Mapping[str, Any],
    bundle: str | None,
) -> ModelCard:
    from mangaassist_assets.models.registration.model_card import ModelCard, TrainingData
    from mangaassist_assets.training.compute import Compute
    from mangaassist_assets.training.environment import training_environment

    compute = Compute.detect()
    return ModelCard.of(
        trained,
        name=pipeline.model_name,
        kind=pipeline.kind,
        data=TrainingData.of(pipeline.dataset_asset, dataset.card),
        settings=settings,
        release_bundle=bundle,
        environment=training_environment(
            device=compute.device,
            precision="bfloat16" if compute.on_gpu else "float32",
            seed=int(settings.get("seed", 0)),
        ),
    )


def _log(run: TrainingRun, trained: TrainedArtifact, dataset: DatasetVersion, card: ModelCard) -> None:
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


def _trained_model(version: ModelVersion, dataset_digest: str, bundle: str | None, start_ms: int) -> TrainedModel:
    from resources.mlflow.registry import artifact_uri

    return TrainedModel(
        name=version.name,
        version=version.version,
        run_id=version.run_id or "",
        artifact_uri=artifact_uri(version),
        artifact_sha256=version.artifact_sha256 or "",
        dataset_digest=dataset_digest,
        release_bundle=bundle,
        bundle_start_ms=start_ms,
    )


def challenger_result(
    context: dg.AssetExecutionContext,
    mlflow: MlflowResource,
    store: StoreResource,
    pipeline: ModelPipeline,
    registered: Registered,
) -> dg.MaterializeResult[None]:
    """Store what was registered; let the alias `challenger` name it unless a newer bundle's challenger holds it."""
    model = registered.model
    holder = mlflow.version_by_alias(pipeline.model_name, "challenger")
    if holder is None or int(holder.tags.get(BUNDLE_START_TAG, "0")) <= model.bundle_start_ms:
        mlflow.set_alias(pipeline.model_name, "challenger", model.version)
    else:
        context.log.info(f"the alias challenger stays with version {holder.version} of a newer bundle")
    snapshot = store.snapshots().write(
        pipeline.model_asset, {MODEL_FILE: canonical_json(asdict(model))}, partition=model.release_bundle
    )
    return materialized(snapshot, {**_model_links(mlflow, model), **_story(registered.trained)})


def present_champion(
    context: dg.AssetExecutionContext, mlflow: MlflowResource, pipeline: ModelPipeline
) -> dg.MaterializeResult[None] | None:
    """Return the materialization that leaves a model pipeline's champion as it is; None where there is none."""
    champion = mlflow.version_by_alias(pipeline.model_name, "champion")
    if champion is None:
        return None
    context.log.info(f"version {champion.version} is champion: only a gate replaces it, there is nothing to train")
    return dg.MaterializeResult(
        data_version=dg.DataVersion((champion.artifact_sha256 or "unknown")[:16]),
        metadata={
            "version": dg.MetadataValue.text(champion.version),
            "artifact_sha256": dg.MetadataValue.text(champion.artifact_sha256 or "unknown"),
            "model_version": dg.MetadataValue.url(mlflow.model_version_url(pipeline.model_name, champion.version)),
        },
    )


def become_first_champion(
    context: dg.AssetExecutionContext, mlflow: MlflowResource, pipeline: ModelPipeline, registered: Registered
) -> dg.MaterializeResult[None]:
    """Let the alias `champion` name the model if it names none yet; only a gate moves it after that."""
    model = registered.model
    if mlflow.version_by_alias(pipeline.model_name, "champion") is None:
        mlflow.set_alias(pipeline.model_name, "champion", model.version)
        context.log.info(f"version {model.version} is the first champion")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(model.artifact_sha256[:16]),
        metadata={**_model_links(mlflow, model), **_story(registered.trained)},
    )


def _story(trained: TrainedArtifact | None) -> dict[str, dg.MetadataValue]:
    """Return figures, pictures and tables of a training for the page."""
    if trained is None:
        return {}
    figures: list[dict[str, str | int | float | bool | None]] = [
        {"figure": name, "value": round(value, 4)} for name, value in sorted(trained.metrics.items())
    ]
    return {
        "kept": dg.MetadataValue.text(trained.kept),
        "started_from": dg.MetadataValue.text(trained.started_from),
        "figures": table(figures),
        **{name.removesuffix(".png"): image(name.removesuffix(".png"), png) for name, png in trained.charts.items()},
        **{name: table([dict(row) for row in rows]) for name, rows in trained.tables.items()},
        "limits": dg.MetadataValue.md("\n".join(f"- {limit}" for limit in trained.limits) or "none known"),
    }


def _model_links(mlflow: MlflowResource, model: TrainedModel) -> dict[str, dg.MetadataValue]:
    return {
        "version": dg.MetadataValue.text(model.version),
        "artifact_sha256": dg.MetadataValue.text(model.artifact_sha256),
        "dataset_digest": dg.MetadataValue.text(model.dataset_digest),
        "mlflow_run": dg.MetadataValue.url(mlflow.run_url(model.run_id)),
        "model_version": dg.MetadataValue.url(mlflow.model_version_url(model.name, model.version)),
    }
