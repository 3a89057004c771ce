"""`mangaassist redact` and `mangaassist erase-user`: personal data in a text, and all data of one user.

`redact` shows the redacted text and where placeholders stand, never what was found. `erase-user` removes a user
from every store, reads all of them again, and reports what must be made again and which models learned from them.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mangaassist_assets.cli.options import FILE, Command, json_option
from mangaassist_assets.cli.output import console, emit, new_table, say
from mangaassist_assets.cli.session import CommandError, Session, open_session

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.privacy import Vocabulary
    from mangaassist_assets.tracing.person_marks import PersonMarks
    from mangaassist_assets.tracing.purging import HoldingSnapshot

_STYLES = {"NAME": "black on cyan", "PROFILE": "black on magenta", "ADDRESS": "black on green"}
_EVENTS = 200
_OTHER_STYLE = "black on yellow"


@click.command(cls=Command)
@click.argument("text", required=False)
@click.option("--file", type=FILE, help="Redact the lines of a file; without text and file, standard input.")
@click.option("--vocabulary", type=FILE, help="Titles, characters, authors, one a line: no personal data.")
@json_option
def redact(text: str | None, file: Path | None, vocabulary: Path | None, *, as_json: bool) -> None:
    """Show what redaction would do to a text: placeholders for what is personal, never the values found."""
    if text is not None and file is not None:
        raise click.UsageError("give a text or --file, not both")
    if text is not None:
        lines = [text]
    else:
        data = sys.stdin.buffer.read() if file is None else file.read_bytes()
        lines = data.decode("utf-8-sig", errors="replace").splitlines()
    words = [] if vocabulary is None else vocabulary.read_text("utf-8-sig", errors="replace").splitlines()
    emit(run_redact(lines, vocabulary=words), render_redact, as_json=as_json)


@click.command("erase-user", cls=Command)
@click.option("--user-key", help="The user's pseudonym; without it the store's id is asked for, or read from a pipe.")
@json_option
@click.pass_obj
def erase_user(home: str | None, user_key: str | None, *, as_json: bool) -> None:
    """Remove a user from every store and read all again; list what must be made again, and models to train again."""
    user_id: str | None = None
    if user_key is None:
        # Never an option: arguments are seen in process lists and kept by shells.
        typed = click.prompt("User id", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline()
        user_id = typed.strip() or None
    with open_session(home, say, services=("mlflow",), imports=()) as session:
        report = run_erasure(session, user_id=user_id, user_key=user_key)
    emit(report, render_erasure, as_json=as_json)


def run_redact(lines: Iterable[str], *, vocabulary: Iterable[str] = ()) -> dict[str, Any]:
    """Redact texts one by one and say what was found where; phrases of the vocabulary are no personal data.

    Returns:
        `messages`, each with the redacted `text`, the `counts` of its kinds, `found` (kind, start and end in characters
        of the text as given) and `placeholders` (the same in the redacted text); `counts` over all, and how many
        messages were `changed`. The values found are in none of them. A value that only shows once another one is
        replaced counts, and has a placeholder, but no place in `found`.
    """
    from mangaassist_assets.privacy import Vocabulary

    phrases = Vocabulary(vocabulary)
    words = phrases if len(phrases) else None
    # Bytes that are no UTF-8 arrive as half characters, which no terminal or file takes: each becomes a question mark.
    clean = (line.rstrip("\r\n").encode("utf-8", "replace").decode("utf-8") for line in lines)
    messages = [_message(line, words) for line in clean]
    total: Counter[str] = Counter()
    for message in messages:
        total.update(message["counts"])
    return {
        "messages": messages,
        "counts": dict(sorted(total.items())),
        "changed": sum(bool(message["counts"]) for message in messages),
    }


def _message(text: str, vocabulary: Vocabulary | None) -> dict[str, Any]:
    from mangaassist_assets.privacy import find_personal_data, redact
    from mangaassist_assets.privacy.folding import PLACEHOLDER

    redacted = redact(text, vocabulary=vocabulary)
    return {
        "text": redacted.text,
        "counts": dict(redacted.counts),
        "found": [
            {"kind": str(one.kind), "start": one.start, "end": one.end}
            for one in find_personal_data(text, vocabulary=vocabulary)
        ],
        "placeholders": [
            {"kind": match.group(1), "start": match.start(), "end": match.end()}
            for match in PLACEHOLDER.finditer(redacted.text)
        ],
    }


def render_redact(report: dict[str, Any]) -> None:
    """Print the redacted texts with their placeholders highlighted, then what was found how often."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for message in report["messages"]:
        line = Text(_printable(message["text"]))
        for place in message["placeholders"]:
            line.stylize(_STYLES.get(place["kind"], _OTHER_STYLE), place["start"], place["end"])
        console.print(line)
    counts = ", ".join(f"{kind} {count}" for kind, count in report["counts"].items()) or "nothing personal found"
    changed = f"{report['changed']} of {len(report['messages'])} messages changed"
    console.print(Text(f"{counts} ({changed})", style="dim"))


