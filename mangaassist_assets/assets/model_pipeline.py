"""The assets of a model pipeline, made from its names; only its dataset is an asset of its own."""

from typing import TYPE_CHECKING

import dagster as dg

from mangaassist_assets.assets.champion_health import build_champion_health_asset
from mangaassist_assets.assets.common import (
    ML_ENGINEERING,
    TRAINING_POOL,
    as_failure,
    image,
    materialized,
    table,
)
from mangaassist_assets.assets.declaring import declared_asset
from mangaassist_assets.assets.deployment import build_endpoint_asset
from mangaassist_assets.assets.inputs import (
    CHUNKS,
    GOLDEN_MESSAGES,
    dataset_of,
    evaluation_before,
    learned_by_champion_of,
    model_of,
    start_of_bundle,
)
from mangaassist_assets.assets.promotion import build_champion_asset
from mangaassist_assets.core.markdown import bullets
from mangaassist_assets.models.pipelines import ModelPipeline
from mangaassist_assets.partitions import release_bundles
from resources.mlflow.tracking import MlflowResource
from resources.ray.trainers import TrainerResource
from resources.settings.learning import LearningResource
from resources.store import StoreResource

if TYPE_CHECKING:
    from mangaassist_assets.core.declared_inputs import StepStore
    from mangaassist_assets.datasets.versions.versions import DatasetVersion
    from mangaassist_assets.evaluation.gate.decision import GateDecision
    from mangaassist_assets.models.champion_challenger import Evaluation
    from mangaassist_assets.models.registration.registration import Registered


def build_pipeline_assets(pipeline: ModelPipeline) -> tuple[dg.AssetsDefinition, ...]:
    """Return the assets after a pipeline's dataset: challenger, evaluation, champion, endpoint, champion health."""
    return (
        build_challenger_asset(pipeline),
        build_evaluation_asset(pipeline),
        build_champion_asset(pipeline),
        build_endpoint_asset(pipeline),
        build_champion_health_asset(pipeline),
    )


def build_challenger_asset(pipeline: ModelPipeline) -> dg.AssetsDefinition:
    """Return the asset that trains and registers a model pipeline's challenger."""

    @declared_asset(
        outside="the registry in MLflow",
        # What the champion learned it may start from is in the registry; its digest is a tag of the version.
        reads=[dataset_of(pipeline), start_of_bundle, *([CHUNKS] if pipeline.reads_knowledge else [])],
        name=pipeline.model_asset,
        partitions_def=release_bundles,
        group_name=pipeline.group,
        owners=[ML_ENGINEERING],
        kinds={"pytorch", "mlflow"},
        pool=TRAINING_POOL,
        code_version="3",
        description=(
            f"The challenger: {pipeline.about}; fine-tuned on this bundle's dataset, tracked and registered in "
            "MLflow.\n\n"
            "Training is repeated only if the dataset or the settings changed: the same content is the same model "
            "version. A training that was killed goes on from its last checkpoint.\n\n"
            "Where tests are made by folds, models that follow the same recipe and have not seen a label answer it, "
            "for every label that people gave traffic: out of fold. A fold that is done is not trained again."
        ),
    )
    def challenger(
        context: dg.AssetExecutionContext,
        learning: LearningResource,
        mlflow: MlflowResource,
        store: StoreResource,
        trainer: TrainerResource,
    ) -> dg.MaterializeResult[None]:
        from mangaassist_assets.models.registration.registration import keep_challenger

        step, bundle = store.step(context), context.partition_key
        dataset = step.load(dataset_of(pipeline))
        registered = train(
            context,
            pipeline,
            dataset,
            bundle,
            learning=learning,
            mlflow=mlflow,
            step=step,
            store=store,
            trainer=trainer,
        )
        snapshot, newer = keep_challenger(mlflow, step, pipeline, registered)
        if newer is not None:
            context.log.info(f"the alias challenger stays with version {newer.version} of a newer bundle")
        return materialized(snapshot, training_metadata(mlflow, registered) | _out_of_fold(registered, dataset))

    return challenger


