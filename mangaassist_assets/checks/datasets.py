"""The blocking checks of datasets: nothing is trained on one that is too small, lopsided, repetitive, leaky or noisy.

Each check reads the stored version of its bundle. What is allowed is `datasets.guards.limits`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from mangaassist_assets.assets.common import check_result, table
from mangaassist_assets.assets.declaring import declared_check
from mangaassist_assets.assets.inputs import GOLDEN, VOCABULARY, dataset_of, earlier_versions_of
from mangaassist_assets.core.markdown import plain
from mangaassist_assets.models.pipelines import ModelPipeline, PipelineDataset
from mangaassist_assets.partitions import release_bundles
from resources.search.embeddings import EmbeddingsResource
from resources.store import StoreResource

if TYPE_CHECKING:
    import polars as pl

    from mangaassist_assets.core.declared_inputs import Input, Read, StepStore
    from mangaassist_assets.datasets.guards.health import HealthResult
    from mangaassist_assets.datasets.versions.versions import DatasetVersion


def build_dataset_checks(pipeline: ModelPipeline) -> tuple[dg.AssetChecksDefinition, ...]:
    """Return the checks of a model pipeline's dataset; those of labels only where it has classes."""
    dataset, limits, label = pipeline.dataset, pipeline.dataset.limits, pipeline.dataset.label_column
    own = dataset_of(pipeline)
    checks = (
        _build_check(
            dataset,
            own,
            "enough_examples",
            f"At least {limits.train} examples to learn from, {limits.validation} to choose by, {limits.test} to judge "
            "with.",
            lambda version, *_: _size(version.frame, pipeline),
        ),
        _build_check(
            dataset,
            own,
            "few_duplicates",
            f"No copies on a side, and at most {limits.repeated_share:.0%} of it nearly repeats another message.",
            lambda version, *_: _repetition(version.frame, dataset),
        ),
        _build_check(
            dataset,
            own,
            "no_leakage",
            "No message, near-duplicate, session, shopper or conversation is on two sides, in the golden set, or in "
            "train after an earlier version was tested on it (of a dataset whose labels are tested by folds: none of "
            "the corpus); nothing is later than the as-of time; no example changed sides.",
            partial(_leakage, pipeline),
            also=(GOLDEN, *earlier_versions_of(pipeline)),
        ),
        _build_check(
            dataset,
            own,
            "no_personal_data",
            "A second pass of redaction finds nothing in any text of the dataset.",
            partial(_personal_data, dataset),
            also=(VOCABULARY,),
        ),
    )
    if label is None:
        return checks
    balance = _build_check(
        dataset,
        own,
        "balanced_labels",
        f"No {label} has most of train, and most of them have enough examples to be learned.",
        lambda version, *_: _balance(version.frame, dataset, label),
    )
    return (*checks, balance, _build_noise_check(dataset, own, label))


