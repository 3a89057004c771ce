"""Releases: the configuration in force, what production runs, and the manifest of each bundle."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import dagster as dg

from mangaassist_assets.assets.common import PLATFORM, RELEASE_MANAGEMENT, materialized, table
from mangaassist_assets.assets.traces import tagged_traces
from mangaassist_assets.models.pipelines import ModelPipeline
from mangaassist_assets.partitions import release_bundles
from resources.aws.app_config import AppConfigResource
from resources.aws.endpoints import SageMakerResource
from resources.mlflow.tracking import MlflowResource
from resources.search.indexes import SearchResource
from resources.store import StoreResource

if TYPE_CHECKING:
    from mangaassist_assets.releases.manifest import ReleaseManifest

Row: TypeAlias = dict[str, str | int | float | bool | None]

PROFILES_FILE = "profiles.json"


@dg.asset(group_name="release", owners=[PLATFORM], kinds={"appconfig"}, code_version="2")
def runtime_configuration(
    context: dg.AssetExecutionContext, app_config: AppConfigResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """What is deployed in AppConfig (prompts, routing, guardrails, experiments and what others keep there), judged.

    One row is one configuration profile with its last completed deployment (a rolled-back one does not count), the
    version that chatbots answer with, the fields that this platform does not know, and what is wrong with it.
    """
    from mangaassist_assets.core.snapshots import canonical_json

    reviews = [{**one.to_dict(), "problems_told": one.describe_problems()} for one in app_config.review()]
    snapshot = store.snapshots().write("runtime_configuration", {PROFILES_FILE: canonical_json(reviews)})
    context.log.info(", ".join(f"{one['profile']} {one['deployed']}" for one in reviews))
    return materialized(
        snapshot,
        {
            "profiles": table(
                [
                    {
                        "profile": one["profile"],
                        "deployed": one["deployed"],
                        "serving": one["serving"] or "none",
                        "document_version": one["document_version"] or "",
                        "unknown_fields": len(one["unknown_fields"]),
                        "problems": len(one["problems"]),
                        "state": one["state"],
                    }
                    for one in reviews
                ]
            ),
            "unknown_fields": table(
                [
                    {
                        "profile": one["profile"],
                        "version": one["deployed"],
                        "field": field["field"],
                        "resembles": field["resembles"] or "",
                    }
                    for one in reviews
                    for field in one["unknown_fields"]
                ]
            ),
            "problems": table(problem_rows(reviews)),
        },
    )


def problem_rows(reviews: list[dict[str, Any]]) -> list[Row]:
    """Return a row a problem of what the refresh found: profile, version, place, reason, and the version in use."""
    return [
        {
            "profile": one["profile"],
            "version": one["deployed"],
            "field": problem["field"],
            "reason": problem["reason"],
            "serving": one["serving"] or "none",
        }
        for one in reviews
        for problem in one["problems"]
    ]


def build_active_release(pipelines: Sequence[ModelPipeline]) -> dg.AssetsDefinition:
    """Return the asset that records what production runs."""

    @dg.asset(
        # Not of runtime_configuration: a document that its check refuses must not keep this record from being made.
        deps=["live_index", *(pipeline.endpoint_asset for pipeline in pipelines)],
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

        Read from the systems themselves, not from what earlier assets believed they did; where endpoint and registry
        disagree, the row says so.
        """
        from mangaassist_assets.core.snapshots import canonical_json

        rows = [_endpoint_row(pipeline, endpoints, mlflow) for pipeline in pipelines]
        generation = search.index().live_generation()
        rows.append(_component("search index", generation, state="live", agrees_with_registry=True))
        rows += [
            _component(
                f"configuration {one.profile}",
                one.serving,
                state=one.state,
                agrees_with_registry=one.serving == one.deployed,
            )
            for one in app_config.review()
        ]
        snapshot = store.snapshots().write("active_release", {"components.json": canonical_json(rows)})
        context.log.info("; ".join(f"{row['component']} {row['version']}" for row in rows))
        return materialized(snapshot, {"components": table(rows)})

    return active_release


def _endpoint_row(pipeline: ModelPipeline, endpoints: SageMakerResource, mlflow: MlflowResource) -> Row:
    deployed = endpoints.describe(pipeline.endpoint_name)
    champion = mlflow.version_by_alias(pipeline.model_name, "champion")
    serving = deployed.model_version if deployed else None
    return _component(
        pipeline.endpoint_name,
        serving,
        state=deployed.status if deployed else "no endpoint",
        agrees_with_registry=serving == (champion.version if champion else None),
    )


def _component(component: str, version: str | None, *, state: str, agrees_with_registry: bool) -> Row:
    return {
        "component": component,
        "version": version,
        "state": state,
        "agrees_with_registry": agrees_with_registry,
    }


def build_release_manifest(pipelines: Sequence[ModelPipeline]) -> dg.AssetsDefinition:
    """Return the asset that writes the manifest of a bundle."""

    @dg.asset(
        partitions_def=release_bundles,
        deps=[tagged_traces, *(pipeline.evaluation_asset for pipeline in pipelines)],
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
        from mangaassist_assets.assets.reading import read_learned_model, read_turns
        from mangaassist_assets.core.snapshots import canonical_json
        from mangaassist_assets.releases.manifest import build_manifest

        bundle = context.partition_key
        snapshots = store.snapshots()
        manifest = build_manifest(
            bundle,
            read_turns(snapshots, bundle),
            learned={one.model_asset: read_learned_model(snapshots, one, bundle) for one in pipelines},
        )
        snapshot = snapshots.write(
            "release_manifest", {"manifest.json": canonical_json(manifest.to_dict())}, partition=bundle
        )
        context.log.info(f"manifest {manifest.digest[:12]} of {manifest.turns} turns")
        return materialized(snapshot, _manifest_metadata(manifest))

    return release_manifest


def _manifest_metadata(manifest: "ReleaseManifest") -> dict[str, dg.MetadataValue]:
    return {
        "manifest_digest": dg.MetadataValue.text(manifest.digest),
        "turns": dg.MetadataValue.int(manifest.turns),
        "mixed": table([{"component": name} for name in manifest.mixed_components]),
        "missing": table([{"component": name} for name in manifest.missing_components]),
        "served": table(
            [
                {"component": component, "version": one.version, "turns": one.turns}
                for component, versions in manifest.served.items()
                for one in versions
            ]
        ),
        "learned": table(
            [
                {
                    "model": name,
                    "dataset": (learned.dataset_digest or "none")[:12],
                    "challenger": learned.challenger_version,
                    "verdict": learned.verdict,
                }
                for name, learned in manifest.learned.items()
            ]
        ),
    }
