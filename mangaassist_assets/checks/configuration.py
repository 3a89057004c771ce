"""Whether what is deployed in AppConfig can be used. Unknown fields are reported and pass; a broken document fails."""

import dagster as dg

from mangaassist_assets.checks.results import check_result
from resources.store import StoreResource

_UNKNOWN_SHOWN = 10


@dg.asset_check(
    asset="runtime_configuration",
    name="configuration_is_valid",
    # Nothing depends on runtime_configuration, so this fails the run and stops nothing else in it.
    blocking=True,
    description="Every deployed document that this platform knows is valid; experiments fit what they lie over.",
)
def configuration_is_valid(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
    """Judge the snapshot of the refresh; a failure names profile, version, field, reason, and the version in use."""
    from mangaassist_assets.chatbot.configuration.review import (
        describe_broken,
        describe_unknown_fields,
        problem_rows,
        read_reviews,
    )

    reviews = read_reviews(store.snapshots())
    broken, unknown = describe_broken(reviews), describe_unknown_fields(reviews)
    for problem in broken:
        context.log.error(problem)
    kept = f"kept, unknown to this platform: {', '.join(unknown[:_UNKNOWN_SHOWN])}"
    return check_result(
        broken,
        {"problems": problem_rows(reviews), "unknown_fields": len(unknown)},
        all_well=kept if unknown else f"{len(reviews)} profiles, nothing unknown in them",
    )
