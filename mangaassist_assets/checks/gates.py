"""The gates' verdicts as checks, and the one that stops an index that is broken; `datasets` has those of data."""

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from mangaassist_assets.assets.common import check_result
from mangaassist_assets.assets.declaring import declared_check
from mangaassist_assets.assets.inputs import VERIFICATION, verdict_of
from mangaassist_assets.checks.coverage import build_coverage_check
from mangaassist_assets.checks.datasets import build_dataset_checks
from mangaassist_assets.checks.production import (
    build_champion_check,
    build_endpoint_check,
    build_record_check,
    configuration_is_valid,
)
from mangaassist_assets.checks.triggers import feedback_trigger_at_work
from mangaassist_assets.models.pipelines import ModelPipeline
from mangaassist_assets.partitions import release_bundles
from resources.store import StoreResource

if TYPE_CHECKING:
    from mangaassist_assets.retrieval.going_live import Verification


def build_gate(pipeline: ModelPipeline) -> dg.AssetChecksDefinition:
    """Return the check that shows the verdict on a model pipeline's challenger.

    It blocks nothing: the champion moves by the stored verdict alone, so a challenger that did not pass ends its lane
    green, with a warning that says why, and only accidents are red.
    """

    @declared_check(
        asset=pipeline.evaluation_asset,
        reads=[verdict_of(pipeline)],
        name=pipeline.gate,
        blocking=False,
        partitions_def=release_bundles,
        description=f"The challenger {pipeline.title} is better than the champion, with proof, and worse on no slice.",
    )
    def gate(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
        evaluation = store.step(context).load(verdict_of(pipeline))
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
            severity=dg.AssetCheckSeverity.WARN,
        )

    return gate


@declared_check(
    asset="retrieval_evaluation",
    reads=[VERIFICATION],
    name="generation_verified",
    blocking=True,
    description="The candidate generation holds every chunk, finds chunks by their own vectors, and answers keywords.",
)
def generation_verified(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
    """Judge what was found of the candidate by itself."""
    verification = _verification(context, store)
    return check_result(
        verification.defects, {"generation": verification.generation}, all_well="count, vectors and keywords agree"
    )


@declared_check(
    asset="retrieval_evaluation",
    reads=[VERIFICATION],
    name="retrieval_not_worse",
    blocking=False,
    description=(
        "On the same labelled queries the candidate generation is not clearly worse than the live one. A warning: a "
        "worse candidate does not go live, and the run says so."
    ),
)
def retrieval_not_worse(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
    """Judge the fused recall of the candidate beside the live generation."""
    verification = _verification(context, store)
    return check_result(
        [] if verification.worse is None else [verification.worse],
        {"compared_with": verification.compared_with or "nothing live"},
        all_well=verification.comparison,
        severity=dg.AssetCheckSeverity.WARN,
    )


def _verification(context: dg.AssetCheckExecutionContext, store: StoreResource) -> "Verification":
    found = store.step(context).load(VERIFICATION)
    if found is None:
        raise dg.Failure("nothing was verified yet: materialize retrieval_evaluation", allow_retries=False)
    return found


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
        *map(build_record_check, pipelines),
        configuration_is_valid,
        generation_verified,
        retrieval_not_worse,
        feedback_trigger_at_work,
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
