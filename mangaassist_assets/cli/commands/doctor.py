"""`mangaassist doctor`: looks at every kind of file of a home, and mends what can be rebuilt."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mangaassist_assets.cli.options import Command, json_option
from mangaassist_assets.cli.output import console, emit, new_table, say
from mangaassist_assets.cli.session import DEFAULT_HOME, HOME_VARIABLE, CommandError

if TYPE_CHECKING:
    from mangaassist_assets.local.examining import Finding
    from mangaassist_assets.local.home import Home


@click.command(cls=Command, local_only=True)
@click.option(
    "--repair",
    is_flag=True,
    help="Rebuild what can be told from what is whole; the damaged file stays beside it as .damaged-NAME.",
)
@json_option
@click.pass_context
def doctor(context: click.Context, *, repair: bool, as_json: bool) -> None:
    """Look at every file of a home: databases, snapshots, tables, indexes, models. Nothing is changed without --repair.

    Every stored byte is read that has a digest. Exit code 1 where something stays damaged.
    """
    from mangaassist_assets.local.home import MARKER, Home

    home = Home(Path(context.obj or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).expanduser().absolute())
    if not (home.root / MARKER).exists():
        raise CommandError(f"{home.root} is no home: it has no {MARKER}")
    report = run_doctor(home, repair=repair)
    emit(report, render_doctor, as_json=as_json)
    if any(one["repaired_to"] is None for one in report["findings"]):
        context.exit(1)


def run_doctor(home: Home, *, repair: bool = False) -> dict[str, Any]:
    """Return what is damaged in a home, and where the damaged files lie that were mended.

    Raises:
        CommandError: something is to be repaired while the services of the home run.
    """
    from filelock import FileLock, Timeout

    from mangaassist_assets.local.examining import examine
    from mangaassist_assets.local.examining import repair as mend

    findings = examine(home, say)
    if not repair:
        return _report(home, findings, {})
    try:
        with FileLock(home.run / "supervisor.lock", mode=0o600, timeout=0):
            return _report(home, findings, {one.path: mend(one) for one in findings if one.repairable})
    except Timeout as error:
        raise CommandError(f"the services of {home.root} run: stop them before something is repaired") from error


def _report(home: Home, findings: list[Finding], repaired: Mapping[Path, Path]) -> dict[str, Any]:
    return {
        "home": str(home.root),
        "findings": [
            {
                "file": str(one.path.relative_to(home.root)),
                "problem": one.problem,
                "meaning": one.meaning,
                "mend": one.mend,
                "repairable": one.repairable,
                "repaired_to": str(repaired[one.path].relative_to(home.root)) if one.path in repaired else None,
            }
            for one in findings
        ],
    }


def render_doctor(report: Mapping[str, Any]) -> None:
    """Print the findings as a table."""
    terminal = console()
    if not report["findings"]:
        terminal.print(f"{report['home']}: nothing is damaged", markup=False)
        return
    rows = [
        (
            one["file"],
            one["problem"],
            one["meaning"],
            f"mended; the damaged one is {one['repaired_to']}"
            if one["repaired_to"]
            else f"{one['mend']}{' --repair does it.' if one['repairable'] else ''}",
        )
        for one in report["findings"]
    ]
    terminal.print(
        new_table(f"Damaged in {report['home']}", ("file", "what is wrong", "what it means", "what to do"), rows)
    )
