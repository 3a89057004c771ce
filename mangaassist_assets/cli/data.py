"""The commands on data: datasets, labels, reports, imported traces, redaction, erasure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click

from mangaassist_assets.cli.output import FILE, JSON_HELP, emit, explained, progress_bar, say

_FORMAT = click.Choice(["csv", "jsonl"])


@click.group()
def datasets() -> None:
    """Dataset versions: list them, show what one is made of, make one again."""


@datasets.command("list")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@explained
def list_datasets(home: str, *, as_json: bool) -> None:
    """Every stored version with its bundle, as-of time and counts."""
    from mangaassist_assets.cli.commands.datasets import list_datasets as run
    from mangaassist_assets.cli.commands.datasets import render_list, store_of

    emit(run(store_of(home)), render_list, as_json=as_json)


@datasets.command("show")
@click.argument("version")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@explained
def show_dataset(home: str, version: str, *, as_json: bool) -> None:
    """The data card of a version, named by its first digits; exit code 1 if it is damaged."""
    from mangaassist_assets.cli.commands.datasets import render_show, store_of
    from mangaassist_assets.cli.commands.datasets import show_dataset as run

    report = run(store_of(home), version)
    emit(report, render_show, as_json=as_json)
    if report["problems"]:
        raise SystemExit(1)


@datasets.command("rebuild")
@click.argument("version")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@explained
def rebuild_dataset(home: str, version: str, *, as_json: bool) -> None:
    """Make a version again from its recorded inputs and compare every byte; exit code 1 if it is not the same."""
    from mangaassist_assets.cli.commands.datasets import rebuild_dataset as run
    from mangaassist_assets.cli.commands.datasets import render_rebuild, store_of

    report = run(store_of(home), version)
    emit(report, render_rebuild, as_json=as_json)
    if report["outcome"] != "identical":
        raise SystemExit(1)


@click.group()
def labels() -> None:
    """Labels of other tools: the review queue as a file, and the answers back."""


@labels.command("export")
@click.option("--release-bundle", required=True, help="A bundle that was mined.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The .csv or .jsonl file.")
@click.option("--format", "file_format", type=_FORMAT, help="Only where the file's name does not say it.")
@click.option("--replace", is_flag=True, help="Write over a file that is there, and over the answers in it.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@explained
def export_labels(
    home: str,
    release_bundle: str,
    out: Path,
    file_format: Literal["csv", "jsonl"] | None,
    *,
    replace: bool,
    as_json: bool,
) -> None:
    """Write the traces that are worth a review to a file, redacted, with empty columns for the answers."""
    from mangaassist_assets.cli.commands.datasets import store_of
    from mangaassist_assets.cli.commands.labels import render_export, run_export

    report = run_export(
        store_of(home), release_bundle=release_bundle, out=out, file_format=file_format, replace=replace
    )
    emit(report, render_export, as_json=as_json)


@labels.command("import")
@click.argument("file", type=FILE)
@click.option("--release-bundle", required=True, help="The bundle that the labelled traces belong to.")
@click.option("--format", "file_format", type=_FORMAT, help="Only where the file's name does not say it.")
@click.option(
    "--new-intent",
    "new_intents",
    multiple=True,
    help="An intent that is not known yet; counts once three messages name it.",
)
@click.option("--dry-run", is_flag=True, help="Only say what is in the file.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@explained
def import_labels(
    home: str,
    file: Path,
    release_bundle: str,
    file_format: Literal["csv", "jsonl"] | None,
    new_intents: tuple[str, ...],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put people's labels on their traces as expectations; bad rows are listed, the rest counts.

    Exit code 1 if the file has rows that are no labels.
    """
    from mangaassist_assets.cli.commands.labels import render_import, run_import
    from mangaassist_assets.cli.session import open_session

    with open_session(home, say) as session:
        report = run_import(
            session,
            release_bundle=release_bundle,
            file=file,
            file_format=file_format,
            new_intents=new_intents,
            dry_run=dry_run,
        )
    emit(report, render_import, as_json=as_json)
    if report["problems"]:
        raise SystemExit(1)


