"""The blocking checks of datasets: nothing is trained on one that is too small, lopsided, repetitive, leaky or noisy.

Each check reads the stored version of its bundle. What is allowed is `datasets.dataset_limits`.
"""

from typing import TYPE_CHECKING

import dagster as dg

from mangaassist_assets.assets.common import table
from mangaassist_assets.datasets.guards.limits import INTENT_LIMITS, RANKING_LIMITS, DatasetLimits
from mangaassist_assets.models.pipelines import INTENT, RERANKER, ModelPipeline
from mangaassist_assets.partitions import release_bundles
from resources.search.embeddings import EmbeddingsResource
from resources.store import StoreResource

if TYPE_CHECKING:
    from mangaassist_assets.datasets.guards.health import HealthResult


def build_dataset_checks() -> tuple[dg.AssetChecksDefinition, ...]:
    """Return the checks of both datasets."""
    return (
        build_size_check(INTENT, limits=INTENT_LIMITS),
        build_size_check(RERANKER, limits=RANKING_LIMITS),
        build_balance_check(INTENT, limits=INTENT_LIMITS),
        build_repetition_check(INTENT, limits=INTENT_LIMITS, text_column="text"),
        build_repetition_check(RERANKER, limits=RANKING_LIMITS, text_column="query"),
        build_leakage_check(INTENT, text_column="text"),
        build_leakage_check(RERANKER, text_column="query"),
        build_noise_check(INTENT, limits=INTENT_LIMITS),
        build_redaction_check(INTENT, text_columns=("text",)),
        build_redaction_check(RERANKER, text_columns=("query", "passage")),
    )


