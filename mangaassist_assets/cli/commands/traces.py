"""`mangaassist traces inspect` and `mangaassist import-traces`: what a mapping reads of traces, and their import.

An import takes traces of other tools and servers from a file into the experiment of traces.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from mangaassist_assets.cli.options import FILE, Command, Group, json_option
from mangaassist_assets.cli.output import console, emit, new_table, progress_bar, say
from mangaassist_assets.cli.session import CommandError, Session, open_session

if TYPE_CHECKING:
    from mangaassist_assets.tracing.contract.records import TraceRecord
    from mangaassist_assets.tracing.importing.import_run import ImportCounts
    from mangaassist_assets.tracing.importing.parsing import ImportReject
    from mangaassist_assets.tracing.importing.spool import Spool
    from resources.mlflow.traces.importer import MlflowTraceStore

_NARROWEST = 110
_TRACE_ID = re.compile(r"(?:tr-)?[0-9a-fA-F]{32}")
_SAY_EVERY = 1_000
_SAY_REJECTS = 5


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
    rows = [(one["fact"], one["found"], "\n".join(one["places"]), one["example"] or "") for one in found]
    terminal.print(new_table("Facts", ("fact", "traces", "read from", "example"), rows))
    missing = [one["fact"] for one in report["facts"] if not one["found"]]
    if missing:
        terminal.print(f"[bold]Nowhere found[/bold]: {', '.join(missing)}")
    spans = [(name, stage or "none", traces) for name, stage, traces in report["spans"]]
    terminal.print(new_table("Spans", ("span", "stage", "traces"), spans))
    for problem, traces in report["problems"].items():
        terminal.print(f"  {traces} × {problem}", markup=False)
    if report["proposals"]:
        terminal.print("\n[bold]A mapping file could begin with[/bold] (look at each line: names are a guess)\n")
        terminal.print("schema = 1", markup=False)
        for section, lines in report["proposals"].items():
            terminal.print("\n".join([f"\n[{section}]", *lines]), markup=False, soft_wrap=True)


@click.command("import-traces", cls=Command)
@click.argument("file", type=FILE)
@json_option
@click.pass_obj
def import_traces(home: str | None, file: Path, *, as_json: bool) -> None:
    """Import traces: JSON lines of MLflow traces or OTLP JSON, plain or .gz; what is there is not written twice."""
    session_of_mlflow = open_session(home, say, services=("mlflow",), imports=())
    with session_of_mlflow as session, progress_bar(f"importing {file.name}") as progress:
        report = run_import(session, file=file, progress=progress)
    emit(report, render_import, as_json=as_json)


def run_import(session: Session, *, file: Path, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Import a file of traces and return the report.

    JSON lines or one JSON document, of MLflow traces or OTLP requests, plain or gzip. What an earlier call wrote is
    not written again; a call that was killed is finished by the next one.

    Raises:
        CommandError: The file holds no trace.
        ImportFileError: The file cannot be read.
    """
    from mangaassist_assets.tracing.importing.import_run import import_spooled
    from mangaassist_assets.tracing.importing.spool import spool

    began = time.monotonic()
    with spool(session.resources.trace_mapping.mapping()) as spooled, _Rejects.beside(file, session) as rejects:
        _fill(session, file, spooled, rejects)
        if not spooled.count():
            msg = (
                f"{file} holds no trace that can be read ({rejects.count} lines rejected): it must be JSON lines of "
                "MLflow traces (`Trace.to_json()`) or of OTLP requests, or one such JSON document, plain or gzip"
            )
            raise CommandError(msg)
        session.progress(f"{file.name}: {spooled.count()} traces, {rejects.count} rejects; writing")
        duplicates = spooled.duplicates()
        with _store(session) as store:
            counts = import_spooled(spooled, store, on_reject=rejects.add, progress=progress)
    bundles = _register(session, counts)
    mining = _mining_of(session, bundles)
    return {
        "file": str(file),
        "traces": counts.traces,
        "written": counts.written,
        "completed": counts.completed,
        "already_there": counts.already_there,
        "in_progress": counts.in_progress,
        "duplicate_lines": duplicates,
        "spans": counts.spans,
        "assessments": counts.assessments,
        "superseded_assessments": counts.superseded_assessments,
        "rejected": rejects.count,
        "rejected_by_reason": dict(rejects.reasons.most_common()),
        "rejects_file": str(rejects.path) if rejects.count else None,
        "release_bundles": bundles,
        "mining": mining,
        "seconds": round(time.monotonic() - began, 1),
    }


