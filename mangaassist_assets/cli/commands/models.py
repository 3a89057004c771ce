"""`mangaassist models`: the versions of the registered models, and promoting one whatever its verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mangaassist_assets.cli.options import Group, json_option
from mangaassist_assets.cli.output import console, emit, new_table, say
from mangaassist_assets.cli.session import CommandError, Session, open_session
from mangaassist_assets.models.pipelines import ModelPipeline, registered_pipelines

if TYPE_CHECKING:
    from mangaassist_assets.models.registration.registry import ModelVersion
    from mangaassist_assets.releases.overrides import OverrideRequest

_VERDICT_TAG, _EXAMPLES_TAG = "evaluation_verdict", "evaluation_examples"
_EVALUATION = "evaluation_"
_NO_FIGURES = (_VERDICT_TAG, _EXAMPLES_TAG)
_DIGITS = 12
_ALIASES = ("champion", "challenger")
_NAMES = "intent, reranker, or the short name of another registered model."


@click.group(cls=Group)
def models() -> None:
    """Registered models: list their versions, promote one whatever its verdict."""


@models.command("list")
@click.option("--model", help=f"Only one: {_NAMES}")
@json_option
@click.pass_obj
def _list(home: str | None, model: str | None, *, as_json: bool) -> None:
    """Every version with its aliases, bundle, verdict, dataset and figures; every override and promotion."""
    with open_session(home, say, services=("mlflow",), imports=()) as session:
        report = list_models(session, model=model)
    emit(report, render_list, as_json=as_json)


@models.command("promote")
@click.option("--model", required=True, help=f"Which one: {_NAMES}")
@click.option("--version", required=True, help="The version that is to be champion.")
@click.option("--reason", required=True, help="Why, in 10 to 500 characters; kept for ever, personal data replaced.")
@click.option("--by", help="A name or a role that answers for it; by default: operator.")
@json_option
@click.pass_obj
def _promote(home: str | None, /, *, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - of `run_override`
    """Make a version champion against the gate's word and deploy it; who did it, when and why is kept.

    Where the alias was moved past the platform, this settles it: name the version on record to put it back, or the one
    that the alias names to keep it. It counts against the champion of this moment, and once. Gates to come compare with
    the version promoted here.
    """
    with open_session(home, say, imports=()) as session:
        report = run_override(session, **options)
    emit(report, render_override, as_json=as_json)


def pipeline_of(model: str) -> ModelPipeline:
    """Return the model pipeline of a model by its short name.

    Raises:
        CommandError: there is no such model.
    """
    pipelines = {pipeline.group: pipeline for pipeline in registered_pipelines()}
    if model not in pipelines:
        msg = f"there is no model {model!r}: choose one of {', '.join(pipelines)}"
        raise CommandError(msg)
    return pipelines[model]


def list_models(session: Session, *, model: str | None = None) -> dict[str, Any]:
    """Return every version of the models, or of one, every override and every promotion, all oldest first."""
    from mangaassist_assets.releases.named_champion import recorded_promotions
    from mangaassist_assets.releases.overrides import read_overrides

    mlflow = session.resources.mlflow
    store = session.resources.store.snapshots()
    versions: list[dict[str, Any]] = []
    overrides: list[dict[str, Any]] = []
    promotions: list[dict[str, Any]] = []
    for pipeline in registered_pipelines() if model is None else [pipeline_of(model)]:
        name = pipeline.group
        named = {alias: mlflow.version_by_alias(pipeline.model_name, alias) for alias in _ALIASES}
        for version in mlflow.registry().versions(pipeline.model_name):
            aliases = [alias for alias, held in named.items() if held is not None and held.version == version.version]
            versions.append({"model": name, **_summary(version), "aliases": aliases})
        overrides += [{"model": name, **asdict(one)} for one in read_overrides(store, pipeline.model_name)]
        promotions += [{"model": name, **asdict(one)} for one in recorded_promotions(store, pipeline.model_name)]
    return {"versions": versions, "overrides": overrides, "promotions": promotions}


def run_override(session: Session, *, model: str, version: str, reason: str, by: str | None = None) -> dict[str, Any]:
    """Promote a version through Dagster, deploy it, and return the record of it.

    The override is bound to the champion of this moment. One that was killed halfway goes on if the same is asked for
    again.

    Raises:
        CommandError: the deployment failed.
        OverrideRefusedError: it is refused; says why.
    """
    from mangaassist_assets.releases.named_champion import last_promotion
    from mangaassist_assets.releases.overrides import DEFAULT_BY, NO_CHAMPION, override_request, read_overrides
    from mangaassist_assets.retrieval.stored_knowledge import read_vocabulary

    pipeline = pipeline_of(model)
    mlflow = session.resources.mlflow
    store = session.resources.store.snapshots()
    present = mlflow.version_by_alias(pipeline.model_name, "champion")
    champion = present.version if present is not None else NO_CHAMPION
    past = read_overrides(store, pipeline.model_name)
    goes_on = past and past[-1].version == version.strip() == champion
    against = past[-1].replaced if goes_on else champion
    if (last := last_promotion(store, pipeline)) is not None and last.version != version.strip() == champion:
        # The alias names it already, past the record: it is kept in place of the champion on record.
        against = last.version
    request = override_request(
        version=version,
        against=against,
        reason=reason,
        by=DEFAULT_BY if by is None else by,
        vocabulary=read_vocabulary(store),
    )
    session.progress(f"version {request.version} in place of champion {request.against} of {pipeline.model_name}")
    run_id = _run(session, pipeline, request)
    decided = next(one for one in read_overrides(store, pipeline.model_name) if one.request_id == request.request_id)
    deployed = session.resources.endpoints.describe(pipeline.endpoint_name)
    return {
        "model": model,
        **asdict(decided),
        "champion_version": mlflow.version_by_alias(pipeline.model_name, "champion").version,
        "deployed_version": deployed.model_version if deployed else None,
        "run_id": run_id,
    }


def render_list(report: Mapping[str, Any]) -> None:
    """Print versions, overrides and promotions as tables."""
    from mangaassist_assets.releases.named_champion import described

    terminal = console()
    rows = [_shown(one) for one in report["versions"]]
    # A terminal is narrow: what no version has is no column.
    columns = [name for name in (rows[0] if rows else {}) if any(row[name] for row in rows)]
    versions = ([row[name] for name in columns] for row in rows)
    terminal.print(new_table("Model versions", columns, versions, narrow=True))
    if report["overrides"]:
        names = ("model", "decided_at", "by", "version", "replaced", "verdict", "reason")
        overrides = ([one[name] or "nothing" for name in names] for one in report["overrides"])
        columns = ["model", "decided", "by", "version", "in place of", "the gate had said", "reason"]
        terminal.print(new_table("Overrides", columns, overrides, narrow=True))
    if report["promotions"]:
        promotions = (
            (
                one["model"],
                one["decided_at"] or "",
                one["version"],
                one["replaced"] or "nothing",
                one["by"],
                described(one["carried_out_by"]),
            )
            for one in report["promotions"]
        )
        columns = ["model", "promoted", "version", "in place of", "by", "carried out by"]
        terminal.print(new_table("Promotions on record", columns, promotions, narrow=True))


def _shown(version: Mapping[str, Any]) -> dict[str, str]:
    verdict = (version["verdict"] or "").replace("_", " ")
    figures = ", ".join(f"{name} {value}" for name, value in version["metrics"].items())
    return {
        "model": f"{version['model']} v{version['version']}",
        "aliases": "\n".join(version["aliases"]),
        "bundle": version["release_bundle"] or "",
        "dataset": (version["dataset_digest"] or "")[:_DIGITS],
        "verdict": "\n".join(part for part in (verdict, figures) if part),
        "overridden by": version["overridden_by"] or "",
        "health": version["health"] or "",
    }


def render_override(report: Mapping[str, Any]) -> None:
    """Print what an override did."""
    from rich.text import Text

    from mangaassist_assets.releases.named_champion import described

    lines = (
        f"version {report['version']} of the {report['model']} model is champion in place of {report['replaced']}",
        f"by {report['by']} (carried out by {described(report['carried_out_by'])}): {report['reason']}",
        f"the gate had said: {report['verdict'] or 'nothing'}"
        + (f" ({'; '.join(report['verdict_reasons'])})" if report["verdict_reasons"] else "")
        + f"; the endpoint serves {report['deployed_version']}",
    )
    console().print(Text("\n".join(lines)))


def _summary(version: ModelVersion) -> dict[str, Any]:
    tags = version.tags
    measured = {
        key.removeprefix(_EVALUATION).replace("_at_", "@"): value
        for key, value in sorted(tags.items())
        if key.startswith(_EVALUATION) and key not in _NO_FIGURES
    }
    return {
        "version": version.version,
        "release_bundle": tags.get("release_bundle"),
        "verdict": tags.get(_VERDICT_TAG),
        "judged_against": tags.get("evaluated_against"),
        "judged_on": tags.get(_EXAMPLES_TAG),
        "dataset_digest": tags.get("dataset_digest"),
        "artifact_sha256": version.artifact_sha256,
        "metrics": measured,
        "overridden_by": tags.get("override_by"),
        "override_reason": tags.get("override_reason"),
        "health": tags.get("champion_health"),
    }


def _run(session: Session, pipeline: ModelPipeline, request: OverrideRequest) -> str:
    """Materialize the champion and its endpoint with the override as configuration; return the run's id."""
    override = {name: getattr(request, name) for name in ("version", "against", "reason", "by")}
    outcome = session.run_job(pipeline.promotion_job, config={pipeline.champion_asset: {"override": override}})
    if not outcome.succeeded:
        msg = "; ".join(outcome.errors) or f"the run {outcome.run_id} failed: see its log"
        holder = session.resources.mlflow.version_by_alias(pipeline.model_name, "champion")
        if holder is not None and holder.version == request.version:
            msg = f"version {request.version} is champion, but not all of it is done; give the command again: {msg}"
        raise CommandError(msg)
    return outcome.run_id
