"""The check that warns when a champion decayed; it stops nothing, for what serves is no worse by being judged."""

from collections.abc import Sequence

import dagster as dg

from mangaassist_assets.models.pipelines import ModelPipeline
from resources.store import StoreResource


def build_champion_checks(pipelines: Sequence[ModelPipeline]) -> tuple[dg.AssetChecksDefinition, ...]:
    """Return the checks of model pipelines' champions."""
    return tuple(build_champion_check(pipeline) for pipeline in pipelines)


def build_champion_check(pipeline: ModelPipeline) -> dg.AssetChecksDefinition:
    """Return the check that warns where a model pipeline's champion was found to have decayed."""

    @dg.asset_check(
        asset=pipeline.health_asset,
        name="champion_not_decayed",
        blocking=False,
        description=(
            f"On fresh reviewed messages the champion {pipeline.title} is not proven to be right less often than on "
            "earlier ones that came about in the same way. A warning: retrain, or look at what shoppers ask now."
        ),
    )
    def champion_not_decayed(store: StoreResource) -> dg.AssetCheckResult:
        from mangaassist_assets.monitoring.champion_health import HEALTH_FILE

        snapshots = store.snapshots()
        snapshot = snapshots.find(pipeline.health_asset)
        if snapshot is None:
            return dg.AssetCheckResult(passed=True, description="there is no champion to judge yet")
        health = snapshots.read_json(snapshot, HEALTH_FILE)
        return dg.AssetCheckResult(
            passed=health["outcome"] != "decayed",
            severity=dg.AssetCheckSeverity.WARN,
            description=f"version {health['champion_version']}: {health['outcome']}: {'; '.join(health['reasons'])}",
            metadata={
                "outcome": dg.MetadataValue.text(health["outcome"]),
                "compared_reviews": dg.MetadataValue.int(health["compared_reviews"]),
                "fresh_reviews": dg.MetadataValue.int(health["fresh_reviews"]),
            },
        )

    return champion_not_decayed
