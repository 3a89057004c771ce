"""What Dagster decides itself by an asset's automation condition; its own default sensor would be created stopped."""

import dagster as dg

declared_conditions = dg.AutomationConditionSensorDefinition(
    "declared_conditions",
    target=dg.AssetSelection.assets("bundle_comparison"),
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Puts the bundles side by side again when mining, datasets or verdicts changed and nothing of it runs: "
    "so a backfill from the page ends with its comparison.",
)