def build_evaluation_asset(pipeline: ModelPipeline) -> dg.AssetsDefinition:
    """Return the asset that compares a model pipeline's challenger with its champion."""

    @declared_asset(
        outside="the registry in MLflow and measured times",
        reads=[
            model_of(pipeline),
            dataset_of(pipeline),
            evaluation_before(pipeline),
            GOLDEN_MESSAGES,
            *learned_by_champion_of(pipeline),
        ],
        name=pipeline.evaluation_asset,
        partitions_def=release_bundles,
        group_name=pipeline.group,
        owners=[ML_ENGINEERING],
        kinds={"mlflow", "json"},
        code_version="3",
        description=(
            f"Champion and challenger of the {pipeline.title} on the same examples, and the gate's verdict on them.\n\n"
            "Paired, on examples that neither has learned: the dataset's test side, or, where tests are made by folds, "
            "every label that people gave traffic, answered out of fold; both models are timed in turns. Such a "
            "verdict certifies the training recipe on this data; the registered model is the same recipe on all "
            "labels. Golden set and corpus are fixed guards against regression. The verdict is `pass`, `fail`, "
            "`needs_sign_off` or `insufficient_evidence`, with figures, slices and guardrail metrics."
        ),
    )
    def evaluation(
        context: dg.AssetExecutionContext, learning: LearningResource, mlflow: MlflowResource, store: StoreResource
    ) -> dg.MaterializeResult[None]:
        from mangaassist_assets.models.champion_challenger import NoChampionError, evaluate, keep_evaluation
        from mangaassist_assets.models.compared import UntestedChallengerError

        step = store.step(context)
        with as_failure(NoChampionError, UntestedChallengerError):
            evaluated, decision = evaluate(
                mlflow,
                step,
                pipeline,
                learning.model_type(pipeline),
                bundle=context.partition_key,
                gate=learning.gate(),
                golden=step.load(GOLDEN_MESSAGES),
            )
        snapshot = keep_evaluation(step, pipeline, evaluated)
        chart = None if decision is None else _log_decision(mlflow, pipeline, evaluated, decision)
        context.log.info(evaluated.summary())
        return materialized(snapshot, _evaluation_metadata(mlflow, pipeline, evaluated, chart))

    return evaluation


def train(
    context: dg.AssetExecutionContext,
    pipeline: ModelPipeline,
    dataset: "DatasetVersion",
    bundle: str | None,
    *,
    learning: LearningResource,
    mlflow: MlflowResource,
    step: "StepStore",
    store: StoreResource,
    trainer: TrainerResource,
) -> "Registered":
    """Train a model pipeline's model on a dataset version and register it; None for `bundle` is the bootstrap."""
    from mangaassist_assets.models.registration.registration import TrainingPlatform
    from mangaassist_assets.models.registration.training import progress_logger, train_model
    from mangaassist_assets.serving.endpoint_schemas import pipeline_schemas

    platform = TrainingPlatform(
        tracking=mlflow,
        snapshots=step,
        scratch=store.cache("training"),
        schemas=pipeline_schemas(pipeline).files,
        dagster_run_id=context.run.run_id,
        logger=context.log,
        report=progress_logger(context.log),
    )
    model_type = learning.model_type(pipeline)
    return train_model(platform, pipeline, dataset, bundle=bundle, model_type=model_type, trainer=trainer)


