"""`mangaassist labels`: the review queue as a file, other tools' labels back into MLflow, and what waits."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from mangaassist_assets.cli.commands.label_acceptance import accept_intent, accept_reviewer, intents, labelling_policy
from mangaassist_assets.cli.options import FILE, Group, json_option
from mangaassist_assets.cli.output import console, emit, new_table, say
from mangaassist_assets.cli.session import CommandError, Session, open_session, open_store

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.tracing.contract.turns import ChatTurn

FileFormat = Literal["csv", "jsonl"]
_SHOWN = 20
_FORMAT = click.Choice(["csv", "jsonl"])


@click.group(cls=Group)
def labels() -> None:
    """Labels: the review queue as a file and the answers back; intents that wait, and reviewers."""


@labels.command("export")
@click.option("--release-bundle", required=True, help="A bundle that was mined.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The .csv or .jsonl file.")
@click.option("--format", "file_format", type=_FORMAT, help="Only where the file's name does not say it.")
@click.option("--replace", is_flag=True, help="Write over a file that is there, and over the answers in it.")
@json_option
@click.pass_obj
def _export(home: str | None, /, *, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - of `run_export`
    """Write the traces that are worth a review to a file, redacted, with empty columns for the answers."""
    emit(run_export(open_store(home), **options), render_export, as_json=as_json)


@labels.command("import")
@click.argument("file", type=FILE)
@click.option("--release-bundle", required=True, help="The bundle that the labelled traces belong to.")
@click.option("--format", "file_format", type=_FORMAT, help="Only where the file's name does not say it.")
@click.option(
    "--new-intent",
    "new_intents",
    multiple=True,
    help="An intent that is not known yet. Where intents are declared it waits until it is accepted.",
)
@click.option("--dry-run", is_flag=True, help="Only say what is in the file.")
@json_option
@click.pass_obj
def _import(home: str | None, /, *, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - of `run_import`
    """Put people's labels on their traces as expectations; bad rows are listed, the rest counts.

    Exit code 1 if the file has rows that are no labels.
    """
    with open_session(home, say, services=("mlflow",), imports=()) as session:
        report = run_import(session, **options)
    emit(report, render_import, as_json=as_json)
    if report["problems"]:
        raise SystemExit(1)


for _command in (intents, accept_intent, accept_reviewer):
    labels.add_command(_command)


def format_of(file: Path, chosen: FileFormat | None) -> FileFormat:
    """Return the format of a file: the chosen one, or what its name says.

    Raises:
        CommandError: the name says nothing known.
    """
    if chosen is not None:
        return chosen
    suffix = file.suffix.lower()
    if suffix == ".csv":
        return "csv"
    if suffix in (".jsonl", ".ndjson"):
        return "jsonl"
    msg = f"{file.name} does not say its format: name it .csv or .jsonl, or give --format"
    raise CommandError(msg)


def run_export(
    store: SnapshotStore,
    *,
    release_bundle: str,
    out: Path,
    file_format: FileFormat | None = None,
    replace: bool = False,
) -> dict[str, Any]:
    """Write the review queue of a bundle to a file and return the report.

    Raises:
        CommandError: the file is there already, for somebody may have filled it in, or cannot be written.
        SnapshotMissingError: the bundle was not mined.
    """
    from upath import UPath

    from mangaassist_assets.core.files import write_whole
    from mangaassist_assets.labelling.queue.export import export_rows, to_csv, to_jsonl
    from mangaassist_assets.labelling.queue.stored_queue import QUEUE_ASSET, QUEUE_FILE, queue_of
    from mangaassist_assets.labelling.reviews import read_turns_to_label
    from mangaassist_assets.mining.tracking.cluster_files import read_clusters
    from mangaassist_assets.retrieval.stored_knowledge import read_vocabulary

    chosen = format_of(out, file_format)
    if out.exists() and not replace:
        msg = f"{out} is there already and may hold answers: import it, name another file, or give --replace"
        raise CommandError(msg)
    stored = store.latest(QUEUE_ASSET, partition=release_bundle)
    items = queue_of(store.read(stored, QUEUE_FILE)).items
    clusters = read_clusters(store, release_bundle)
    wanted = {item.trace_id for item in items}.union(*(cluster.trace_ids for cluster in clusters))
    turns = {turn.trace_id: turn for turn in read_turns_to_label(store, release_bundle, wanted)}
    rows = export_rows(
        items,
        turns,
        {cluster.cluster_id: cluster.trace_ids for cluster in clusters},
        vocabulary=read_vocabulary(store),
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(UPath(out), to_csv(rows) if chosen == "csv" else to_jsonl(rows))
    except OSError as error:
        msg = f"{out} cannot be written: {error.strerror}"
        raise CommandError(msg) from error
    return {
        "release_bundle": release_bundle,
        "file": str(out),
        "format": chosen,
        "rows": len(rows),
        "traces_gone": len(items) - len(rows),
        "known_intents": sorted(_known_intents(store, turns.values())),
    }


def run_import(
    session: Session,
    *,
    release_bundle: str,
    file: Path,
    file_format: FileFormat | None = None,
    new_intents: Sequence[str] = (),
    dry_run: bool = False,
) -> dict[str, Any]:
    """Put the labels of a file on their traces as human expectations and return the report; safe to run again.

    Raises:
        CommandError: the file cannot be read.
        LabelFileError: the file is too large, no UTF-8, or its columns are missing.
        SnapshotMissingError: the bundle was not mined.
    """
    from mangaassist_assets.labelling.intent_names import plain_name
    from mangaassist_assets.labelling.queue.label_import import KnownAnswers, read_labels
    from mangaassist_assets.labelling.reviews import read_turns_to_label
    from mangaassist_assets.tracing.ingestion.stored_turns import read_turn_frame
    from resources.mlflow.assessments.reviews import MlflowLabelRecorder

    chosen = format_of(file, file_format)
    store = session.resources.store.snapshots()
    trace_ids = read_turn_frame(store, release_bundle, columns=["trace_id"])["trace_id"].to_list()
    reviewed = read_turns_to_label(store, release_bundle, ())
    try:
        content = file.read_bytes()
    except OSError as error:
        msg = f"{file} cannot be read: {error.strerror}"
        raise CommandError(msg) from error
    found = read_labels(
        content,
        file_format=chosen,
        known=KnownAnswers(
            trace_ids=trace_ids,
            intents=sorted({*_known_intents(store, reviewed), *map(plain_name, new_intents)}),
            documents=_documents(store),
        ),
        now_ms=round(time.time() * 1000),
    )
    report = {
        "release_bundle": release_bundle,
        "file": str(file),
        "format": chosen,
        "labels": len(found.labels),
        "unanswered": found.unanswered,
        "duplicates": found.duplicates,
        "contradictions": list(found.contradictions),
        "problems": [{"line": one.line, "reason": one.reason} for one in found.problems],
        "dry_run": dry_run,
    }
    if dry_run:
        return report
    session.progress(f"{file.name}: {len(found.labels)} labels, {len(found.problems)} problems; writing")
    recorded = MlflowLabelRecorder(*session.resources.mlflow.traces()).record(found.labels)
    return {
        **report,
        "added": recorded.added,
        "found_on_traces": recorded.found,
        "outdated": recorded.outdated,
        "traces_gone": list(recorded.gone),
    }


def _known_intents(store: SnapshotStore, turns: Iterable[ChatTurn]) -> set[str]:
    from mangaassist_assets.datasets.sources.training_corpus import messages_by_intent, read_corpus
    from mangaassist_assets.labelling.known_intents import known_intents
    from mangaassist_assets.labelling.people.policy import heard_turns

    corpus, policy = read_corpus(store) if store.find("training_corpus") else [], labelling_policy(store)
    return set(known_intents(messages_by_intent(corpus), heard_turns(list(turns), policy), policy))


def _documents(store: SnapshotStore) -> set[str]:
    from mangaassist_assets.retrieval.stored_knowledge import read_chunks

    if store.find("knowledge_chunks") is None:
        return set()
    return {chunk.document_id for chunk in read_chunks(store)}


def render_export(report: dict[str, Any]) -> None:
    """Print where the queue is and how to answer it."""
    terminal = console()
    terminal.print(f"{report['rows']} traces to review in {report['file']}", markup=False)
    if report["traces_gone"]:
        terminal.print(f"{report['traces_gone']} queued traces are gone and left out")
    terminal.print(
        "Fill in intent, documents (separated by ;), labeller and labelled_at, then: mangaassist labels import"
    )
    if report["known_intents"]:
        terminal.print(f"Known intents: {', '.join(report['known_intents'])}", markup=False)


def render_import(report: dict[str, Any]) -> None:
    """Print what became of the file's rows, the problems by line."""
    rows = [
        *((key, report[key]) for key in ("labels", "unanswered", "duplicates")),
        ("problems", len(report["problems"])),
        ("traces on which people in the file disagree", len(report["contradictions"])),
    ]
    if not report["dry_run"]:
        rows += [
            ("answers added", report["added"]),
            ("answers that were there", report["found_on_traces"]),
            ("answers older than a later one of the same person", report["outdated"]),
            ("traces gone", len(report["traces_gone"])),
        ]
    terminal = console()
    terminal.print(new_table(f"Labels of {report['file']}", ("what", "number"), rows))
    for problem in report["problems"][:_SHOWN]:
        terminal.print(f"line {problem['line']}: {problem['reason']}", markup=False)
    if len(report["problems"]) > _SHOWN:
        terminal.print(f"and {len(report['problems']) - _SHOWN} more; --json lists all")
    if report["dry_run"]:
        terminal.print("nothing was written: this was a dry run")