def _printable(text: str) -> str:
    """Return a text that moves no cursor and keeps its length: control characters and broken ones as a dot."""
    return "".join(character if character.isprintable() or character == "\n" else "·" for character in text)


def run_erasure(session: Session, *, user_id: str | None = None, user_key: str | None = None) -> dict[str, Any]:
    """Erase one user and return the report, which is also kept in the store.

    The report is made after every store was read again. Killed and run again it goes on where it was.

    Args:
        session: The open session.
        user_id: The store's own id; it becomes a pseudonym with the key of the installation and goes nowhere else.
        user_key: The pseudonym, where that is known; one of the two is given.

    Raises:
        CommandError: neither or both are given.
        InvalidUserKeyError: the key is no pseudonym.
        ErasureIncompleteError: something still answers to the user.
    """
    from mangaassist_assets.lineage.caches import MessageVectors, TrainingScratch
    from mangaassist_assets.lineage.personal_data import personal_data_lineage
    from mangaassist_assets.privacy import pseudonym
    from mangaassist_assets.retrieval.stored_knowledge import read_vocabulary
    from mangaassist_assets.tracing.erasure import UnfinishedErasure, erase_user, find_marks, record_erasure
    from resources.mlflow.personal_data import MlflowRunFiles, MlflowTrainingRecords

    if (user_id is None) == (user_key is None):
        raise CommandError("name one user: an id on standard input, or a pseudonym with --user-key")
    resources = session.resources
    secret = resources.privacy.pseudonym_key()
    key = user_key if user_key is not None else pseudonym(str(user_id), secret)
    store, mlflow = resources.store, resources.mlflow
    snapshots, feedback, turns = store.snapshots(), store.feedback_ingestion(), store.trace_ingestion_table()
    now = datetime.now(UTC)
    requested_at = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    record_erasure(snapshots, key, requested_at=requested_at)
    session.progress(f"looking for what belongs to {key}")
    traces = mlflow.user_traces(
        secret, mapping=resources.trace_mapping.mapping(), vocabulary=read_vocabulary(snapshots)
    )
    marks = find_marks(key, store=snapshots, feedback=feedback, traces=traces, turns=turns)
    experiments = [mlflow.ensure_experiment(one) for one in (mlflow.training_experiment, mlflow.evaluation_experiment)]
    records = MlflowTrainingRecords(mlflow.client(), experiments[0])
    # Before anything goes: dataset versions that are purged say nothing of whose data they held any more.
    lineage = personal_data_lineage(snapshots, [key], trace_ids=marks.trace_ids, records=records).to_dict()
    unfinished = UnfinishedErasure.of(snapshots, key)
    known = {name: unfinished.note(name, values) for name, values in lineage.items()}
    session.progress(f"erasing {key}: {len(marks.trace_ids)} traces")
    report = erase_user(
        marks,
        requested_at=requested_at,
        store=snapshots,
        feedback=feedback,
        traces=traces,
        tables={"ingested_traces": turns, "warehouse": resources.warehouse.open()},
        others=(
            MessageVectors(store.embedding_cache()),
            TrainingScratch(store.cache("training")),
            MlflowRunFiles(mlflow.client(), experiments),
        ),
    )
    result = {**report.to_dict(), "lineage": known, "dagster_runs": _runs_that_show(session, marks, report.snapshots)}
    result["report_file"] = _keep(snapshots, key, result, now=now)
    unfinished.forget()
    return result


