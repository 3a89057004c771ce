"""The blocking checks of datasets: nothing is trained on one that is too small, lopsided, repetitive, leaky or noisy.

Each check reads the stored version of its bundle. What is allowed is `datasets.dataset_limits`.
"""

from typing import TYPE_CHECKING

import dagster as dg

from mangaassist_assets.assets.common import table
from mangaassist_assets.models.pipelines import ModelPipeline, PipelineDataset
from mangaassist_assets.partitions import release_bundles
from resources.search.embeddings import EmbeddingsResource
from resources.store import StoreResource

if TYPE_CHECKING:
    from mangaassist_assets.datasets.guards.health import HealthResult


def build_dataset_checks(pipeline: ModelPipeline) -> tuple[dg.AssetChecksDefinition, ...]:
    """Return the checks of a model pipeline's dataset; those of labels only where it has classes."""
    dataset = pipeline.dataset
    checks = (
        build_size_check(dataset),
        build_repetition_check(dataset),
        build_leakage_check(dataset),
        build_redaction_check(dataset),
    )
    if dataset.label_column is None:
        return checks
    return (
        *checks,
        build_balance_check(dataset, dataset.label_column),
        build_noise_check(dataset, dataset.label_column),
    )


def build_size_check(dataset: PipelineDataset) -> dg.AssetChecksDefinition:
    """Return the blocking check that refuses a dataset with too few examples on a side."""
    limits = dataset.limits

    @dg.asset_check(
        asset=dataset.asset,
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

        frame = read_dataset(store.snapshots(), dataset.asset, context.partition_key).frame
        return _result(judge_size(frame, limits), "sides")

    return enough_examples


def build_balance_check(dataset: PipelineDataset, label_column: str) -> dg.AssetChecksDefinition:
    """Return the blocking check that refuses a dataset about one label, or with too many that cannot be learned."""

    @dg.asset_check(
        asset=dataset.asset,
        name="balanced_labels",
        blocking=True,
        partitions_def=release_bundles,
        description=f"No {label_column} has most of train, and most of them have enough examples to be learned.",
    )
    def balanced_labels(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
        from mangaassist_assets.datasets.guards.health import judge_balance
        from mangaassist_assets.datasets.versions.stored_versions import read_dataset

        frame = read_dataset(store.snapshots(), dataset.asset, context.partition_key).frame
        return _result(
            judge_balance(frame, dataset.limits, label_column=label_column), f"{label_column}s, the smallest first"
        )

    return balanced_labels


def build_repetition_check(dataset: PipelineDataset) -> dg.AssetChecksDefinition:
    """Return the blocking check that refuses a dataset which says the same again and again."""

    @dg.asset_check(
        asset=dataset.asset,
        name="few_duplicates",
        blocking=True,
        partitions_def=release_bundles,
        description=(
            f"No copies on a side, and at most {dataset.limits.repeated_share:.0%} of it nearly repeats another "
            "message."
        ),
    )
    def few_duplicates(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
        from mangaassist_assets.datasets.guards.health import judge_repetition
        from mangaassist_assets.datasets.versions.stored_versions import read_dataset

        frame = read_dataset(store.snapshots(), dataset.asset, context.partition_key).frame
        return _result(judge_repetition(frame, dataset.limits, text_column=dataset.text_columns[0]), "sides")

    return few_duplicates


def build_leakage_check(dataset: PipelineDataset) -> dg.AssetChecksDefinition:
    """Return the blocking check that refuses a dataset which leaks, between its sides or from what judges models."""

    @dg.asset_check(
        asset=dataset.asset,
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
        from mangaassist_assets.datasets.versions.stored_versions import earlier_versions, read_dataset

        snapshots = store.snapshots()
        version = read_dataset(snapshots, dataset.asset, context.partition_key)
        frame, as_of_ms = version.frame, version.card.as_of_ms
        earlier = earlier_versions(snapshots, dataset.asset, context.partition_key, as_of_ms=as_of_ms)
        leaks = find_leaks(
            frame,
            text_column=dataset.text_columns[0],
            golden=read_golden(snapshots),
            earlier=earlier,
            as_of_ms=as_of_ms,
        )
        crossings: list[str] = []
        for before in earlier:
            try:
                refuse_crossings(before.frame, frame)
            except LeakageError as error:
                crossings.append(f"{before.name}: {error}")
        if leaks or crossings:
            found = [*crossings[:3], *(leak.describe() for leak in leaks[:5])]
            description = (
                f"{len(leaks)} leaks and {len(crossings)} versions with other sides: {'; '.join(found)}. Materialize "
                f"{dataset.asset} again; if that does not help, report the example ids"
            )
        else:
            description = f"no leak; compared with the golden set and {len(earlier)} earlier versions"
        return dg.AssetCheckResult(
            passed=not leaks and not crossings,
            severity=dg.AssetCheckSeverity.ERROR,
            description=description,
            metadata={
                "compared_with": dg.MetadataValue.json([before.name for before in earlier]),
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


def build_noise_check(dataset: PipelineDataset, label_column: str) -> dg.AssetChecksDefinition:
    """Return the blocking check that refuses a dataset of which too many labels are probably wrong."""

    @dg.asset_check(
        asset=dataset.asset,
        name="little_label_noise",
        blocking=True,
        partitions_def=release_bundles,
        description=f"Not clearly more than {dataset.limits.noise:.0%} of the labels are wrong, by confident learning.",
    )
    def little_label_noise(
        context: dg.AssetCheckExecutionContext, embeddings: EmbeddingsResource, store: StoreResource
    ) -> dg.AssetCheckResult:
        from mangaassist_assets.datasets.guards.health import judge_noise
        from mangaassist_assets.datasets.guards.label_noise import find_label_noise
        from mangaassist_assets.datasets.versions.stored_versions import read_dataset
        from mangaassist_assets.mining.clustering.message_vectors import embed_messages

        frame = read_dataset(store.snapshots(), dataset.asset, context.partition_key).frame
        texts = frame[dataset.text_columns[0]].to_list()
        vectors, _ = embed_messages(texts, embedder=embeddings.embedder(), cache=store.embedding_cache())
        report = find_label_noise(frame["example_id"].to_list(), frame[label_column].to_list(), vectors)
        context.log.info(f"{report.examples} labels judged, {len(report.suspects)} suspects")
        return _result(judge_noise(report, dataset.limits), "suspects")

    return little_label_noise


def build_redaction_check(dataset: PipelineDataset) -> dg.AssetChecksDefinition:
    """Return the blocking check that refuses a dataset in which personal data is left."""

    @dg.asset_check(
        asset=dataset.asset,
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
        frame = read_dataset(snapshots, dataset.asset, context.partition_key).frame
        words = read_vocabulary(snapshots)
        left: Counter[str] = Counter()
        examples: set[str] = set()
        for column in dataset.text_columns:
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
                f"{len(examples)} texts still hold personal data: materialize {dataset.asset} again; if that "
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
