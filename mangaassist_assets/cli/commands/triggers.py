"""`mangaassist triggers`: what the feedback trigger saw on a day, and whether it is at work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import click

from mangaassist_assets.cli.options import Group, json_option
from mangaassist_assets.cli.output import console, emit, new_table, say
from mangaassist_assets.cli.session import CommandError, Session, open_session, open_store

if TYPE_CHECKING:
    from upath import UPath

_LOOKED_AT = 5_000


@click.group(cls=Group)
def triggers() -> None:
    """What starts retraining: replay a day of it, see whether it is at work."""


@triggers.command("explain")
@click.option("--bundle", help="Only this release bundle.")
@click.option("--day", help="A day, YYYY-MM-DD (UTC); by default the last one on record.")
@json_option
@click.pass_obj
def _explain(home: str | None, bundle: str | None, day: str | None, *, as_json: bool) -> None:
    """Replay a day from the trigger ledger: what was seen, what fired, was held, or why not."""
    emit(explain(open_store(home).root, bundle=bundle, day=day), render_explain, as_json=as_json)


@triggers.command("status")
@json_option
@click.pass_obj
def _status(home: str | None, *, as_json: bool) -> None:
    """Last evaluation, cursor and events that wait; fails where the trigger is silent."""
    with open_session(home, say, services=("ministack",), imports=()) as session:
        report = status(session)
    emit(report, render_status, as_json=as_json)
    if report["silent"] is not None:
        raise CommandError(report["silent"])


def explain(root: UPath, *, bundle: str | None = None, day: str | None = None) -> dict[str, Any]:
    """Return the evaluations of a day as they are in the ledger, oldest first.

    Raises:
        CommandError: The day is none, or nothing of it is on record.
    """
    from mangaassist_assets.triggers.ledger import TriggerLedger, summary

    ledger = TriggerLedger(root)
    days = ledger.days()
    if not days:
        raise CommandError("the trigger ledger is empty: the sensor feedback_threshold has counted no thumb yet")
    try:
        asked = days[-1] if day is None else date.fromisoformat(day)
    except ValueError as error:
        raise CommandError(f"--day {ascii(day)[:40]} is no day: YYYY-MM-DD, for example {days[-1]}") from error
    rows = ledger.rows(asked, release_bundle=bundle)
    if not rows:
        of_bundle = "" if bundle is None else f" of release bundle {ascii(bundle)[:80]}"
        raise CommandError(
            f"nothing{of_bundle} is on record of {asked}: there are {len(days)} days from {days[0]} to {days[-1]}"
        )
    return {
        "day": str(asked),
        "outcomes": summary(rows),
        "evaluations": [{**asdict(row), "at": row.at.isoformat(timespec="seconds")} for row in rows],
    }


def status(session: Session) -> dict[str, Any]:
    """Return when the trigger was evaluated last, where it stands, what waits, and why it is silent, if it is."""
    from mangaassist_assets.triggers.state_files import TriggerFiles, silence

    store = session.resources.store
    alive = TriggerFiles(store.path()).alive()
    now_ms = round(datetime.now(UTC).timestamp() * 1000)
    batch = None
    if alive is not None:
        batch = session.resources.feedback_stream.read_if_there(alive.positions, limit=_LOOKED_AT)
    waiting = 0 if batch is None else batch.size
    minutes = session.resources.triggers.feedback(store.inputs()).silent_minutes
    return {
        "last_evaluation": None if alive is None else _time(alive.evaluated_ms),
        "cursor": None if alive is None else dict(alive.positions),
        "cursor_since": None if alive is None else _time(alive.moved_ms),
        "events_waiting": waiting,
        "reason": None if alive is None else alive.reason,
        "silent": silence(alive, waiting=waiting, now_ms=now_ms, silent_minutes=minutes),
    }


def render_explain(report: Mapping[str, Any]) -> None:
    """Print the evaluations of a day, and how often each bundle came out how."""
    rows = (
        (one["at"][11:19], one["release_bundle"], one["outcome"], one["counted"], _numbers(one))
        for one in report["evaluations"]
    )
    terminal = console()
    columns = ("at (UTC)", "bundle", "outcome", "new", "why")
    terminal.print(new_table(f"Feedback trigger on {report['day']}", columns, rows, narrow=True))
    for bundle, outcomes in sorted(report["outcomes"].items()):
        counted = ", ".join(f"{outcome} {times}" for outcome, times in sorted(outcomes.items()))
        terminal.print(f"{bundle}: {counted}", markup=False)


def render_status(report: Mapping[str, Any]) -> None:
    """Print where the trigger stands."""
    terminal = console()
    for name in ("last_evaluation", "cursor", "cursor_since", "events_waiting", "reason"):
        value = report[name]
        terminal.print(f"{name.replace('_', ' ')}: {'none' if value is None else value}", markup=False)


def _numbers(row: Mapping[str, Any]) -> str:
    asked = f" → {row['run_key']}" if row["run_key"] else ""
    return f"{row['sentence']}{asked}"


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