def build_size_check(pipeline: ModelPipeline, *, limits: DatasetLimits) -> dg.AssetChecksDefinition:
    """Return the blocking check that refuses a dataset with too few examples on a side."""

    @dg.asset_check(
        asset=pipeline.dataset_asset,
        name="enough_examples",
        blocking=True,
        partitions_def=release_bundles,
        description=(
            f"At least {limits.train} examples to learn from, {limits.validation} to choose by, {limits.test} to judge "
            "with."
        ),
    )
    def enough_examples(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
        from mangaassist_assets.datasets.guards.health import judge_size
        from mangaassist_assets.datasets.versions.stored_versions import read_dataset

        frame, _ = read_dataset(store.snapshots(), pipeline.dataset_asset, context.partition_key)
        return _result(judge_size(frame, limits), "sides")

    return enough_examples


def build_balance_check(pipeline: ModelPipeline, *, limits: DatasetLimits) -> dg.AssetChecksDefinition:
    """Return the blocking check that refuses a dataset about one intent, or with too many that cannot be learned."""

    @dg.asset_check(
        asset=pipeline.dataset_asset,
        name="balanced_intents",
        blocking=True,
        partitions_def=release_bundles,
        description="No intent has most of train, and most intents have enough examples to be learned.",
    )
    def balanced_intents(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
        from mangaassist_assets.datasets.guards.health import judge_balance
        from mangaassist_assets.datasets.versions.stored_versions import read_dataset

        frame, _ = read_dataset(store.snapshots(), pipeline.dataset_asset, context.partition_key)
        return _result(judge_balance(frame, limits), "intents, the smallest first")

    return balanced_intents


def build_repetition_check(
    pipeline: ModelPipeline, *, limits: DatasetLimits, text_column: str
) -> dg.AssetChecksDefinition:
    """Return the blocking check that refuses a dataset which says the same again and again."""

    @dg.asset_check(
        asset=pipeline.dataset_asset,
        name="few_duplicates",
        blocking=True,
        partitions_def=release_bundles,
        description=(
            f"No copies on a side, and at most {limits.repeated_share:.0%} of it nearly repeats another message."
        ),
    )
    def few_duplicates(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
        from mangaassist_assets.datasets.guards.health import judge_repetition
        from mangaassist_assets.datasets.versions.stored_versions import read_dataset

        frame, _ = read_dataset(store.snapshots(), pipeline.dataset_asset, context.partition_key)
        return _result(judge_repetition(frame, limits, text_column=text_column), "sides")

    return few_duplicates


def build_leakage_check(pipeline: ModelPipeline, *, text_column: str) -> dg.AssetChecksDefinition:
    """Return the blocking check that refuses a dataset which leaks, between its sides or from what judges models."""

    @dg.asset_check(
        asset=pipeline.dataset_asset,
        name="no_leakage",
        blocking=True,
        partitions_def=release_bundles,
        description=(
            "No message, near-duplicate, session, shopper or conversation is on two sides, in the golden set, or in "
            "train after an earlier version was tested on it; nothing is later than the as-of time; no example changed "
            "sides."
        ),
    )
    def no_leakage(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
        from mangaassist_assets.datasets.guards.leakage import LeakageError, find_leaks, leak_counts, refuse_crossings
        from mangaassist_assets.datasets.sources.golden_set import read_golden
        from mangaassist_assets.datasets.versions.earlier_versions import earlier_versions
        from mangaassist_assets.datasets.versions.stored_versions import read_dataset

        snapshots = store.snapshots()
        frame, card = read_dataset(snapshots, pipeline.dataset_asset, context.partition_key)
        as_of_ms = card.get("as_of_ms")
        earlier = earlier_versions(snapshots, pipeline.dataset_asset, context.partition_key, as_of_ms=as_of_ms)
        leaks = find_leaks(
            frame, text_column=text_column, golden=read_golden(snapshots), earlier=earlier, as_of_ms=as_of_ms
        )
        crossings: list[str] = []
        for version in earlier:
            try:
                refuse_crossings(version.frame, frame)
            except LeakageError as error:
                crossings.append(f"{version.name}: {error}")
        if leaks or crossings:
            found = [*crossings[:3], *(leak.describe() for leak in leaks[:5])]
            description = (
                f"{len(leaks)} leaks and {len(crossings)} versions with other sides: {'; '.join(found)}. Materialize "
                f"{pipeline.dataset_asset} again; if that does not help, report the example ids"
            )
        else:
            description = f"no leak; compared with the golden set and {len(earlier)} earlier versions"
        return dg.AssetCheckResult(
            passed=not leaks and not crossings,
            severity=dg.AssetCheckSeverity.ERROR,
            description=description,
            metadata={
                "compared_with": dg.MetadataValue.json([version.name for version in earlier]),
                "counts": dg.MetadataValue.json(leak_counts(leaks)),
                "leaks": table(
                    [
                        {
                            "kind": one.kind,
                            "sides": ", ".join(one.sides),
                            "beside": one.beside or "",
                            "examples": ", ".join(one.example_ids[:5]),
                        }
                        for one in leaks[:50]
                    ]
                ),
            },
        )

    return no_leakage


def build_noise_check(pipeline: ModelPipeline, *, limits: DatasetLimits) -> dg.AssetChecksDefinition:
    """Return the blocking check that refuses a dataset of which too many labels are probably wrong."""

    @dg.asset_check(
        asset=pipeline.dataset_asset,
        name="little_label_noise",
        blocking=True,
        partitions_def=release_bundles,
        description=f"Not clearly more than {limits.noise:.0%} of the labels are wrong, by confident learning.",
    )
    def little_label_noise(
        context: dg.AssetCheckExecutionContext, embeddings: EmbeddingsResource, store: StoreResource
    ) -> dg.AssetCheckResult:
        from mangaassist_assets.datasets.guards.health import judge_noise
        from mangaassist_assets.datasets.guards.label_noise import find_label_noise
        from mangaassist_assets.datasets.versions.stored_versions import read_dataset
        from mangaassist_assets.mining.clustering.message_vectors import embed_messages

        frame, _ = read_dataset(store.snapshots(), pipeline.dataset_asset, context.partition_key)
        vectors, _ = embed_messages(
            frame["text"].to_list(), embedder=embeddings.embedder(), cache=store.embedding_cache()
        )
        report = find_label_noise(frame["example_id"].to_list(), frame["intent"].to_list(), vectors)
        context.log.info(f"{report.examples} labels judged, {len(report.suspects)} suspects")
        return _result(judge_noise(report, limits), "suspects")

    return little_label_noise


def build_redaction_check(pipeline: ModelPipeline, *, text_columns: tuple[str, ...]) -> dg.AssetChecksDefinition:
    """Return the blocking check that refuses a dataset in which personal data is left."""

    @dg.asset_check(
        asset=pipeline.dataset_asset,
        name="no_personal_data",
        blocking=True,
        partitions_def=release_bundles,
        description="A second pass of redaction finds nothing in any text of the dataset.",
    )
    def no_personal_data(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
        from collections import Counter

        from mangaassist_assets.datasets.versions.stored_versions import read_dataset
        from mangaassist_assets.privacy import residual
        from mangaassist_assets.retrieval.stored_knowledge import read_vocabulary

        snapshots = store.snapshots()
        frame, _ = read_dataset(snapshots, pipeline.dataset_asset, context.partition_key)
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
                f"{len(examples)} texts still hold personal data: materialize {pipeline.dataset_asset} again; if that "
                "does not help, report the example ids"
                if left
                else "a second pass finds nothing"
            ),
            metadata={
                "found": dg.MetadataValue.json(dict(left)),
                "examples": dg.MetadataValue.json(sorted(examples)[:20]),
            },
        )

    return no_personal_data


def _result(finding: "HealthResult", rows: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=finding.passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=finding.description,
        metadata={rows: table(list(finding.rows))},
    )
