"""Failed traces: which turns failed, and which stage each is blamed on."""

import dagster as dg

from mangaassist_assets.assets.common import ML_ENGINEERING, materialized
from mangaassist_assets.assets.traces import tagged_traces
from mangaassist_assets.partitions import release_bundles
from resources.settings.mining import MiningResource
from resources.store import StoreResource


@dg.asset(
    partitions_def=release_bundles,
    deps=[tagged_traces],
    group_name="mining",
    owners=[ML_ENGINEERING],
    kinds={"json"},
    code_version="3",
)
def failed_traces(
    context: dg.AssetExecutionContext, mining: MiningResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """Failed turns of one release bundle, each blamed on a stage, with the whole explanation.

    One row is one turn with at least one explicit failure signal (thumbs-down, failed review or verdict, guardrail
    block, error, empty retrieval): its signals, the blamed stage with evidence and confidence, and what was found for
    or against every other stage, or that its trace holds nothing to judge a stage by. The blame decides which loop the
    failure feeds: retrain, reindex, or a configuration change. The rules it was made under lie beside it. `experiments`
    compares the arms of the bundle's experiments, `shadow` the champion with the challenger that answered beside it.
    """
    from mangaassist_assets.core.snapshots import canonical_json
    from mangaassist_assets.mining.blame.blame import find_failures
    from mangaassist_assets.mining.blame.explanations import failure_figures, judging_gaps, unknown_failures
    from mangaassist_assets.mining.blame.stored_failures import FAILURES_FILE, RULES_FILE, failures_to_json
    from mangaassist_assets.reporting.experiments import arm_rows, shadow_rows
    from mangaassist_assets.tracing.ingestion.stored_turns import read_turns

    bundle, snapshots, rules = context.partition_key, store.snapshots(), mining.rules()
    turns = read_turns(snapshots, bundle)
    failures = find_failures(turns, config=rules)
    files = {
        FAILURES_FILE: failures_to_json(failures),
        RULES_FILE: canonical_json({"digest": rules.digest, "rules": rules.content}),
    }
    snapshot = snapshots.write("failed_traces", files, partition=bundle)
    context.log.info(
        f"{len(failures)} of {len(turns)} turns failed, {unknown_failures(failures)} without evidence against a stage; "
        f"rules {rules.file} {rules.digest[:12]}"
    )
    for gap in judging_gaps(turns, failures, rules):
        context.log.warning(gap)
    return materialized(
        snapshot,
        {
            **failure_figures(turns, failures, rules),
            "experiments": arm_rows(turns, {failure.turn.trace_id for failure in failures}),
            "shadow": shadow_rows(turns),
        },
    )
