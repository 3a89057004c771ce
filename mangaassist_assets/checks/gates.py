"""The gates: a challenger goes on only with proof, an index only when verified; `datasets` has those of data."""

import warnings
from collections.abc import Callable, Sequence

import dagster as dg

from mangaassist_assets.assets.common import check_result
from mangaassist_assets.checks.coverage import build_coverage_check
from mangaassist_assets.checks.datasets import build_dataset_checks
from mangaassist_assets.checks.production import build_champion_check, build_endpoint_check, configuration_is_valid
from mangaassist_assets.models.pipelines import ModelPipeline
from mangaassist_assets.partitions import release_bundles
from resources.search.indexes import SearchResource
from resources.store import StoreResource


def build_gate(pipeline: ModelPipeline) -> dg.AssetChecksDefinition:
    """Return the blocking check that lets a model pipeline's challenger through only with the verdict `pass`."""

    @dg.asset_check(
        asset=pipeline.evaluation_asset,
        name=pipeline.gate,
        blocking=True,
        partitions_def=release_bundles,
        description=f"The challenger {pipeline.title} is better than the champion, with proof, and worse on no slice.",
    )
    def gate(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
        from mangaassist_assets.models.registration.registry import EVALUATION_FILE

        snapshots = store.snapshots()
        snapshot = snapshots.latest(pipeline.evaluation_asset, partition=context.partition_key)
        evaluation = snapshots.read_json(snapshot, EVALUATION_FILE)
        decision = f"{evaluation['verdict']}: {'; '.join(evaluation['reasons'])}"
        return check_result(
            [] if evaluation["verdict"] == "pass" else [decision],
            {
                "verdict": evaluation["verdict"],
                "metric": evaluation["metric"],
                "champion": evaluation["champion_score"],
                "challenger": evaluation["challenger_score"],
                "test_examples": evaluation["test_examples"],
                "decision": dg.MetadataValue.md(evaluation["table"]),
            },
            all_well=decision,
        )

    return gate


@dg.asset_check(
    asset="search_index",
    name="generation_verified",
    blocking=True,
    description="The candidate generation holds every chunk, finds chunks by their own vectors, and answers keywords.",
)
def generation_verified(
    context: dg.AssetCheckExecutionContext, search: SearchResource, store: StoreResource
) -> dg.AssetCheckResult:
    """Verify the candidate before anything may point at it."""
    from mangaassist_assets.retrieval.generations import verify_generation
    from mangaassist_assets.retrieval.stored_knowledge import read_candidate, read_chunks, read_embeddings

    snapshots = store.snapshots()
    vectors, _ = read_embeddings(snapshots)
    generation = read_candidate(snapshots)
    report = verify_generation(generation, read_chunks(snapshots), vectors, index=search.index())
    context.log.info(f"{generation}: {'verified' if report.passed else 'refused'}")
    return check_result(report.problems, {"generation": generation}, all_well="count, vectors and keywords agree")


@dg.asset_check(
    asset="retrieval_evaluation",
    name="retrieval_not_worse",
    blocking=True,
    description="On the same labelled queries the candidate generation is not clearly worse than the live one.",
)
def retrieval_not_worse(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
    """Compare the fused recall of candidate and live generation."""
    from mangaassist_assets.retrieval.evaluation import EVALUATION_FILE

    snapshots = store.snapshots()
    evaluation = snapshots.read_json(snapshots.latest("retrieval_evaluation"), EVALUATION_FILE)
    candidate, live = evaluation["candidate"], evaluation["live"]
    if live is None or not evaluation["queries"]:
        why = "no generation is live yet" if live is None else "no query has known relevant documents"
        return dg.AssetCheckResult(passed=True, description=f"{why}: nothing to compare with")
    if live not in evaluation["means"]:
        return dg.AssetCheckResult(
            passed=True, description=f"the live generation {live} is gone: nothing to compare with"
        )
    metric = "recall@10"
    ours = evaluation["means"][candidate]["fused"][metric]
    theirs = evaluation["means"][live]["fused"][metric]
    context.log.info(f"{metric}: candidate {ours:.3f}, live {theirs:.3f}")
    compared = f"{metric}: {candidate} {ours:.3f}, live {live} {theirs:.3f}; {RECALL_TOLERANCE} less is allowed"
    worse = ours < theirs - RECALL_TOLERANCE
    return check_result([compared] if worse else [], {"candidate": ours, "live": theirs}, all_well=compared)


RECALL_TOLERANCE = 0.02


def build_checks(pipelines: Sequence[ModelPipeline]) -> tuple[dg.AssetChecksDefinition, ...]:
    """Return all checks of a platform with these model pipelines."""
    return (
        *_partitioned(
            lambda: (
                *(check for pipeline in pipelines for check in build_dataset_checks(pipeline)),
                *(build_gate(pipeline) for pipeline in pipelines),
                build_coverage_check(),
            )
        ),
        *map(build_champion_check, pipelines),
        *map(build_endpoint_check, pipelines),
        configuration_is_valid,
        generation_verified,
        retrieval_not_worse,
    )


def _partitioned(build: Callable[[], tuple[dg.AssetChecksDefinition, ...]]) -> tuple[dg.AssetChecksDefinition, ...]:
    """Build checks of bundles.

    Dagster calls partitions of checks a preview, at every start of every process. A gate without them would judge the
    newest bundle only, so the preview is accepted here, for these definitions and no other.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Specifying a partitions_def on an AssetCheckSpec", category=dg.PreviewWarning
        )
        return build()
