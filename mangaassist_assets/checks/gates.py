"""The gates: a challenger goes on only with proof, a dataset only without leaks, an index only when verified."""

import warnings

import dagster as dg

from mangaassist_assets.assets.lanes import INTENT, RERANKER, Lane
from mangaassist_assets.checks.coverage import build_coverage_check
from mangaassist_assets.partitions import release_bundles
from resources.search import SearchResource
from resources.store import StoreResource


def build_gate(lane: Lane) -> dg.AssetChecksDefinition:
    """Return the blocking check that lets a lane's challenger through only with the verdict `pass`."""

    @dg.asset_check(
        asset=lane.evaluation_asset,
        name=lane.gate,
        blocking=True,
        partitions_def=release_bundles,
        description=f"The {lane.title}'s challenger is better than the champion, with proof, and worse on no intent.",
    )
    def gate(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
        from mangaassist_assets.assets.reading import EVALUATION_FILE, read_json

        snapshots = store.snapshots()
        snapshot = snapshots.latest(lane.evaluation_asset, partition=context.partition_key)
        evaluation = read_json(snapshots, snapshot, EVALUATION_FILE)
        return dg.AssetCheckResult(
            passed=evaluation["verdict"] == "pass",
            severity=dg.AssetCheckSeverity.ERROR,
            description=f"{evaluation['verdict']}: {'; '.join(evaluation['reasons'])}",
            metadata={
                "verdict": dg.MetadataValue.text(evaluation["verdict"]),
                "metric": dg.MetadataValue.text(evaluation["metric"]),
                "champion": dg.MetadataValue.float(evaluation["champion_score"]),
                "challenger": dg.MetadataValue.float(evaluation["challenger_score"]),
                "test_examples": dg.MetadataValue.int(evaluation["test_examples"]),
                "decision": dg.MetadataValue.md(evaluation["table"]),
            },
        )

    return gate


def build_leakage_check(lane: Lane, *, text_column: str) -> dg.AssetChecksDefinition:
    """Return the blocking check that refuses a dataset in which anything is on two sides."""

    @dg.asset_check(
        asset=lane.dataset_asset,
        name="no_leakage",
        blocking=True,
        partitions_def=release_bundles,
        description="No message, session or shopper is on two sides; no example changed sides since the last bundle.",
    )
    def no_leakage(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
        from mangaassist_assets.assets.reading import previous_bundle, read_dataset
        from mangaassist_assets.datasets.leakage import LeakageError, find_leaks, refuse_crossings

        snapshots = store.snapshots()
        frame, _ = read_dataset(snapshots, lane.dataset_asset, context.partition_key)
        leaks = find_leaks(frame, text_column=text_column)
        before = previous_bundle(snapshots, context.partition_key, having=lane.dataset_asset)
        crossing = None
        if before is not None:
            try:
                refuse_crossings(read_dataset(snapshots, lane.dataset_asset, before)[0], frame)
            except LeakageError as error:
                crossing = str(error)
        return dg.AssetCheckResult(
            passed=not leaks and crossing is None,
            severity=dg.AssetCheckSeverity.ERROR,
            description=crossing or f"{len(leaks)} leaks; compared with {before or 'no earlier bundle'}",
            metadata={
                "leaks": dg.MetadataValue.json(
                    [{"kind": one.kind, "sides": one.sides, "examples": one.example_ids[:5]} for one in leaks[:20]]
                )
            },
        )

    return no_leakage


def build_redaction_check(lane: Lane, *, text_columns: tuple[str, ...]) -> dg.AssetChecksDefinition:
    """Return the blocking check that refuses a dataset in which personal data is left."""

    @dg.asset_check(
        asset=lane.dataset_asset,
        name="no_personal_data",
        blocking=True,
        partitions_def=release_bundles,
        description="A second pass of redaction finds nothing in any text of the dataset.",
    )
    def no_personal_data(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
        from collections import Counter

        from mangaassist_assets.assets.reading import read_dataset, read_vocabulary
        from mangaassist_assets.tracing.redaction import residual

        snapshots = store.snapshots()
        frame, _ = read_dataset(snapshots, lane.dataset_asset, context.partition_key)
        words = read_vocabulary(snapshots)
        left: Counter[str] = Counter()
        examples: set[str] = set()
        for column in text_columns:
            # A passage stands beside many queries: each text is looked at once.
            for text, example_id in frame.unique(column).select(column, "example_id").iter_rows():
                found = residual(text, vocabulary=words)
                left.update(found)
                if found:
                    examples.add(example_id)
        return dg.AssetCheckResult(
            passed=not left,
            severity=dg.AssetCheckSeverity.ERROR,
            description=(
                f"{len(examples)} texts still hold personal data: materialize {lane.dataset_asset} again; if that does "
                "not help, report the example ids"
                if left
                else "a second pass finds nothing"
            ),
            metadata={
                "found": dg.MetadataValue.json(dict(left)),
                "examples": dg.MetadataValue.json(sorted(examples)[:20]),
            },
        )

    return no_personal_data


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
    from mangaassist_assets.assets.reading import GENERATION_FILE, read_chunks, read_embeddings, read_json
    from mangaassist_assets.knowledge.generations import verify_generation

    snapshots = store.snapshots()
    vectors, _ = read_embeddings(snapshots)
    generation = read_json(snapshots, snapshots.latest("search_index"), GENERATION_FILE)["generation"]
    report = verify_generation(generation, read_chunks(snapshots), vectors, index=search.index())
    context.log.info(f"{generation}: {'verified' if report.passed else 'refused'}")
    return dg.AssetCheckResult(
        passed=report.passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(report.problems) or "count, vectors and keywords agree",
        metadata={"generation": dg.MetadataValue.text(generation)},
    )


@dg.asset_check(
    asset="retrieval_evaluation",
    name="retrieval_not_worse",
    blocking=True,
    description="On the same labelled queries the candidate generation is not clearly worse than the live one.",
)
def retrieval_not_worse(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
    """Compare the fused recall of candidate and live generation."""
    from mangaassist_assets.assets.reading import EVALUATION_FILE, read_json

    snapshots = store.snapshots()
    evaluation = read_json(snapshots, snapshots.latest("retrieval_evaluation"), EVALUATION_FILE)
    candidate, live = evaluation["candidate"], evaluation["live"]
    if live is None or not evaluation["queries"]:
        why = "no generation is live yet" if live is None else "no query has known relevant documents"
        return dg.AssetCheckResult(passed=True, description=f"{why}: nothing to compare with")
    metric = "recall@10"
    ours = evaluation["figures"][candidate]["fused"][metric]
    theirs = evaluation["figures"][live]["fused"][metric]
    context.log.info(f"{metric}: candidate {ours:.3f}, live {theirs:.3f}")
    return dg.AssetCheckResult(
        passed=ours >= theirs - RECALL_TOLERANCE,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{metric}: {candidate} {ours:.3f}, live {live} {theirs:.3f}; {RECALL_TOLERANCE} less is allowed",
        metadata={"candidate": dg.MetadataValue.float(ours), "live": dg.MetadataValue.float(theirs)},
    )


RECALL_TOLERANCE = 0.02


def _partitioned_checks() -> tuple[dg.AssetChecksDefinition, ...]:
    """Build the checks of bundles.

    Dagster calls partitions of checks a preview, at every start of every process. A gate without them would judge the
    newest bundle only, so the preview is accepted here, for these definitions and no other.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Specifying a partitions_def on an AssetCheckSpec", category=dg.PreviewWarning
        )
        return (
            build_leakage_check(INTENT, text_column="text"),
            build_leakage_check(RERANKER, text_column="query"),
            build_redaction_check(INTENT, text_columns=("text",)),
            build_redaction_check(RERANKER, text_columns=("query", "passage")),
            build_gate(INTENT),
            build_gate(RERANKER),
            build_coverage_check(),
        )


ALL_CHECKS = (*_partitioned_checks(), generation_verified, retrieval_not_worse)