class _Rejects:
    """Writes rejects to a file as they come, so that any number of them needs no memory."""

    def __init__(self, path: Path, stream: IO[bytes], say: Callable[[str], None]) -> None:
        self.path = path
        self.reasons: Counter[str] = Counter()
        self._stream = stream
        self._say = say

    @classmethod
    @contextmanager
    def beside(cls, source: Path, session: Session) -> Iterator[_Rejects]:
        """Open a file beside the source, or in the logs where that folder cannot be written.

        It takes its name when the block ends, with what was written so far, also after an error; none without rejects.
        """
        name = f"{source.name.split('.')[0]}.rejects.jsonl"
        try:
            stream = tempfile.NamedTemporaryFile(dir=source.parent, prefix=f".{name}-", delete=False)  # noqa: SIM115
            path = source.with_name(name)
        except OSError:
            stream = tempfile.NamedTemporaryFile(dir=session.logs, prefix=f".{name}-", delete=False)  # noqa: SIM115
            path = session.logs / name
        with stream:
            rejects = cls(path, stream, session.progress)
            try:
                yield rejects
            finally:
                stream.flush()
                if rejects.count:
                    Path(stream.name).replace(path)
                else:
                    Path(stream.name).unlink()
        if rejects.count > _SAY_REJECTS:
            session.progress(f"  … and {rejects.count - _SAY_REJECTS} more rejects, all in {path}")

    @property
    def count(self) -> int:
        """How many rejects there are."""
        return self.reasons.total()

    def add(self, reject: ImportReject) -> None:
        """Write a reject, and say it if it is one of the first."""
        self.reasons[reject.reason] += 1
        self._stream.write(json.dumps(reject.to_dict(), ensure_ascii=False).encode() + b"\n")
        if self.count <= _SAY_REJECTS:
            self._say(f"  line {reject.line_number}: {reject.reason}")


def _fill(session: Session, file: Path, spooled: Spool, rejects: _Rejects) -> None:
    """Read the file into the spool, scrubbed."""
    from mangaassist_assets.tracing.importing.parsing import ImportReject, read_parts
    from mangaassist_assets.tracing.importing.scrubbing import Scrubber

    scrubber = Scrubber(key=session.resources.privacy.pseudonym_key())
    read = 0
    for found in read_parts(file):
        if isinstance(found, ImportReject):
            rejects.add(found)
            continue
        spooled.add(scrubber.part(found))
        read += 1
        if read % _SAY_EVERY == 0:
            session.progress(f"{file.name}: {read} traces read")
    spooled.close_input()


@contextmanager
def _store(session: Session) -> Iterator[MlflowTraceStore]:
    from resources.mlflow.traces.importer import MlflowTraceStore
    from resources.mlflow.tracking import credentials

    mlflow = session.resources.mlflow
    uri = mlflow.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri.startswith(("http://", "https://")):
        msg = f"traces are written over OTLP/HTTP, which needs an http(s) MLflow server, not {uri or 'none'}"
        raise CommandError(msg)
    store = MlflowTraceStore(
        uri,
        mlflow.ensure_experiment(mlflow.traces_experiment),
        headers=credentials(),
        timeout_s=mlflow.request_timeout_s,
    )
    try:
        yield store
    finally:
        store.close()


def _register(session: Session, counts: ImportCounts) -> dict[str, int]:
    """Make the valid release bundles of the traces partitions; returns how many traces each has."""
    from mangaassist_assets.core.bundles import InvalidBundleError, validate_bundle

    known: dict[str, int] = {}
    for bundle, traces in sorted(counts.bundles.items()):
        try:
            session.register_bundle(validate_bundle(bundle))
        except InvalidBundleError:
            session.progress(f"  {traces} traces have a release bundle that is not valid: they will be in quarantine")
            continue
        known[bundle] = traces
    return known


def _mining_of(session: Session, bundles: Iterable[str]) -> dict[str, str]:
    """Say for each bundle what will become of its traces."""
    from sensors.mined_bundles import SENSOR, mined_bundles, mining_run, sensor_is_on

    mined, on = mined_bundles(session.instance), sensor_is_on(session.instance)
    said: dict[str, str] = {}
    for bundle in bundles:
        by_hand = f"`mangaassist loop --release-bundle {bundle} --no-deploy`, or the job failure_mining in Dagster"
        run = mining_run(session.instance, bundle)
        if run is not None and not run.is_finished:
            # It may have read the traces before these came.
            said[bundle] = f"run {run.run_id[:8]} is mining it; if traces are missing afterwards: {by_hand}"
        elif bundle in mined:
            said[bundle] = f"was mined before: its new traces are read by nightly_mining, or now by {by_hand}"
        elif run is not None:
            said[bundle] = f"run {run.run_id[:8]} was to mine it and ended {run.status.value}: again by {by_hand}"
        elif on:
            said[bundle] = f"the sensor {SENSOR} mines it at its next look"
        else:
            said[bundle] = f"mined by {by_hand}; `mangaassist dev` does it by itself, which does not run now"
    return said


def render_import(report: dict[str, Any]) -> None:
    """Print what became of the file's traces."""
    keys = ("traces", "written", "completed", "already_there", "in_progress", "duplicate_lines", "spans", "assessments")
    rows = [(key.replace("_", " "), report[key]) for key in keys]
    if report["superseded_assessments"]:
        rows.append(("superseded assessments left out", report["superseded_assessments"]))
    for bundle, traces in report["release_bundles"].items():
        rows += [(f"release bundle {bundle}", traces), ("", report["mining"][bundle])]
    rows += [(f"rejected: {reason}", number) for reason, number in report["rejected_by_reason"].items()]
    terminal = console()
    terminal.print(new_table(f"Traces of {report['file']}", ("what", "number"), rows))
    if report["rejects_file"]:
        terminal.print(f"rejects: {report['rejects_file']}")