@click.command("erase-user")
@click.option("--user-key", help="The user's pseudonym; without it the store's id is asked for, or read from a pipe.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@explained
def erase_user(home: str, user_key: str | None, *, as_json: bool) -> None:
    """Remove a user from feedback and traces; list what must be made again, and which models learned from the user."""
    from mangaassist_assets.cli.commands.erase_user import render, run_erasure
    from mangaassist_assets.cli.session import open_session

    user_id: str | None = None
    if user_key is None:
        # Never an option: arguments are seen in process lists and kept by shells.
        typed = click.prompt("User id", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline()
        user_id = typed.strip() or None
    with open_session(home, say) as session:
        report = run_erasure(session, user_id=user_id, user_key=user_key)
    emit(report, render, as_json=as_json)


@click.command()
@click.option("--release-bundle", required=True, help="A bundle that was mined.")
@click.option(
    "--kind",
    type=click.Choice(["all", "satisfaction", "usage"]),
    default="all",
    show_default=True,
    help="Which report.",
)
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@explained
def report(home: str, release_bundle: str, kind: Literal["all", "satisfaction", "usage"], *, as_json: bool) -> None:
    """How satisfied shoppers are with one release bundle, and what its turns took and cost."""
    from mangaassist_assets.cli.commands.report import render_report, run_report
    from mangaassist_assets.cli.session import open_session

    with open_session(home, say) as session:
        reports = run_report(session, release_bundle=release_bundle, kind=kind)
    emit(reports, render_report, as_json=as_json)


@click.command("import-traces")
@click.argument("file", type=FILE)
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@explained
def import_traces(home: str, file: Path, *, as_json: bool) -> None:
    """Import traces: JSON lines of MLflow traces or OTLP JSON, plain or .gz; what is there is not written twice."""
    from mangaassist_assets.cli.commands.import_traces import render, run_import
    from mangaassist_assets.cli.session import open_session

    with open_session(home, say) as session, progress_bar(f"importing {file.name}") as progress:
        report = run_import(session, file=file, progress=progress)
    emit(report, render, as_json=as_json)


@click.command("redact")
@click.argument("text", required=False)
@click.option("--file", type=FILE, help="Redact the lines of a file; without text and file, standard input.")
@click.option("--vocabulary", type=FILE, help="Titles, characters, authors, one a line: no personal data.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def redact_command(text: str | None, file: Path | None, vocabulary: Path | None, *, as_json: bool) -> None:
    """Show what redaction would do to a text: placeholders for what is personal, never the values found."""
    from mangaassist_assets.cli.commands.redact import render_redact, run_redact_lines

    if text is not None and file is not None:
        raise click.UsageError("give a text or --file, not both")
    if text is not None:
        lines = [text]
    else:
        data = sys.stdin.buffer.read() if file is None else file.read_bytes()
        lines = data.decode("utf-8-sig", errors="replace").splitlines()
    words = [] if vocabulary is None else vocabulary.read_text("utf-8-sig", errors="replace").splitlines()
    emit(run_redact_lines(lines, vocabulary=words), render_redact, as_json=as_json)


@click.group()
def traces() -> None:
    """Traces: what the platform reads of them."""


@traces.command("inspect")
@click.argument("target", metavar="FILE|TRACE_ID")
@click.option("--mapping", type=FILE, help="A mapping file to try; by default the one in MANGAASSIST_TRACE_MAPPING.")
@click.option("--limit", type=click.IntRange(min=1), default=200, show_default=True, help="Traces of a file to read.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@explained
def inspect_traces(home: str, target: str, mapping: Path | None, limit: int, *, as_json: bool) -> None:
    """What is read from which place, what is missing, and lines of a mapping for what nothing reads.

    A file needs no server; a trace id is looked up on the tracking server of the home. Exit code 1 if no trace is a
    turn.
    """
    from mangaassist_assets.cli.commands.traces import render_inspect, run_inspect

    report = run_inspect(home, target, mapping=mapping, limit=limit, say=say)
    emit(report, render_inspect, as_json=as_json)
    if not report["turns"]:
        raise SystemExit(1)


DATA_COMMANDS: tuple[click.Command, ...] = (
    datasets,
    labels,
    erase_user,
    report,
    import_traces,
    traces,
    redact_command,
)
