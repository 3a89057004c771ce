"""`mangaassist import-traces`: traces of other tools and servers, from a file into the experiment of traces."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from mangaassist_assets.cli.options import FILE, Command, json_option
from mangaassist_assets.cli.output import console, emit, new_table, progress_bar, say
from mangaassist_assets.cli.session import CommandError, Session, open_session

if TYPE_CHECKING:
    from mangaassist_assets.tracing.importing.import_run import ImportCounts
    from mangaassist_assets.tracing.importing.parsing import ImportReject
    from mangaassist_assets.tracing.importing.spool import Spool
    from resources.mlflow.traces.importer import MlflowTraceStore

_SAY_EVERY = 1_000
_SAY_REJECTS = 5


@click.command("import-traces", cls=Command)
@click.argument("file", type=FILE)
@json_option
@click.pass_obj
def import_traces(home: str | None, file: Path, *, as_json: bool) -> None:
    """Import traces: JSON lines of MLflow traces or OTLP JSON, plain or .gz; what is there is not written twice."""
    session_of_mlflow = open_session(home, say, services=("mlflow",), imports=())
    with session_of_mlflow as session, progress_bar(f"importing {file.name}") as progress:
        report = run_import(session, file=file, progress=progress)
    emit(report, render, as_json=as_json)


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


def render(report: dict[str, Any]) -> None:
    """Print what became of the file's traces."""
    table = new_table(f"Traces of {report['file']}", "what", "number")
    for key in ("traces", "written", "completed", "already_there", "in_progress", "duplicate_lines", "spans"):
        table.add_row(key.replace("_", " "), str(report[key]))
    table.add_row("assessments", str(report["assessments"]))
    if report["superseded_assessments"]:
        table.add_row("superseded assessments left out", str(report["superseded_assessments"]))
    for bundle, traces in report["release_bundles"].items():
        table.add_row(f"release bundle {bundle}", str(traces))
        table.add_row("", report["mining"][bundle])
    for reason, number in report["rejected_by_reason"].items():
        table.add_row(f"rejected: {reason}", str(number))
    terminal = console()
    terminal.print(table)
    if report["rejects_file"]:
        terminal.print(f"rejects: {report['rejects_file']}")
