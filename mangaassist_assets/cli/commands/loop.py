"""`mangaassist loop`: one turn of the loop for one release bundle, model pipeline by model pipeline."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from mangaassist_assets.cli.options import Command, json_option
from mangaassist_assets.cli.output import console, emit, figure, new_table, say
from mangaassist_assets.cli.session import CommandError, RunOutcome, Session, open_session
from mangaassist_assets.models.pipelines import ModelPipeline, registered_pipelines

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

_VERDICTS = {"pass": "green", "fail": "red", "needs_sign_off": "magenta", "insufficient_evidence": "yellow"}
_OF_THE_VERDICT = (
    *("champion_version", "challenger_version", "champion_score", "challenger_score"),
    *("metric", "test_examples", "verdict"),
)


@click.command(cls=Command)
@click.option("--release-bundle", required=True, help="The bundle to mine and to train on.")
@click.option(
    "--no-deploy", is_flag=True, help="Mine, train and judge, but leave champions, endpoints and the live index."
)
@json_option
@click.pass_obj
def loop(home: str | None, release_bundle: str, *, no_deploy: bool, as_json: bool) -> None:
    """One turn of the loop: failures, clusters, datasets, challengers, gates, deployment, index, manifest.

    Exit code 0 when everything ran, whatever the gates said; 1 when something failed.
    """
    with open_session(home, say) as session:
        report = run_loop(session, release_bundle=release_bundle, deploy=not no_deploy)
    emit(report, render_loop, as_json=as_json)
    if not report["succeeded"]:
        raise SystemExit(1)


_INDEX_CHECK = "retrieval_evaluation:generation_verified"
INDEX_BUILD_ASSETS = ("knowledge_chunks", "chunk_embeddings", "search_index", "retrieval_evaluation")


def run_loop(session: Session, *, release_bundle: str, deploy: bool = True) -> dict[str, Any]:
    """Run the model pipelines of the loop one after the other; a model pipeline that fails or is gated stops no other.

    Returns:
        What one turn of the loop found, decided and changed. It `succeeded` where everything ran; a gate that says no
        is not a failure. The `verdict` of a pipeline is None where it did not get as far as the gate: `left_out` says
        why there is nothing to train on, `reasons` which check stopped it, `error` what broke.

    Raises:
        CommandError: the bundle has no traces.
        InvalidBundleError: its key is not valid.
    """
    from mangaassist_assets.core.bundles import validate_bundle

    validate_bundle(release_bundle)
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


def errors_of(outcomes: Iterable[RunOutcome]) -> list[str]:
    """Return what broke in the runs of a turn of the loop; a dataset that is not fit to train on is none of it.

    What the check of an index generation refuses is not what was built, such as a damaged file of the index.
    """
    errors: list[str] = []
    for one in outcomes:
        errors += [f"{one.job}: {error}" for error in one.errors]
        if _INDEX_CHECK in one.failed_checks:
            reasons = dict(zip(one.failed_checks, one.check_reasons, strict=False))  # there need not be any
            errors.append(
                f"{one.job}: {reasons.get(_INDEX_CHECK, _INDEX_CHECK)}; `mangaassist doctor` looks at the index's "
                "files, and a generation that is moved away is built again"
            )
        if not one.succeeded and not one.failed_checks and not one.errors:
            errors.append(f"{one.job}: run {one.run_id} failed: see its log")
    return errors


def _report(
    session: Session, bundle: str, outcomes: list[RunOutcome], generation_before: str | None, *, deploy: bool
) -> dict[str, Any]:
    from mangaassist_assets.core.bundles import TURNS_CARD_FILE
    from mangaassist_assets.mining.blame.stored_failures import read_failures
    from mangaassist_assets.mining.tracking.cluster_files import read_clusters

    store = session.resources.store.snapshots()
    errors = errors_of(outcomes)
    by_job = {one.job: one for one in outcomes}
    traces = store.find("tagged_traces", partition=bundle)
    card = store.read_json(traces, TURNS_CARD_FILE) if traces else {"turns": 0, "quarantined": 0}
    mined = by_job["failure_mining"].succeeded
    failures = read_failures(store, bundle) if mined else []
    clusters = read_clusters(store, bundle) if mined else []
    if mined and not card["turns"]:
        errors.append(f"bundle {bundle} has no finished traces: run `mangaassist simulate --release-bundle {bundle} …`")
    retrieval = store.find("retrieval_evaluation")
    released = by_job.get("release")
    manifest = store.find("release_manifest", partition=bundle) if released and released.succeeded else None
    return {
        "release_bundle": bundle,
        "turns": card["turns"],
        "quarantined": card["quarantined"],
        "failures": len(failures),
        "blame": dict(Counter(failure.blame.stage for failure in failures).most_common()),
        "clusters": [
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
        ],
        "pipelines": [
            _pipeline_report(session, pipeline, bundle, by_job.get(pipeline.job), deploy=deploy)
            for pipeline in registered_pipelines()
        ],
        "generation_before": generation_before,
        "generation": session.resources.search.index().live_generation(),
        "retrieval": store.read_json(retrieval, "evaluation.json") if retrieval else {},
        # The manifest's own digest, as its asset shows it: that of the file, not of the snapshot around it.
        "manifest_digest": manifest.files["manifest.json"] if manifest else None,
        "runs": {one.job: one.run_id for one in outcomes},
        "errors": errors,
        "succeeded": not errors,
    }


def _pipeline_report(
    session: Session, pipeline: ModelPipeline, bundle: str, outcome: RunOutcome | None, *, deploy: bool
) -> dict[str, Any]:
    from mangaassist_assets.models.registration.registry import EVALUATION_FILE

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
    verdict = store.read_json(evaluation, EVALUATION_FILE) if evaluation and reached_gate else {}
    deployed = session.resources.endpoints.describe(pipeline.endpoint_name) if deploy else None
    return {
        "model": pipeline.model_asset,
        "dataset_digest": card.get("digest"),
        "examples": card.get("by_split", {}),
        **{name: verdict.get(name) for name in _OF_THE_VERDICT},
        "reasons": verdict.get("reasons") or (list(outcome.check_reasons) if outcome else []),
        "deployed_version": deployed.model_version if deployed else None,
        "left_out": left_out,
        "error": "; ".join(outcome.errors) if outcome and outcome.errors else None,
    }


def render_loop(report: dict[str, Any]) -> None:
    """Print failures, clusters, the comparison of models, verdicts, what was deployed."""
    console().print(loop_tables(report))


def loop_tables(report: dict[str, Any]) -> Group:
    """Return what a turn of the loop found, decided and changed."""
    from rich.console import Group
    from rich.text import Text

    blame = ", ".join(f"{stage} {count}" for stage, count in report["blame"].items()) or "none"
    same = report["generation"] == report["generation_before"]
    rows = (
        ("turns", f"{report['turns']} ({report['quarantined']} in quarantine)"),
        ("failed turns", f"{report['failures']}, blamed on: {blame}"),
        ("index generation", f"{report['generation']}{' (unchanged)' if same else ' (new)'}"),
        ("release manifest", (report["manifest_digest"] or "not written")[:16]),
    )
    head = new_table(f"The loop on {report['release_bundle']}", ("what", "is"), rows)
    parts: list[Any] = [head, _clusters(report), _pipelines(report)]
    parts += [Text(error, style="red") for error in report["errors"]]
    return Group(*parts)


def _clusters(report: dict[str, Any]) -> Table:
    shown = report["clusters"][:8]
    rows = (
        (
            f"{cluster['cluster_id']}\n{cluster['state']}",
            cluster["size"],
            f"{cluster['stage']} →\n{cluster['feeds']}",
            f"{cluster['name']}\n“{cluster['examples'][0][:90] if cluster['examples'] else ''}”",
        )
        for cluster in shown
    )
    title = f"Failure clusters ({len(shown)} of {len(report['clusters'])})"
    return new_table(title, ("id", "turns", "blamed on → feeds", "name and an example"), rows)


def _pipelines(report: dict[str, Any]) -> Group:
    from rich.console import Group
    from rich.text import Text

    rows: list[Sequence[object]] = []
    whys: list[Text] = []
    for pipeline in report["pipelines"]:
        verdict = pipeline["verdict"]
        compared = [
            f"v{pipeline[f'{side}_version']}  {figure(pipeline[f'{side}_score'])}" if verdict else "–"
            for side in ("champion", "challenger")
        ]
        examples = " / ".join(str(pipeline["examples"].get(side, 0)) for side in ("train", "validation", "test"))
        shown = Text(verdict or "not reached", style=_VERDICTS.get(verdict, "dim"))
        serving = f"v{pipeline['deployed_version']}" if pipeline["deployed_version"] else "–"
        rows.append((pipeline["model"], examples, *compared, shown, serving))
        left_out = f"left out: {pipeline['left_out']}" if pipeline["left_out"] else ""
        why = pipeline["error"] or left_out or "; ".join(pipeline["reasons"])
        whys.append(Text(f"  {pipeline['model']} ({pipeline['metric'] or 'not measured'}): {why}", style="dim"))
    columns = ("model", "train / validation / test", "champion", "challenger", "verdict", "serving")
    return Group(new_table("Champion against challenger, on the same held-out examples", columns, rows), *whys)
