"""`mangaassist loop`: one turn of the loop for one release bundle, model pipeline by model pipeline."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from mangaassist_assets.cli.session import CommandError, RunOutcome, Session
from mangaassist_assets.models.pipelines import ModelPipeline, registered_pipelines


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineReport:
    """One model pipeline: what was compared, the verdict with its reasons, and what came of it.

    `verdict` is None where the pipeline did not get as far as the gate: `left_out` says why there is nothing to train
    on, `reasons` which check stopped it, `error` what broke.
    """

    model: str
    dataset_digest: str | None
    examples: dict[str, int]
    champion_version: str | None
    challenger_version: str | None
    champion_score: float | None
    challenger_score: float | None
    metric: str | None
    test_examples: int | None
    verdict: str | None
    reasons: tuple[str, ...]
    deployed_version: str | None
    left_out: str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopReport:
    """What one turn of the loop found, decided and changed."""

    release_bundle: str
    turns: int
    quarantined: int
    failures: int
    blame: dict[str, int]
    clusters: tuple[dict[str, Any], ...]
    pipelines: tuple[PipelineReport, ...]
    generation_before: str | None
    generation: str | None
    retrieval: dict[str, Any]
    manifest_digest: str | None
    runs: dict[str, str]
    errors: tuple[str, ...]

    @property
    def succeeded(self) -> bool:
        """Whether everything ran; a gate that says no is not a failure."""
        return not self.errors

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "succeeded": self.succeeded}


INDEX_BUILD_ASSETS = ("knowledge_chunks", "chunk_embeddings", "search_index", "retrieval_evaluation")


def run_loop(session: Session, *, release_bundle: str, deploy: bool = True) -> LoopReport:
    """Run the model pipelines of the loop one after the other; a model pipeline that fails or is gated stops no other.

    Raises:
        CommandError: the bundle has no traces, or its key is none.
    """
    from mangaassist_assets.core.bundles import InvalidBundleError, validate_bundle

    try:
        validate_bundle(release_bundle)
    except InvalidBundleError as error:
        raise CommandError(str(error)) from error
    store = session.resources.store.snapshots()
    if store.find("training_corpus") is None:
        msg = "this home has no champions yet: run `mangaassist bootstrap --training FILE --knowledge DIR` first"
        raise CommandError(msg)
    if next(iter(session.resources.mlflow.read_traces(release_bundle)), None) is None:
        # Before the bundle becomes a partition: a name that was mistyped would stay one for ever.
        msg = (
            f"bundle {release_bundle} has no traces: run `mangaassist simulate --release-bundle {release_bundle} …`, "
            "or name a bundle that has some"
        )
        raise CommandError(msg)
    session.register_bundle(release_bundle)
    generation_before = session.resources.search.index().live_generation()
    outcomes: list[RunOutcome] = []

    session.progress(f"mining {release_bundle}")
    outcomes.append(session.run_job("failure_mining", partition=release_bundle))
    if outcomes[0].succeeded:
        for pipeline in registered_pipelines():
            session.progress(f"retraining the {pipeline.title}")
            outcomes.append(
                session.run_job(
                    pipeline.job,
                    partition=release_bundle,
                    assets=None if deploy else pipeline.learning_assets,
                )
            )
        session.progress("refreshing the index")
        outcomes.append(session.run_job("index_refresh", assets=None if deploy else INDEX_BUILD_ASSETS))
        session.progress("writing the release manifest")
        outcomes.append(session.run_job("release", partition=release_bundle))
    return _report(session, release_bundle, outcomes, generation_before, deploy=deploy)


def _report(
    session: Session, bundle: str, outcomes: list[RunOutcome], generation_before: str | None, *, deploy: bool
) -> LoopReport:
    from mangaassist_assets.assets.reading import read_clusters, read_failures, read_json
    from mangaassist_assets.core.bundles import TURNS_CARD_FILE

    store = session.resources.store.snapshots()
    errors = [f"{one.job}: {error}" for one in outcomes for error in one.errors]
    by_job = {one.job: one for one in outcomes}
    traces = store.find("tagged_traces", partition=bundle)
    card = read_json(store, traces, TURNS_CARD_FILE) if traces else {"turns": 0, "quarantined": 0}
    mined = by_job["failure_mining"].succeeded
    failures = read_failures(store, bundle) if mined else []
    clusters = read_clusters(store, bundle) if mined else []
    if mined and not card["turns"]:
        errors.append(f"bundle {bundle} has no finished traces: run `mangaassist simulate --release-bundle {bundle} …`")
    retrieval = store.find("retrieval_evaluation")
    released = by_job.get("release")
    manifest = store.find("release_manifest", partition=bundle) if released and released.succeeded else None
    return LoopReport(
        release_bundle=bundle,
        turns=card["turns"],
        quarantined=card["quarantined"],
        failures=len(failures),
        blame=dict(Counter(failure.blame.stage for failure in failures).most_common()),
        clusters=tuple(
            {
                "cluster_id": cluster.cluster_id,
                "name": cluster.name,
                "size": cluster.size,
                "state": cluster.state,
                "stage": cluster.stage,
                "feeds": cluster.loop,
                "examples": list(cluster.examples[:2]),
            }
            for cluster in clusters
        ),
        pipelines=tuple(
            _pipeline_report(session, pipeline, bundle, by_job.get(pipeline.job), deploy=deploy)
            for pipeline in registered_pipelines()
        ),
        generation_before=generation_before,
        generation=session.resources.search.index().live_generation(),
        retrieval=read_json(store, retrieval, "evaluation.json") if retrieval else {},
        # The manifest's own digest, as its asset shows it: that of the file, not of the snapshot around it.
        manifest_digest=manifest.files["manifest.json"] if manifest else None,
        runs={one.job: one.run_id for one in outcomes},
        errors=tuple(errors),
    )


def _pipeline_report(
    session: Session, pipeline: ModelPipeline, bundle: str, outcome: RunOutcome | None, *, deploy: bool
) -> PipelineReport:
    from mangaassist_assets.assets.reading import EVALUATION_FILE, read_json

    store = session.resources.store.snapshots()
    left_out = outcome.left_out.get(pipeline.dataset_asset) if outcome else None
    # A model pipeline that has nothing to train on now may have had something earlier, which is not this report's.
    dataset = None if left_out else store.find(pipeline.dataset_asset, partition=bundle)
    card = json.loads(store.read(dataset, "card.json")) if dataset else {}
    evaluation = store.find(pipeline.evaluation_asset, partition=bundle)
    reached_gate = (
        outcome is not None
        and left_out is None
        and pipeline.evaluation_asset not in outcome.failed_assets
        and not ({pipeline.dataset_asset, pipeline.model_asset} & set(outcome.failed_assets))
    )
    verdict = read_json(store, evaluation, EVALUATION_FILE) if evaluation and reached_gate else {}
    deployed = session.resources.endpoints.describe(pipeline.endpoint_name) if deploy else None
    return PipelineReport(
        model=pipeline.model_asset,
        dataset_digest=card.get("digest"),
        examples=card.get("by_split", {}),
        champion_version=verdict.get("champion_version"),
        challenger_version=verdict.get("challenger_version"),
        champion_score=verdict.get("champion_score"),
        challenger_score=verdict.get("challenger_score"),
        metric=verdict.get("metric"),
        test_examples=verdict.get("test_examples"),
        verdict=verdict.get("verdict"),
        reasons=tuple(verdict.get("reasons", ())) or (outcome.check_reasons if outcome else ()),
        deployed_version=deployed.model_version if deployed else None,
        left_out=left_out,
        error="; ".join(outcome.errors) if outcome and outcome.errors else None,
    )
