"""`mangaassist traces inspect`: what the trace mapping reads of traces, before a loop depends on it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mangaassist_assets.cli.options import FILE, Group, json_option
from mangaassist_assets.cli.output import add_row, console, emit, new_table, say
from mangaassist_assets.cli.session import CommandError, open_session

if TYPE_CHECKING:
    from rich.table import Table

    from mangaassist_assets.tracing.contract.records import TraceRecord

_NARROWEST = 110
_TRACE_ID = re.compile(r"(?:tr-)?[0-9a-fA-F]{32}")


@click.group(cls=Group)
def traces() -> None:
    """Traces: what the platform reads of them."""


@traces.command("inspect")
@click.argument("target", metavar="FILE|TRACE_ID")
@click.option("--mapping", type=FILE, help="A mapping file to try; by default the one in MANGAASSIST_TRACE_MAPPING.")
@click.option("--limit", type=click.IntRange(min=1), default=200, show_default=True, help="Traces of a file to read.")
@json_option
@click.pass_obj
def _inspect(home: str | None, target: str, mapping: Path | None, limit: int, *, as_json: bool) -> None:
    """What is read from which place, what is missing, and lines of a mapping for what nothing reads.

    A file needs no server; a trace id is looked up on the tracking server. Exit code 1 if no trace is a turn.
    """
    report = run_inspect(home, target, mapping=mapping, limit=limit, say=say)
    emit(report, render_inspect, as_json=as_json)
    if not report["turns"]:
        raise SystemExit(1)


def run_inspect(
    home: str | None, target: str, *, mapping: Path | None, limit: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Inspect the traces of a file, or one trace of the tracking server by its id; returns the report.

    Raises:
        CommandError: The target is neither a file nor the id of a trace that is there.
        ImportFileError: The file cannot be read.
        TraceMappingError: The mapping cannot be used.
    """
    from mangaassist_assets.tracing.ingestion.inspection import inspect
    from resources.settings.trace_mapping import TraceMappingResource

    where = TraceMappingResource(path=None if mapping is None else str(mapping)).mapping()
    with _traces(home, target, say) as (traces, rejects):
        # A user shows as a pseudonym of this call alone: looking at a file needs no home and no secret.
        found = inspect(islice(traces, limit), where, pseudonym_key=secrets.token_bytes(32))
    return {"target": target, "mapping": where.file, "rejected": rejects, **asdict(found)}


@contextmanager
def _traces(
    home: str | None, target: str, say: Callable[[str], None]
) -> Iterator[tuple[Iterator[TraceRecord], dict[str, int]]]:
    if Path(target).is_file():
        with _of_file(Path(target)) as found:
            yield found
        return
    if not _TRACE_ID.fullmatch(target):
        msg = f"{target[:80]} is neither a file nor a trace id (tr- and 32 hexadecimal digits)"
        raise CommandError(msg)
    trace_id = f"tr-{target.lower().removeprefix('tr-')}"
    with open_session(home, say, services=("mlflow",), imports=()) as session:
        found_traces = list(session.resources.mlflow.trace_source().traces_by_id([trace_id]))
        if not found_traces:
            msg = f"the tracking server has no trace {trace_id}"
            raise CommandError(msg)
        yield iter(found_traces), {}


@contextmanager
def _of_file(file: Path) -> Iterator[tuple[Iterator[TraceRecord], dict[str, int]]]:
    """Yield the traces of a file as they are; an import writes them scrubbed, with bundle and session as tags."""
    from mangaassist_assets.tracing.importing.imported_trace import to_record
    from mangaassist_assets.tracing.importing.parsing import ImportReject, read_parts
    from mangaassist_assets.tracing.importing.spool import SpooledTrace, spool

    rejects: dict[str, int] = {}

    def reject(one: ImportReject) -> None:
        rejects[one.reason] = rejects.get(one.reason, 0) + 1

    with spool() as spooled:
        for part in read_parts(file):
            if isinstance(part, ImportReject):
                reject(part)
            else:
                spooled.add(part)
        spooled.close_input()

        def records() -> Iterator[TraceRecord]:
            for one in spooled.traces(tagged=False):
                if isinstance(one, SpooledTrace):
                    yield to_record(one.trace)
                else:
                    reject(one)

        yield records(), rejects


def render_inspect(report: dict[str, Any]) -> None:
    """Print the report: outcomes, facts with their places, spans, what was odd, proposals."""
    terminal = console()
    # Places are long: a narrow terminal that wraps them is easier to read than a table that folds every cell.
    terminal.width = max(terminal.width, _NARROWEST)
    terminal.print(f"[bold]{report['traces']} traces read through {report['mapping']}[/bold]: {report['turns']} turns")
    odd = [f"rejected: {reason}" for reason in report["rejected"]]
    for what, traces in [*report["outcomes"].items(), *zip(odd, report["rejected"].values(), strict=True)]:
        terminal.print(f"  {traces} × {what}", markup=False)
    found = [one for one in report["facts"] if one["found"]]
    rows = [(one["fact"], str(one["found"]), "\n".join(one["places"]), one["example"] or "") for one in found]
    terminal.print(_table("Facts", ("fact", "traces", "read from", "example"), rows))
    missing = [one["fact"] for one in report["facts"] if not one["found"]]
    if missing:
        terminal.print(f"[bold]Nowhere found[/bold]: {', '.join(missing)}")
    spans = [(name, stage or "none", str(traces)) for name, stage, traces in report["spans"]]
    terminal.print(_table("Spans", ("span", "stage", "traces"), spans))
    for problem, traces in report["problems"].items():
        terminal.print(f"  {traces} × {problem}", markup=False)
    if report["proposals"]:
        terminal.print("\n[bold]A mapping file could begin with[/bold] (look at each line: names are a guess)\n")
        terminal.print("schema = 1", markup=False)
        for section, lines in report["proposals"].items():
            terminal.print("\n".join([f"\n[{section}]", *lines]), markup=False, soft_wrap=True)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = new_table(title, *columns)
    for row in rows:
        add_row(table, *row)
    return table
