"""`mangaassist store gc`: takes away old snapshots, index generations and endpoint configurations that nobody needs."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mangaassist_assets.cli.options import Group, json_option
from mangaassist_assets.cli.output import console, emit, new_table, say
from mangaassist_assets.cli.session import CommandError, Session, open_session

if TYPE_CHECKING:
    from mangaassist_assets.core.retention import Collection
    from mangaassist_assets.core.snapshots import Snapshot
    from mangaassist_assets.models.pipelines import ModelPipeline


@click.group(cls=Group)
def store() -> None:
    """What the platform keeps: take away what nobody needs any more."""


@store.command("gc")
@click.option("--dry-run", is_flag=True, help="Only say what would go, and why the rest stays.")
@json_option
@click.pass_obj
def _gc(home: str | None, *, dry_run: bool, as_json: bool) -> None:
    """Take away snapshots, index generations and endpoint configurations that no rule keeps and nothing stands on.

    Killed at any place and run again it finishes; whoever writes meanwhile loses nothing. The rules are those of the
    packaged retention.toml; MANGAASSIST_RETENTION names a file that is laid over it.
    """
    with open_session(home, say, services=("mlflow", "sagemaker"), imports=()) as session:
        report = run_gc(session, dry_run=dry_run)
    emit(report, render_gc, as_json=as_json)


def run_gc(session: Session, *, dry_run: bool = False, now: datetime | None = None) -> dict[str, Any]:
    """Collect what nobody needs, or only say what that is, and return it with the reasons why the rest stays.

    Args:
        session: The open session.
        dry_run: Touch nothing.
        now: The present (UTC), by default the clock's.

    Raises:
        RetentionRulesError: the file of rules is wrong.
        CommandError: a record of production is damaged, so that nobody can tell what it stands on.
    """
    from mangaassist_assets.core.retention import RETENTION_VARIABLE, collect, plan_collection, read_rules
    from mangaassist_assets.core.snapshots import SnapshotDamagedError
    from mangaassist_assets.lineage.standing import made_of, previous_generation, stood_on
    from mangaassist_assets.models.pipelines import registered_pipelines
    from mangaassist_assets.retrieval.generations import old_generations

    own = os.environ.get(RETENTION_VARIABLE)
    rules = read_rules(Path(own) if own else None)
    moment = now or datetime.now(UTC)
    pipelines = registered_pipelines()
    snapshots = session.resources.store.snapshots()
    index = session.resources.search.index()
    live = index.live_generation()
    generations = {} if live is None else {live: "the live index stands on it"}
    try:
        if (previous := previous_generation(snapshots, live)) is not None:
            generations[previous] = "the index that was live before stands on it"
        needed = stood_on(snapshots, pipelines, versions=_versions_in_use(session, pipelines), generations=generations)
    except SnapshotDamagedError as error:
        msg = f"what production stands on cannot be told, so nothing is taken away: {error}"
        raise CommandError(msg) from error
    planned = plan_collection(
        snapshots, rules, needed=needed, now=moment, inputs_of=lambda one: made_of(snapshots, one)
    )
    old = old_generations(
        index, keep=rules.index_generations, protect=generations, now_ms=int(moment.timestamp() * 1000)
    )
    left = session.resources.endpoints.leftovers(
        [one.endpoint_name for one in pipelines],
        keep=rules.endpoint_configurations,
        grace=rules.grace,
        now=moment,
        protect=_replaced_last(session, pipelines),
    )
    if not dry_run:
        session.progress(f"taking away {len(planned.gone)} snapshots, {len(planned.files)} files")
        collect(snapshots, planned)
        for generation in old:
            index.delete_generation(generation)
        session.resources.endpoints.delete_leftovers(left)
    return {
        "dry_run": dry_run,
        "bytes": planned.bytes,
        "snapshots": [{**_named(one), "bytes": planned.bytes_of([one])} for one in planned.gone],
        "kept": [{**_named(one.snapshot), "why": one.why} for one in planned.kept],
        "assets": _by_asset(planned),
        "files": len(planned.files),
        "half_written": len(planned.half_written),
        "runs": list(planned.runs),
        "index_generations": old,
        "endpoint_configurations": [one.name for one in left if one.kind == "configuration"],
        "endpoint_models": [one.name for one in left if one.kind == "model"],
    }


def render_gc(report: Mapping[str, Any]) -> None:
    """Print what goes by asset, why the rest stays, and what else goes."""
    terminal = console()
    rows = (
        (one["asset"], one["gone"], f"{one['bytes']:,}", one["kept"], "; ".join(f"{n} {why}" for why, n in one["why"]))
        for one in report["assets"]
    )
    title = "Snapshots that would go" if report["dry_run"] else "Snapshots that went"
    terminal.print(new_table(title, ("asset", "go", "bytes", "stay", "why"), rows))
    for what, key in (
        ("index generations", "index_generations"),
        ("endpoint configurations", "endpoint_configurations"),
        ("models of endpoints", "endpoint_models"),
        ("pins of old runs", "runs"),
    ):
        if report[key]:
            terminal.print(f"{what}: {', '.join(report[key])}", markup=False)
    half = f", {report['half_written']} of them half written" if report["half_written"] else ""
    verb = "would go" if report["dry_run"] else "went"
    files = report["files"] + report["half_written"]
    terminal.print(f"{files} files{half}, {report['bytes']:,} bytes {verb}")


def _by_asset(planned: Collection) -> list[dict[str, Any]]:
    gone: dict[str, list[Snapshot]] = defaultdict(list)
    why: dict[str, Counter[str]] = defaultdict(Counter)
    for one in planned.gone:
        gone[one.name].append(one)
    for kept in planned.kept:
        why[kept.snapshot.name][kept.why] += 1
    return [
        {
            "asset": asset,
            "gone": len(gone[asset]),
            "bytes": planned.bytes_of(gone[asset]),
            "kept": why[asset].total(),
            "why": why[asset].most_common(4),
        }
        for asset in sorted({*gone, *why})
    ]


def _named(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "asset": snapshot.name,
        "partition": snapshot.partition,
        "number": snapshot.number,
        "digest": snapshot.digest,
        "committed_at": snapshot.committed_at,
    }


def _versions_in_use(session: Session, pipelines: Sequence[ModelPipeline]) -> dict[str, dict[str, str]]:
    """Return by model the versions that are champion or challenger, or that an endpoint serves."""
    from mangaassist_assets.models.registration.registry import CHALLENGER, CHAMPION

    mlflow, endpoints = session.resources.mlflow, session.resources.endpoints
    found: dict[str, dict[str, str]] = {}
    for one in pipelines:
        served = endpoints.describe(one.endpoint_name)
        used = {} if served is None or served.model_version is None else {served.model_version: "served"}
        for alias in (CHALLENGER, CHAMPION):
            if (version := mlflow.version_by_alias(one.model_name, alias)) is not None:
                used[version.version] = alias
        found[one.model_name] = used
    return found


def _replaced_last(session: Session, pipelines: Sequence[ModelPipeline]) -> set[str]:
    """Return the endpoint configurations that served before those that do: what a rollback goes to."""
    from mangaassist_assets.releases.deployment import CONFIG_TAG, REPLACED, REPLACED_AT_TAG, STAGE_TAG

    found: set[str] = set()
    for one in pipelines:
        versions = session.resources.mlflow.registry().versions(one.model_name)
        replaced = [each.tags for each in versions if each.tags.get(STAGE_TAG) == REPLACED and CONFIG_TAG in each.tags]
        if replaced:
            found.add(max(replaced, key=lambda tags: tags.get(REPLACED_AT_TAG, ""))[CONFIG_TAG])
    return found
