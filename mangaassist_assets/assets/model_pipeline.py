"""The assets of a model pipeline, made from its names; only its dataset is an asset of its own."""

import dagster as dg

from mangaassist_assets.assets.common import ML_ENGINEERING, TRAINING_POOL
from mangaassist_assets.assets.deployment import build_champion_asset, build_endpoint_asset
from mangaassist_assets.models.pipelines import ModelPipeline
from mangaassist_assets.monitoring.champion_health import build_champion_health_asset
from mangaassist_assets.partitions import release_bundles
from resources.mlflow.tracking import MlflowResource
from resources.ray.trainers import TrainerResource
from resources.settings.learning import LearningResource
from resources.store import StoreResource


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

    @dg.asset(
        name=pipeline.model_asset,
        partitions_def=release_bundles,
        deps=[pipeline.dataset_asset],
        group_name=pipeline.group,
        owners=[ML_ENGINEERING],
        kinds={"pytorch", "mlflow"},
        pool=TRAINING_POOL,
        code_version="2",
        description=(
            f"The challenger: {pipeline.about}; fine-tuned on this bundle's dataset, tracked and registered in "
            "MLflow.\n\n"
            "Training is repeated only if the dataset or the settings changed: the same content is the same model "
            "version. A training that was killed goes on from its last checkpoint."
        ),
    )
    def challenger(
        context: dg.AssetExecutionContext,
        learning: LearningResource,
        mlflow: MlflowResource,
        store: StoreResource,
        trainer: TrainerResource,
    ) -> dg.MaterializeResult[None]:
        from mangaassist_assets.assets.reading import read_dataset_version
        from mangaassist_assets.models.registration.registration import challenger_result
        from mangaassist_assets.models.registration.training import train_model

        bundle = context.partition_key
        version = read_dataset_version(store.snapshots(), pipeline, bundle)
        model = train_model(
            context,
            pipeline,
            learning=learning,
            mlflow=mlflow,
            store=store,
            trainer=trainer,
            dataset=version,
            bundle=bundle,
        )
        return challenger_result(context, mlflow, store, pipeline, model)

    return challenger


def build_evaluation_asset(pipeline: ModelPipeline) -> dg.AssetsDefinition:
    """Return the asset that compares a model pipeline's challenger with its champion."""

    @dg.asset(
        name=pipeline.evaluation_asset,
        partitions_def=release_bundles,
        deps=[pipeline.model_asset, pipeline.dataset_asset],
        group_name=pipeline.group,
        owners=[ML_ENGINEERING],
        kinds={"mlflow", "json"},
        code_version="2",
        description=(
            f"Champion and challenger of the {pipeline.title} on the same held-out examples, and the gate's verdict on "
            "them.\n\n"
            "Paired: both answer every example of the dataset's test side, which neither was trained on, and both are "
            "timed in turns. The verdict is `pass`, `fail` or `insufficient_evidence`, with figures, slices and guards."
        ),
    )
    def evaluation(
        context: dg.AssetExecutionContext, learning: LearningResource, mlflow: MlflowResource, store: StoreResource
    ) -> dg.MaterializeResult[None]:
        from mangaassist_assets.models.champion_challenger import evaluate, evaluation_result

        judged = evaluate(mlflow, store, learning, pipeline, bundle=context.partition_key)
        return evaluation_result(context, mlflow, store, pipeline, judged)

    return evaluation
