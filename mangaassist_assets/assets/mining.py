"""Mining: which turns failed and which stage each is blamed on, and which failures are the same failure."""

import dagster as dg

from mangaassist_assets.assets.common import ML_ENGINEERING, image, materialized
from mangaassist_assets.assets.declaring import declared_asset
from mangaassist_assets.assets.inputs import CLUSTER_HISTORY, FAILURES, SCORED_TURNS, TURN_COUNT, VOCABULARY
from mangaassist_assets.partitions import release_bundles
from resources.aws.judge import JudgeResource
from resources.search.embeddings import EmbeddingsResource
from resources.settings.mining import MiningResource
from resources.store import StoreResource


@declared_asset(
    reads=(SCORED_TURNS,),
    partitions_def=release_bundles,
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
    from mangaassist_assets.mining.blame.explanations import failure_figures, judging_gaps, unknown_failures
    from mangaassist_assets.mining.blame.stored_failures import failure_files, find_stored_failures
    from mangaassist_assets.reporting.experiments import arm_rows, shadow_rows

    step, rules = store.step(context), mining.rules()
    turns = step.load(SCORED_TURNS)
    failures = find_stored_failures(step, context.partition_key, rules)
    snapshot = step.keep(failure_files(failures, rules))
    context.log.info(
        f"{len(failures)} of {turns.height} turns failed, {unknown_failures(failures)} without evidence against a "
        f"stage; rules {rules.file} {rules.digest[:12]}"
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


@declared_asset(
    reads=(
        FAILURES,
        TURN_COUNT,
        VOCABULARY,
        *CLUSTER_HISTORY,
    ),
    partitions_def=release_bundles,
    group_name="mining",
    owners=[ML_ENGINEERING],
    kinds={"json", "parquet", "scikitlearn"},
    code_version="2",
)
def failure_clusters(
    context: dg.AssetExecutionContext, embeddings: EmbeddingsResource, judge: JudgeResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """Groups of failed turns that mean alike and are blamed on the same stage, with an identity that lives on.

    One row is one cluster: id, name, size, stage, what became of it since the bundle before (birth, continuation,
    merge, split, return), whether it grows by more than chance, how stable it is, whether it is noise, and redacted
    examples. Mining a bundle again, or an older one late, renames nothing.
    """
    from mangaassist_assets.mining.cluster_building import ClustersConfig, mine_clusters
    from mangaassist_assets.mining.cluster_report import ClusterReport
    from mangaassist_assets.mining.clustering.message_vectors import embed_messages
    from mangaassist_assets.mining.tracking.cluster_files import bundle_to_files, read_history

    bundle, step = context.partition_key, store.step(context)
    failures, words = step.load(FAILURES), step.load(VOCABULARY)
    vectors, embedding = embed_messages(
        [failure.turn.learnable_text for failure in failures],
        embedder=embeddings.embedder(),
        cache=store.embedding_cache(),
        progress=lambda done, of: context.log.info(f"{done} of {of} messages embedded"),
    )
    history, left_out = read_history(step, bundle, embedding_model_id=embedding.model_id)
    mining = mine_clusters(
        failures,
        vectors,
        release_bundle=bundle,
        turns=step.load(TURN_COUNT),
        embedding_model_id=embedding.model_id,
        history=history,
        namer=judge.cluster_namer(vocabulary=words),
        config=ClustersConfig(vocabulary=words),
    )
    report = ClusterReport(mining, history)
    # Pictures and history are no part of the snapshot: they depend on fonts and other bundles, its digest must not.
    snapshot = step.keep(bundle_to_files(mining.bundle))
    context.log.info(f"{report}; {embedding.embedded} messages embedded, {embedding.reused} known")
    return materialized(
        snapshot,
        {
            **report.figures(),
            "not_compared": [{"bundle": one, "why": why} for one, why in left_out.items()],
            "map": image("Failed messages by meaning", report.map(vectors)),
            "timeline": image("Clusters from bundle to bundle", report.timeline()),
        },
    )