def _runs_that_show(session: Session, marks: PersonMarks, purged: Iterable[HoldingSnapshot]) -> list[str]:
    """Return the Dagster runs whose pages still show something of the person: of purged assets, in their metadata."""
    import dagster as dg

    places = sorted({(one.name, one.partition) for one in purged}, key=str)
    found: set[str] = set()
    for asset, partition in places if session.instance is not None else ():
        asked = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=None if partition is None else [partition])
        cursor, more = None, True
        while more:
            page = session.instance.fetch_materializations(asked, limit=_EVENTS, cursor=cursor)
            cursor, more = page.cursor, page.has_more
            for record in page.records:
                made = record.asset_materialization
                shown = {} if made is None else {name: str(value.value) for name, value in made.metadata.items()}
                if marks.are_in(json.dumps(shown, ensure_ascii=False).encode(), quoted=True):
                    found.add(record.run_id)
    return sorted(found)


def render_erasure(report: dict[str, Any]) -> None:
    """Print what was removed, what must be made again, and what was made of the user's data before."""
    rows = (
        ("requested", report["requested_at"]),
        ("feedback events removed", report["events_removed"]),
        *((f"rows removed from {name}", rows) for name, rows in report["rows_removed"].items()),
        *((f"removed from {name}", count) for name, count in report["removed"].items()),
        ("MLflow traces deleted", report["traces_deleted"]),
        ("read again, without an answer", ", ".join(report["verified"])),
    )
    terminal = console()
    terminal.print(new_table(f"Erased {report['user_key']}", ("what", "is"), rows))
    if again := report["materialize_again"]:
        title = "Materialize again: what these assets had held data of the user"
        terminal.print(new_table(title, ("asset", "release bundle"), ((name, part or "–") for name, part in again)))
    if report["snapshots"]:
        terminal.print(f"{len(report['snapshots'])} snapshots were purged; --json lists them.")
    else:
        terminal.print("No snapshot held data of the user.")
    _print_lineage(report["lineage"])
    if runs := report["dagster_runs"]:
        terminal.print(
            f"The pages of {len(runs)} Dagster runs show something the user said; delete them with "
            f"`dagster run delete`: {', '.join(runs)}",
            markup=False,
        )
    terminal.print(f"report: {report['report_file']}", markup=False)


def _print_lineage(lineage: dict[str, Any]) -> None:
    terminal = console()
    if lineage["versions"]:
        columns = ("version", "dataset", "release bundle", "examples", "labels that rest on theirs", "")
        rows = (
            (
                one["version"][:12],
                one["asset"],
                one["release_bundle"],
                ", ".join(f"{side} {count}" for side, count in one["by_split"].items()) or "none",
                len(one["rest_on"]),
                "latest" if one["latest"] else "",
            )
            for one in lineage["versions"]
        )
        terminal.print(new_table("Dataset versions that held the user's data", columns, rows, whole="version"))
    if lineage["models"]:
        names = ("model", "version", "aliases", "used the user's data for", "MLflow run", "")
        made = (
            (
                one["model"] or "nothing registered",
                one["version"] or "–",
                ", ".join(one["aliases"]) or "–",
                one["use"],
                one["run_id"],
                "train again" if one["train_again"] else "",
            )
            for one in lineage["models"]
        )
        terminal.print(new_table("Models that were made of them", names, made))
    if not lineage["versions"]:
        terminal.print("No dataset version held the user's data.")


def _keep(snapshots: SnapshotStore, user_key: str, result: dict[str, Any], *, now: datetime) -> str:
    """Write the report beside the snapshots, for the auditor; it names the pseudonym and nothing else of the user."""
    from mangaassist_assets.core.files import write_whole

    folder = snapshots.root / "erasure_reports"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{user_key}-{now:%Y%m%dT%H%M%S%fZ}.json"
    write_whole(path, json.dumps({"schema": 1, **result}, indent=2, sort_keys=True).encode())
    return str(path)
