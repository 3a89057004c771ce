"""`mangaassist erase-user`: removes a user from feedback and traces, and says what still holds the user's data.

That is what must be made again, and which dataset versions and models the user's data went into.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mangaassist_assets.cli.session import Session
    from mangaassist_assets.core.snapshots import SnapshotStore


def run_erasure(session: Session, *, user_id: str | None = None, user_key: str | None = None) -> dict[str, Any]:
    """Erase one user and return the report, which is also kept in the store; safe to run again.

    Args:
        session: The open home.
        user_id: The store's own id; it becomes a pseudonym with the home's key and goes nowhere else.
        user_key: The pseudonym, where that is known; one of the two is given.

    Raises:
        CommandError: neither or both are given.
        InvalidUserKeyError: the key is no pseudonym.
    """
    from mangaassist_assets.cli.session import CommandError
    from mangaassist_assets.lineage.personal_data import personal_data_lineage
    from mangaassist_assets.privacy import pseudonym
    from mangaassist_assets.tracing.erasure import erase_user, trace_ids_in_snapshots
    from resources.mlflow.erasure import MlflowUserTraces
    from resources.mlflow.lineage import MlflowTrainingRecords

    if (user_id is None) == (user_key is None):
        raise CommandError("name one user: an id on standard input, or a pseudonym with --user-key")
    key = user_key if user_key is not None else pseudonym(str(user_id), session.home.pseudonym_key())
    store = session.resources.store
    snapshots = store.snapshots()
    traces = MlflowUserTraces.of(session.resources.mlflow)
    # Before the traces are deleted: they tell which labels of other people rest on them.
    trace_ids = traces.trace_ids_of(key) | trace_ids_in_snapshots(snapshots, key)
    session.progress(f"erasing {key}")
    now = datetime.now(UTC)
    report = erase_user(
        key,
        requested_at=now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        store=snapshots,
        feedback=store.feedback_ingestion(),
        traces=traces,
        tables={
            "ingested_traces": store.trace_ingestion_table(),
            "warehouse": session.resources.warehouse.open(),
        },
    )
    records = MlflowTrainingRecords.of(session.resources.mlflow)
    lineage = personal_data_lineage(snapshots, [key], trace_ids=trace_ids, records=records)
    result = {**report.to_dict(), "lineage": lineage.to_dict()}
    result["report_file"] = _keep(snapshots, key, result, now=now)
    return result


def render(report: dict[str, Any]) -> None:
    """Print what was removed, what must be made again, and what was made of the user's data before."""
    from rich.console import Console
    from rich.table import Table

    from mangaassist_assets.cli.render import render_erasure

    render_erasure(report)
    console = Console(highlight=False)
    lineage = report["lineage"]
    if lineage["versions"]:
        table = Table(title="Dataset versions that hold the user's data", title_justify="left", title_style="bold")
        for column in ("version", "dataset", "release bundle", "examples", "labels that rest on theirs", ""):
            table.add_column(column, overflow="fold", no_wrap=column == "version")
        for one in lineage["versions"]:
            sides = ", ".join(f"{side} {count}" for side, count in one["by_split"].items()) or "none"
            latest = "latest" if one["latest"] else ""
            rest_on = str(len(one["rest_on"]))
            table.add_row(one["version"][:12], one["asset"], one["release_bundle"], sides, rest_on, latest)
        console.print(table)
    if lineage["models"]:
        table = Table(title="Models that were made of them", title_justify="left", title_style="bold")
        for column in ("model", "version", "aliases", "used the user's data for", "MLflow run"):
            table.add_column(column, overflow="fold")
        for one in lineage["models"]:
            model = (one["model"] or "nothing registered", one["version"] or "–", ", ".join(one["aliases"]) or "–")
            table.add_row(*model, one["use"], one["run_id"])
        console.print(table)
    if not lineage["versions"]:
        console.print("No dataset version holds the user's data.")
    console.print(f"report: {report['report_file']}", markup=False)


def _keep(snapshots: SnapshotStore, user_key: str, result: dict[str, Any], *, now: datetime) -> str:
    """Write the report beside the snapshots, for the auditor; it names the pseudonym and nothing else of the user."""
    from mangaassist_assets.core.files import write_whole

    folder = snapshots.root / "erasure_reports"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{user_key}-{now:%Y%m%dT%H%M%S%fZ}.json"
    write_whole(path, json.dumps({"schema": 1, **result}, indent=2, sort_keys=True).encode())
    return str(path)
