"""Releases: the configuration in force, what production runs, and the manifest of each bundle."""

from collections.abc import Sequence

import dagster as dg
from pydantic import Field

from mangaassist_assets.assets.common import ML_ENGINEERING, PLATFORM, RELEASE_MANAGEMENT, materialized
from mangaassist_assets.assets.declaring import declared_asset
from mangaassist_assets.assets.inputs import (
    CHUNKS,
    GOLDEN_MESSAGES,
    LABELLED_QUERIES,
    NEWEST_TRAFFIC,
    PROFILES_IN_APP_CONFIG,
    SERVED_TURNS,
    learned_by,
    through,
)
from mangaassist_assets.chatbot.configuration.profiles import PROFILE_ASSETS
from mangaassist_assets.models.pipelines import ModelPipeline
from mangaassist_assets.partitions import release_bundles
from resources.aws.app_config import AppConfigResource
from resources.aws.endpoints import SageMakerResource
from resources.aws.generation import GenerationResource
from resources.mlflow.tracking import MlflowResource
from resources.search.embeddings import EmbeddingsResource
from resources.search.indexes import SearchResource
from resources.store import StoreResource


class ConfigurationEvaluationSettings(dg.Config):
    """How much is tried."""

    questions: int = Field(
        default=40,
        ge=0,
        le=1_000,
        description="Questions that are answered under both versions of the prompts, half of the golden set and half "
        "of what failed. Each is two calls of the model.",
    )


def configuration_key(profile: str) -> dg.AssetKey | None:
    """Return the external asset of a configuration profile; None of one that this platform does not know."""
    return dg.AssetKey(PROFILE_ASSETS[profile]) if profile in PROFILE_ASSETS else None


CONFIGURATION_PROFILES = tuple(
    dg.AssetSpec(
        asset,
        group_name="release",
        owners=[RELEASE_MANAGEMENT],
        kinds={"appconfig"},
        description=f"The AppConfig profile `{profile}`, which others write. Each version that came into force is a "
        "version of its data; a deployment that was rolled back or reverted is an observation without one.",
    )
    for profile, asset in PROFILE_ASSETS.items()
)


