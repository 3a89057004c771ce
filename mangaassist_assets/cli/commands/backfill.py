"""`mangaassist backfill`: past release bundles through mining, training and gating with today's code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal

import click

from mangaassist_assets.cli.options import Command, json_option
from mangaassist_assets.cli.output import console, emit, new_table, say
from mangaassist_assets.cli.session import CommandError, RunOutcome, Session, open_session

Depth = Literal["mining", "datasets", "training"]

JOB = "bundle_backfill"
BACKFILL_TAG = "mangaassist/backfill"
_DAY = click.DateTime(formats=["%Y-%m-%d"])


@click.command(cls=Command)
@click.option("--release-bundle", "bundles", multiple=True, help="A bundle; may be given several times.")
@click.option("--from", "first", help="The first bundle of a range, in the order in which bundles began.")
@click.option("--to", "last", help="The last bundle of a range.")
@click.option("--since", type=_DAY, help="Bundles that began on this day (UTC) or later.")
@click.option("--until", type=_DAY, help="Bundles that began before this day (UTC).")
@click.option("--all", "everything", is_flag=True, help="All bundles.")
@click.option(
    "--depth",
    type=click.Choice(["mining", "datasets", "training"]),
    default="training",
    show_default=True,
    help="How far: failures, clusters and review queue; datasets too; or training and gates too.",
)
@click.option("--again", is_flag=True, help="Make also what this backfill has made already.")
@click.option("--dry-run", is_flag=True, help="Say which bundles it would make, and make none.")
@json_option
@click.pass_obj
def backfill(
    home: str | None,
    bundles: Sequence[str],
    first: str | None,
    last: str | None,
    since: datetime | None,
    until: datetime | None,
    *,
    everything: bool,
    depth: Depth,
    again: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make past release bundles again with today's code, one after the other, and compare them.

    Champions, endpoints and the live index are left alone. One that was interrupted goes on where it stopped when it is
    called again: a bundle that it has finished is not made twice. A bundle that fails stops no other.
    """
    if not (bundles or first or last or since or until or everything):
        raise CommandError("which bundles? name a range (--from, --to), days (--since, --until), bundles, or --all")
    with open_session(home, say) as session:
        chosen = choose_bundles(
            known_bundles(session), bundles=bundles, first=first, last=last, since=since, until=until
        )
        report = run_backfill(session, chosen, depth=depth, again=again, dry_run=dry_run)
    emit(report, render_backfill, as_json=as_json)
    if report["failed"]:
        raise SystemExit(1)


def known_bundles(session: Session) -> dict[str, int]:
    """Return the bundles that have traces, mined or not, with their start in ms, the oldest first."""
    from mangaassist_assets.core.bundles import bundle_defect, bundles_by_start, in_order
    from mangaassist_assets.partitions import release_bundles

    mlflow = session.resources.mlflow
    starts = bundles_by_start(session.resources.store.snapshots())
    partitions = release_bundles.get_partition_keys(dynamic_partitions_store=session.instance)
    for bundle in {*partitions, *mlflow.release_bundles_since(0).bundles}.difference(starts):
        if bundle_defect(bundle) is None and (start := mlflow.bundle_start_ms(bundle)) is not None:
            starts[bundle] = start
    return in_order(starts)


