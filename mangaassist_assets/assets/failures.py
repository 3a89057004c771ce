"""Failed traces: which turns failed, and which stage each is blamed on."""

import dagster as dg

from mangaassist_assets.assets.common import ML_ENGINEERING, materialized, table
from mangaassist_assets.assets.traces import tagged_traces
from mangaassist_assets.partitions import release_bundles
from resources.settings.mining import MiningResource
from resources.store import StoreResource

EXPLAINED_FAILURES = 20


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
    or against every other stage, or that its trace tells nothing to judge a stage by. The blame decides which loop the
    failure feeds: retrain, reindex, or a configuration change. The rules it was made under lie beside it. `experiments`
    compares the arms of the bundle's experiments, `shadow` the champion with the challenger that answered beside it.
    """
    from mangaassist_assets.core.snapshots import canonical_json
    from mangaassist_assets.mining.blame.blame import find_failures
    from mangaassist_assets.mining.blame.explanations import (
        blame_rows,
        not_judged_rows,
        off_scale_rows,
        rule_rows,
        signal_rows,
        verdict_rows,
        why_rows,
        worst,
    )
    from mangaassist_assets.mining.blame.stored_failures import FAILURES_FILE, RULES_FILE, failures_to_json
    from mangaassist_assets.reporting.experiments import arm_rows, shadow_rows
    from mangaassist_assets.tracing.ingestion.stored_turns import read_turns

    bundle = context.partition_key
    snapshots = store.snapshots()
    rules = mining.rules()
    turns = read_turns(snapshots, bundle)
    failures = find_failures(turns, config=rules)
    snapshot = snapshots.write(
        "failed_traces",
        {
            FAILURES_FILE: failures_to_json(failures),
            RULES_FILE: canonical_json({"digest": rules.digest, "rules": rules.content}),
        },
        partition=bundle,
    )
    unknown = sum(failure.blame.stage == "unknown" for failure in failures)
    context.log.info(
        f"{len(failures)} of {len(turns)} turns failed, {unknown} without evidence against a stage; rules {rules.file} "
        f"{rules.digest[:12]}"
    )
    not_judged, off_scale = not_judged_rows(failures), off_scale_rows(turns, rules)
    for row in (*not_judged, *off_scale):
        context.log.warning(str(row["said"]))
    return materialized(
        snapshot,
        {
            "dagster/row_count": dg.MetadataValue.int(len(failures)),
            "turns": dg.MetadataValue.int(len(turns)),
            "failure_rate": dg.MetadataValue.float(len(failures) / len(turns) if turns else 0.0),
            "unknown_share": dg.MetadataValue.float(unknown / len(failures) if failures else 0.0),
            "blame": table(blame_rows(failures, rules)),
            "not_judged": table(not_judged),
            "signals": table(signal_rows(failures)),
            "experiments": table(arm_rows(turns, {failure.turn.trace_id for failure in failures})),
            "shadow": table(shadow_rows(turns)),
            "scores_off_scale": table(off_scale),
            "why": table(why_rows(worst(failures, EXPLAINED_FAILURES))),
            "rules_file": dg.MetadataValue.text(rules.file),
            "rules_digest": dg.MetadataValue.text(rules.digest),
            "rules": table(rule_rows(rules)),
            "verdict_rules": table(verdict_rows(rules)),
        },
    )