@declared_asset(
    outside="AppConfig",
    reads=PROFILES_IN_APP_CONFIG,
    group_name="release",
    owners=[PLATFORM],
    kinds={"appconfig"},
    code_version="2",
)
def runtime_configuration(
    context: dg.AssetExecutionContext, app_config: AppConfigResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """What is deployed in AppConfig (prompts, routing, guardrails, experiments and what others keep there), judged.

    One row is one configuration profile with its last completed deployment (a rolled-back one does not count), the
    version that chatbots answer with, the fields that this platform does not know, and what is wrong with it.
    """
    from mangaassist_assets.chatbot.configuration.review import plain_reviews, review_figures, review_files

    reviews = plain_reviews(app_config.review())
    snapshot = store.step(context).keep(review_files(reviews))
    context.log.info(", ".join(f"{one['profile']} {one['deployed']}" for one in reviews))
    return materialized(snapshot, review_figures(reviews))


@declared_asset(
    outside="AppConfig, the search index and the model",
    reads=[*PROFILES_IN_APP_CONFIG, LABELLED_QUERIES, CHUNKS, GOLDEN_MESSAGES, NEWEST_TRAFFIC],
    group_name="release",
    owners=[ML_ENGINEERING],
    kinds={"appconfig", "json"},
    code_version="1",
)
def configuration_evaluation(
    context: dg.AssetExecutionContext,
    config: ConfigurationEvaluationSettings,
    app_config: AppConfigResource,
    embeddings: EmbeddingsResource,
    generation: GenerationResource,
    search: SearchResource,
    store: StoreResource,
) -> dg.MaterializeResult[None]:
    """What the configuration in force changes: each profile's version and the one before it, on the same material.

    Routing: the labelled queries on the live index under both policies. Guardrails: both rulesets on the newest
    bundle's turns. Prompts: the same questions (golden set, and what failed) answered under both. Experiments: the
    shares of their arms; mining tells turns by arm already. Decides nothing.
    """
    from mangaassist_assets.chatbot.changed_documents import change_figures, change_files
    from mangaassist_assets.chatbot.evaluated_changes import Material, evaluate_changes

    step = store.step(context)
    bundle, turns, failed = step.load(NEWEST_TRAFFIC)
    golden = [message.text for message in step.load(GOLDEN_MESSAGES)]
    changes = evaluate_changes(
        app_config.in_force(2),
        Material(
            bundle=bundle,
            turns=turns,
            golden=golden,
            failed=failed,
            queries=step.load(LABELLED_QUERIES),
            chunks=step.load(CHUNKS) if search.index().live_generation() else [],
            index=search.index(),
            embedder=embeddings.embedder(),
            generator=generation.generator(),
        ),
        questions=config.questions,
        logger=context.log,
    )
    return materialized(step.keep(change_files(changes)), change_figures(changes))


def build_release_assets(pipelines: Sequence[ModelPipeline]) -> tuple[dg.AssetsDefinition, ...]:
    """Return what production runs and the manifest of each bundle, with these model pipelines in them."""
    return _build_active_release(pipelines), _build_release_manifest(pipelines)


def _build_active_release(pipelines: Sequence[ModelPipeline]) -> dg.AssetsDefinition:
    @declared_asset(
        outside="what production runs",
        # Not of runtime_configuration: a document that its check refuses must not keep this record from being made.
        reads=[
            through("live_index", "the search index"),
            *(through(pipeline.endpoint_asset, "SageMaker") for pipeline in pipelines),
        ],
        group_name="release",
        owners=[RELEASE_MANAGEMENT],
        kinds={"json"},
        code_version="2",
    )
    def active_release(
        context: dg.AssetExecutionContext,
        app_config: AppConfigResource,
        endpoints: SageMakerResource,
        mlflow: MlflowResource,
        search: SearchResource,
        store: StoreResource,
    ) -> dg.MaterializeResult[None]:
        """What production runs at this moment: endpoint by endpoint, the live index, the configuration.

        Read from the systems themselves, not from what earlier assets left; where endpoint and registry disagree, the
        row says so.
        """
        from mangaassist_assets.releases.active_release import component_files, endpoint_row, index_row, profile_row

        step = store.step(context)
        rows = [
            *(
                endpoint_row(
                    one.endpoint_name,
                    endpoints.describe(one.endpoint_name),
                    mlflow.version_by_alias(one.model_name, "champion"),
                )
                for one in pipelines
            ),
            index_row(search.index().live_generation()),
            *map(profile_row, app_config.review()),
        ]
        snapshot = step.keep(component_files(rows))
        context.log.info("; ".join(f"{row['component']} {row['version']}" for row in rows))
        return materialized(snapshot, {"components": rows})

    return active_release


def _build_release_manifest(pipelines: Sequence[ModelPipeline]) -> dg.AssetsDefinition:
    @declared_asset(
        reads=[SERVED_TURNS, *(read for pipeline in pipelines for read in learned_by(pipeline))],
        partitions_def=release_bundles,
        group_name="release",
        owners=[RELEASE_MANAGEMENT],
        kinds={"json"},
        code_version="1",
    )
    def release_manifest(context: dg.AssetExecutionContext, store: StoreResource) -> dg.MaterializeResult[None]:
        """The exact versions that made one release bundle, and what was learned from it; content-addressed.

        Made of what the bundle's own traces say served them, so the manifest of an old bundle is the same whenever it
        is written. More than one version of a component means a mixed bundle.
        """
        from mangaassist_assets.releases.manifest import build_manifest, read_learned_model

        bundle, step = context.partition_key, store.step(context)
        learned = {one.model_asset: read_learned_model(step, one, bundle) for one in pipelines}
        manifest = build_manifest(bundle, step.load(SERVED_TURNS), learned=learned)
        snapshot = step.keep(manifest.files())
        context.log.info(f"manifest {manifest.digest[:12]} of {manifest.turns} turns")
        return materialized(snapshot, manifest.figures())

    return release_manifest