def choose_bundles(
    known: Mapping[str, int],
    *,
    bundles: Sequence[str] = (),
    first: str | None = None,
    last: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[str]:
    """Return the bundles that fit all that is asked, in the order in which they began.

    Args:
        known: All bundles with their start in milliseconds since the epoch, the oldest first.
        bundles: Those that are named; none names all.
        first: The range begins with it.
        last: The range ends with it.
        since: They began at this time (UTC) or later.
        until: They began before this time (UTC).

    Raises:
        CommandError: A bundle has no traces, the range is the wrong way round, or nothing is left.
    """
    order = list(known)
    for name in (*bundles, *filter(None, (first, last))):
        if name not in known:
            near = ", ".join(order[-3:]) or "none"
            raise CommandError(f"bundle {name!r} has no traces; the newest that have are {near}")
    low = 0 if first is None else order.index(first)
    high = len(order) if last is None else order.index(last) + 1
    if low >= high and (first or last):
        raise CommandError(f"{first} began after {last}: give the range the other way round")
    chosen = [
        one
        for one in order[low:high]
        if (not bundles or one in bundles)
        if since is None or known[one] >= _ms(since)
        if until is None or known[one] < _ms(until)
    ]
    if not chosen:
        raise CommandError(f"no bundle fits; {len(order)} have traces")
    return chosen


def run_backfill(
    session: Session, bundles: Sequence[str], *, depth: Depth = "training", again: bool = False, dry_run: bool = False
) -> dict[str, Any]:
    """Make the bundles one after the other, then compare them.

    What is finished is known by the runs: those of one backfill carry its name, which comes from its bundles and depth.

    Returns:
        Which bundles were made, were made before, and failed with their errors, and the comparison.
    """
    from mangaassist_assets.models.pipelines import registered_pipelines
    from mangaassist_assets.reporting.bundle_comparison import compare_bundles

    pipelines = registered_pipelines()
    name = hashlib.sha256(json.dumps([list(bundles), depth]).encode()).hexdigest()[:12]
    done = set() if again else finished(session, name)
    wanted = [bundle for bundle in bundles if bundle not in done]
    made: list[str] = []
    failed: dict[str, list[str]] = {}
    for place, bundle in enumerate([] if dry_run else wanted, start=1):
        session.progress(f"bundle {place} of {len(wanted)}: {bundle}")
        session.register_bundle(bundle)
        outcome = session.run_job(JOB, partition=bundle, assets=_assets_of(session, depth), tags={BACKFILL_TAG: name})
        if outcome.succeeded:
            made.append(bundle)
        else:
            failed[bundle] = _why(outcome)
            session.progress(f"  {bundle}: {'; '.join(failed[bundle])}")
    compared = compare_bundles(session.resources.store.snapshots(), pipelines, only=bundles)
    if made:
        session.run_job("comparison")
    return {
        "backfill": name,
        "depth": depth,
        "wanted": wanted,
        "made": made,
        "made_before": [bundle for bundle in bundles if bundle in done],
        "failed": failed,
        "bundles": [asdict(one) for one in compared],
    }


def finished(session: Session, name: str) -> set[str]:
    """Return the bundles that a backfill has finished."""
    import dagster as dg

    runs = session.instance.get_runs(
        dg.RunsFilter(job_name=JOB, tags={BACKFILL_TAG: name}, statuses=[dg.DagsterRunStatus.SUCCESS])
    )
    return {run.tags["dagster/partition"] for run in runs}


def render_backfill(report: Mapping[str, Any]) -> None:
    """Print what was made, the bundles, and by model what was learned from each."""
    from mangaassist_assets.cli.output import figure

    def count(value: int | None) -> str:
        return "–" if value is None else str(value)

    counts = ("bundle", "turns", "failures", "clusters", "new clusters")
    rows = [
        (one["release_bundle"], *(count(one[name]) for name in ("turns", "failures", "clusters", "new_clusters")))
        for one in report["bundles"]
    ]
    states = f"{len(report['made'])} made, {len(report['made_before'])} made before, {len(report['failed'])} failed"
    console().print(new_table(f"Backfill {report['backfill']}: {states}", counts, rows, whole="bundle", narrow=True))
    learned: dict[str, list[tuple[str, ...]]] = {}
    for bundle in report["bundles"]:
        for one in bundle["learned"]:
            if one["examples"] is None:
                continue
            scores = [
                f"v{one[f'{side}_version']} {figure(one[side])}" for side in ("champion", "challenger") if one[side]
            ]
            row = (
                bundle["release_bundle"],
                " / ".join(map(str, one["examples"])),
                " → ".join(scores) or "–",
                one["verdict"] or "–",
            )
            learned.setdefault(one["model"], []).append(row)
    for model, found in learned.items():
        columns = ("bundle", "train / validation / test", "champion → challenger", "verdict")
        console().print(new_table(model, columns, found, whole="bundle", narrow=True))
    for bundle, errors in report["failed"].items():
        say(f"{bundle}: {'; '.join(errors)}")


def _assets_of(session: Session, depth: Depth) -> list[str] | None:
    from mangaassist_assets.jobs import MINING_ASSETS
    from mangaassist_assets.models.pipelines import registered_pipelines

    match depth:
        case "training":
            return None
        case "mining":
            return list(MINING_ASSETS)
        case "datasets":
            job = session.definitions.resolve_job_def(JOB)
            keys = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
            later = {
                name
                for pipeline in registered_pipelines()
                for name in (pipeline.model_asset, pipeline.evaluation_asset, "release_manifest")
            }
            return sorted(keys - later)


def _why(outcome: RunOutcome) -> list[str]:
    return list(outcome.errors or outcome.check_reasons or outcome.failed_assets) or ["it was interrupted"]


def _ms(day: datetime) -> int:
    return int(day.replace(tzinfo=UTC).timestamp() * 1000)