def training_metadata(mlflow: MlflowResource, registered: "Registered") -> dict[str, dg.MetadataValue]:
    """Return links of a registered model, with figures, pictures and tables of its training if there was one."""
    model, trained = registered.model, registered.trained
    links: dict[str, dg.MetadataValue] = {
        "version": dg.MetadataValue.text(model.version),
        "artifact_sha256": dg.MetadataValue.text(model.artifact_sha256),
        "dataset_digest": dg.MetadataValue.text(model.dataset_digest),
        "mlflow_run": dg.MetadataValue.url(mlflow.run_url(model.run_id)),
        "model_version": dg.MetadataValue.url(mlflow.model_version_url(model.name, model.version)),
    }
    if trained is None:
        return links
    figures: list[dict[str, str | int | float | bool | None]] = [
        {"figure": name, "value": round(value, 4)} for name, value in sorted(trained.metrics.items())
    ]
    return {
        **links,
        "kept": dg.MetadataValue.text(trained.kept),
        "started_from": dg.MetadataValue.text(trained.started_from),
        "figures": table(figures),
        **{name.removesuffix(".png"): image(name.removesuffix(".png"), png) for name, png in trained.charts.items()},
        **{name: table([dict(row) for row in rows]) for name, rows in trained.tables.items()},
        "limits": dg.MetadataValue.md(bullets(trained.limits) or "none known"),
    }


def _out_of_fold(registered: "Registered", dataset: "DatasetVersion") -> dict[str, dg.MetadataValue]:
    """Return how right models were that had not seen the question, in all and by how a label came about."""
    from mangaassist_assets.models.registration.cross_fit import accuracy_by

    answers = registered.cross_fit
    if answers is None:
        return {}
    rows = [
        row
        for column in ("origin", "release_bundle")
        if column in dataset.frame.columns
        for row in accuracy_by(answers, dataset.frame, column)
    ]
    return {
        "out_of_fold": dg.MetadataValue.float(round(answers.mean, 4)),
        "out_of_fold_tests": dg.MetadataValue.int(len(answers.frame)),
        "out_of_fold_by": table(rows),
    }


def _log_decision(
    mlflow: MlflowResource, pipeline: ModelPipeline, evaluation: "Evaluation", decision: "GateDecision"
) -> bytes:
    """Log the gate's decision with the challenger and return its chart."""
    from mangaassist_assets.evaluation.gate.chart import gate_chart
    from resources.mlflow.verdicts import log_verdict

    chart = gate_chart(decision)
    log_verdict(
        mlflow.client(),
        mlflow.registry().get(pipeline.model_name, evaluation.challenger_version),
        evaluation,
        decision=decision.to_dict(),
        chart=chart,
    )
    return chart


def _evaluation_metadata(
    mlflow: MlflowResource, pipeline: ModelPipeline, evaluation: "Evaluation", chart: bytes | None
) -> dict[str, dg.MetadataValue]:
    from resources.mlflow.registry import MODEL_TAG

    name = pipeline.model_name
    challenger = mlflow.registry().get(name, evaluation.challenger_version)
    metadata: dict[str, dg.MetadataValue] = {
        "verdict": dg.MetadataValue.text(evaluation.verdict),
        "reasons": dg.MetadataValue.text("; ".join(evaluation.reasons)),
        "champion": dg.MetadataValue.float(round(evaluation.champion_score, 4)),
        "challenger": dg.MetadataValue.float(round(evaluation.challenger_score, 4)),
        "test_examples": dg.MetadataValue.int(evaluation.test_examples),
        "decision": dg.MetadataValue.md(evaluation.table),
        "champion_version": dg.MetadataValue.url(mlflow.model_version_url(name, evaluation.champion_version)),
        "challenger_version": dg.MetadataValue.url(mlflow.model_version_url(name, evaluation.challenger_version)),
        "mlflow_run": dg.MetadataValue.url(mlflow.run_url(challenger.run_id or "")),
    }
    # MLflow's own page of a version lacks this link; versions of before there were models have none.
    if (model_id := challenger.tags.get(MODEL_TAG)) is not None:
        metadata["logged_model"] = dg.MetadataValue.url(mlflow.logged_model_url(model_id))
    if chart is not None:
        metadata["differences"] = image("challenger minus champion", chart)
    return metadata