def _build_check(
    dataset: PipelineDataset,
    own: "Input[DatasetVersion]",
    name: str,
    description: str,
    judge: "Callable[[DatasetVersion, StepStore, str], dg.AssetCheckResult]",
    *,
    also: "Sequence[Input[Any] | Read]" = (),
) -> dg.AssetChecksDefinition:
    """Return a blocking check; `judge` gets the dataset, the store as the check sees it, and the bundle."""

    @declared_check(
        asset=dataset.asset,
        reads=[own, *also],
        name=name,
        blocking=True,
        partitions_def=release_bundles,
        description=description,
    )
    def check(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
        step = store.step(context)
        return judge(step.load(own), step, context.partition_key)

    return check


def _build_noise_check(dataset: PipelineDataset, own: "Input[DatasetVersion]", label: str) -> dg.AssetChecksDefinition:
    @declared_check(
        asset=dataset.asset,
        reads=[own],
        name="little_label_noise",
        blocking=True,
        partitions_def=release_bundles,
        description=f"Not clearly more than {dataset.limits.noise:.0%} of the labels are wrong, by what models say "
        "that have not seen them.",
    )
    def little_label_noise(
        context: dg.AssetCheckExecutionContext, embeddings: EmbeddingsResource, store: StoreResource
    ) -> dg.AssetCheckResult:
        from mangaassist_assets.datasets.guards.health import givers_of, judge_noise
        from mangaassist_assets.labelling.noise.label_noise import find_label_noise
        from mangaassist_assets.mining.clustering.message_vectors import embed_messages

        frame = store.step(context).load(own).frame
        texts = frame[dataset.text_columns[0]].to_list()
        vectors, _ = embed_messages(texts, embedder=embeddings.embedder(), cache=store.embedding_cache())
        report = find_label_noise(
            frame["example_id"].to_list(), frame[label].to_list(), vectors, givers=givers_of(frame)
        )
        context.log.info(f"{report.examples} labels judged, {len(report.suspects)} suspects")
        return _health(judge_noise(report, dataset.limits), "suspects")

    return little_label_noise


def _size(frame: "pl.DataFrame", pipeline: ModelPipeline) -> dg.AssetCheckResult:
    from mangaassist_assets.datasets.guards.health import judge_size

    return _health(judge_size(frame, pipeline.dataset.limits, cross_fitted=_cross_fitted(pipeline)), "sides")


def _cross_fitted(pipeline: ModelPipeline) -> bool:
    """Return whether labels of traffic are tested by models that have not seen them, and are on no test side."""
    return pipeline.model_type().folds > 0


def _balance(frame: "pl.DataFrame", dataset: PipelineDataset, label: str) -> dg.AssetCheckResult:
    from mangaassist_assets.datasets.guards.health import judge_balance

    return _health(judge_balance(frame, dataset.limits, label_column=label), f"{label}s, the smallest first")


def _repetition(frame: "pl.DataFrame", dataset: PipelineDataset) -> dg.AssetCheckResult:
    from mangaassist_assets.datasets.guards.health import judge_repetition

    return _health(judge_repetition(frame, dataset.limits, text_column=dataset.text_columns[0]), "sides")


def _leakage(pipeline: ModelPipeline, version: "DatasetVersion", step: "StepStore", bundle: str) -> dg.AssetCheckResult:
    from mangaassist_assets.datasets.guards.leakage import LeakageError, find_leaks, leak_counts, refuse_crossings
    from mangaassist_assets.datasets.versions.stored_versions import earlier_versions

    dataset, cross_fitted, as_of_ms = pipeline.dataset, _cross_fitted(pipeline), version.card.as_of_ms
    earlier = earlier_versions(step, dataset.asset, bundle, as_of_ms=as_of_ms)
    leaks = find_leaks(
        version.frame,
        text_column=dataset.text_columns[0],
        golden=step.load(GOLDEN),
        earlier=earlier,
        as_of_ms=as_of_ms,
        cross_fitted=cross_fitted,
    )
    crossings: list[str] = []
    for before in earlier:
        try:
            refuse_crossings(before.frame, version.frame, cross_fitted=cross_fitted)
        except LeakageError as error:
            crossings.append(f"{before.name}: {error}")
    problem = (
        f"{len(leaks)} leaks and {len(crossings)} versions with other sides: "
        f"{'; '.join([*crossings[:3], *(leak.describe() for leak in leaks[:5])])}. Materialize "
        f"{dataset.asset} again; if that does not help, report the example ids"
    )
    return check_result(
        [problem] if leaks or crossings else [],
        {
            "compared_with": dg.MetadataValue.json([before.name for before in earlier]),
            "counts": dg.MetadataValue.json(leak_counts(leaks)),
            "leaks": [
                {
                    "kind": one.kind,
                    "sides": ", ".join(one.sides),
                    "beside": one.beside or "",
                    "examples": ", ".join(one.example_ids[:5]),
                }
                for one in leaks[:50]
            ],
        },
        all_well=f"no leak; compared with the golden set and {len(earlier)} earlier versions",
    )


def _personal_data(
    dataset: PipelineDataset, version: "DatasetVersion", step: "StepStore", _bundle: str
) -> dg.AssetCheckResult:
    from mangaassist_assets.privacy import residual

    words = step.load(VOCABULARY)
    left: Counter[str] = Counter()
    examples: set[str] = set()
    for column in dataset.text_columns:
        # A passage stands beside many queries: each text is looked at once.
        for text, example_id in version.frame.unique(column).select(column, "example_id").iter_rows():
            found = residual(text, vocabulary=words)
            left.update(found)
            if found:
                examples.add(example_id)
    problem = (
        f"{len(examples)} texts still hold personal data: materialize {dataset.asset} again; if that does not help, "
        "report the example ids"
    )
    return check_result(
        [problem] if left else [],
        {"found": dg.MetadataValue.json(dict(left)), "examples": dg.MetadataValue.json(sorted(examples)[:20])},
        all_well="a second pass finds nothing",
    )


def _health(found: "HealthResult", rows: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=found.passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=plain(found.description),
        metadata={rows: table(list(found.rows))},
    )
