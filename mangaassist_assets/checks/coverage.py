"""How completely a bundle's traces hold what the contract asks for. It warns and fails, and stops nothing."""

import dagster as dg

from mangaassist_assets.assets.common import check_result
from mangaassist_assets.assets.declaring import declared_check
from mangaassist_assets.assets.inputs import PRESENCE
from mangaassist_assets.partitions import release_bundles
from resources.store import StoreResource

_SHORTFALLS_SHOWN = 5


def build_coverage_check() -> dg.AssetChecksDefinition:
    """Return the check of the traces' coverage."""

    @declared_check(
        asset="tagged_traces",
        reads=[PRESENCE],
        name="contract_coverage",
        partitions_def=release_bundles,
        description="Each tag and span of the trace contract is there in the share of traces that one can expect.",
    )
    def contract_coverage(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
        from mangaassist_assets.tracing.ingestion.coverage import coverage, judge

        found = coverage(store.step(context).load(PRESENCE))
        judgement = judge(found)
        shortfalls = [one.describe() for one in judgement.shortfalls]
        all_well = "every share is as expected" if judgement.enough else f"{found.traces} traces are too few to judge"
        if found.problems:
            all_well += f"; in {found.problems[0].traces} traces {found.problems[0].what}"
        return check_result(
            shortfalls[:_SHORTFALLS_SHOWN],
            {**found.figures(), "shortfalls": dg.MetadataValue.json(shortfalls)},
            all_well=all_well,
            severity=dg.AssetCheckSeverity.ERROR if judgement.severity == "error" else dg.AssetCheckSeverity.WARN,
        )

    return contract_coverage
