"""Whether what is deployed in AppConfig can be used. Unknown fields are told and pass; a broken document fails."""

import dagster as dg

from mangaassist_assets.assets.common import table
from resources.store import StoreResource

_UNKNOWN_TOLD = 10


@dg.asset_check(
    asset="runtime_configuration",
    name="configuration_is_valid",
    # Nothing depends on runtime_configuration, so this fails the run and stops nothing else in it.
    blocking=True,
    description="Every deployed document that this platform knows is valid; experiments fit what they lie over.",
)
def configuration_is_valid(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
    """Judge the snapshot of the refresh; a failure names profile, version, field, reason, and the version in use."""
    from mangaassist_assets.assets.release import PROFILES_FILE, problem_rows

    snapshots = store.snapshots()
    reviews = snapshots.read_json(snapshots.latest("runtime_configuration"), PROFILES_FILE)
    broken = [one["problems_told"] for one in reviews if one["problems"]]
    for told in broken:
        context.log.error(told)
    unknown = [
        f"{one['profile']} version {one['deployed']} {field['field']}"
        + (f" (like {field['resembles']}?)" if field["resembles"] else "")
        for one in reviews
        for field in one["unknown_fields"]
    ]
    known = f"{len(reviews)} profiles, nothing unknown in them"
    told = f"kept, unknown to this platform: {', '.join(unknown[:_UNKNOWN_TOLD])}" if unknown else known
    return dg.AssetCheckResult(
        passed=not broken,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(broken) or told,
        metadata={
            "problems": table(problem_rows(reviews)),
            "unknown_fields": dg.MetadataValue.int(len(unknown)),
        },
    )
