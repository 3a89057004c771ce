"""`mangaassist redact` and `mangaassist erase-user`: personal data in a text, and all data of one user.

`redact` shows the redacted text and where placeholders stand, never what was found. `erase-user` removes a user from
feedback and traces, and reports what still holds their data: what must be made again, dataset versions and models.
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

_STYLES = {"NAME": "black on cyan", "PROFILE": "black on magenta", "ADDRESS": "black on green"}
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
    emit(run_redact_lines(lines, vocabulary=words), render_redact, as_json=as_json)


@click.command("erase-user", cls=Command)
@click.option("--user-key", help="The user's pseudonym; without it the store's id is asked for, or read from a pipe.")
@json_option
@click.pass_obj
def erase_user(home: str | None, user_key: str | None, *, as_json: bool) -> None:
    """Remove a user from feedback and traces; list what must be made again, and the models trained on their data."""
    user_id: str | None = None
    if user_key is None:
        # Never an option: arguments are seen in process lists and kept by shells.
        typed = click.prompt("User id", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline()
        user_id = typed.strip() or None
    with open_session(home, say, services=("mlflow",), imports=()) as session:
        report = run_erasure(session, user_id=user_id, user_key=user_key)
    emit(report, render_erasure, as_json=as_json)


def run_redact(text: str, *, vocabulary: Iterable[str] = (), conversation: bytes | None = None) -> dict[str, Any]:
    """Redact one text; see `run_redact_lines`."""
    return run_redact_lines([text], vocabulary=vocabulary, conversation=conversation)


def run_redact_lines(
    lines: Iterable[str], *, vocabulary: Iterable[str] = (), conversation: bytes | None = None
) -> dict[str, Any]:
    """Redact texts one by one and say what was found where.

    Args:
        lines: The texts; line ends are cut off.
        vocabulary: Titles, characters and authors that are no personal data.
        conversation: Key of one conversation (`conversation_key`), for placeholders that stay the same in it.

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
    messages = [_message(line, words, conversation) for line in clean]
    total: Counter[str] = Counter()
    for message in messages:
        total.update(message["counts"])
    return {
        "messages": messages,
        "counts": dict(sorted(total.items())),
        "changed": sum(bool(message["counts"]) for message in messages),
    }


def _message(text: str, vocabulary: Vocabulary | None, conversation: bytes | None) -> dict[str, Any]:
    from mangaassist_assets.privacy import find_personal_data, redact
    from mangaassist_assets.privacy.folding import PLACEHOLDER

    redacted = redact(text, conversation=conversation, vocabulary=vocabulary)
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
    """Erase one user and return the report, which is also kept in the store; safe to run again.

    Args:
        session: The open session.
        user_id: The store's own id; it becomes a pseudonym with the key of the installation and goes nowhere else.
        user_key: The pseudonym, where that is known; one of the two is given.

    Raises:
        CommandError: neither or both are given.
        InvalidUserKeyError: the key is no pseudonym.
    """
    from mangaassist_assets.lineage.personal_data import personal_data_lineage
    from mangaassist_assets.privacy import pseudonym
    from mangaassist_assets.tracing.erasure import erase_user, trace_ids_in_snapshots
    from resources.mlflow.personal_data import MlflowTrainingRecords, MlflowUserTraces

    if (user_id is None) == (user_key is None):
        raise CommandError("name one user: an id on standard input, or a pseudonym with --user-key")
    key = user_key if user_key is not None else pseudonym(str(user_id), session.resources.privacy.pseudonym_key())
    store = session.resources.store
    snapshots = store.snapshots()
    mlflow = session.resources.mlflow
    traces = MlflowUserTraces(*mlflow.traces())
    # Before the traces are deleted: they say which labels of other people rest on them.
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
    records = MlflowTrainingRecords(mlflow.client(), mlflow.ensure_experiment(mlflow.training_experiment))
    lineage = personal_data_lineage(snapshots, [key], trace_ids=trace_ids, records=records)
    result = {**report.to_dict(), "lineage": lineage.to_dict()}
    result["report_file"] = _keep(snapshots, key, result, now=now)
    return result


def render_erasure(report: dict[str, Any]) -> None:
    """Print what was removed, what must be made again, and what was made of the user's data before."""
    rows = (
        ("requested", report["requested_at"]),
        ("feedback events removed", report["events_removed"]),
        *((f"rows removed from {name}", rows) for name, rows in report["rows_removed"].items()),
        ("MLflow traces deleted", report["traces_deleted"]),
    )
    terminal = console()
    terminal.print(new_table(f"Erased {report['user_key']}", ("what", "is"), rows))
    latest = [one for one in report["snapshots"] if one["latest"]]
    older = len(report["snapshots"]) - len(latest)
    if latest:
        again = ((one["name"], one["partition"] or "–", ", ".join(one["files"])) for one in latest)
        title = "Materialize again: these still hold data of the user"
        terminal.print(new_table(title, ("asset", "release bundle", "files"), again))
    if older:
        terminal.print(f"{older} older snapshots hold data of the user as well; --json lists them.")
    if not report["snapshots"]:
        terminal.print("No snapshot holds data of the user.")
    _print_lineage(report["lineage"])
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
        terminal.print(new_table("Dataset versions that hold the user's data", columns, rows, whole="version"))
    if lineage["models"]:
        names = ("model", "version", "aliases", "used the user's data for", "MLflow run")
        made = (
            (
                one["model"] or "nothing registered",
                one["version"] or "–",
                ", ".join(one["aliases"]) or "–",
                one["use"],
                one["run_id"],
            )
            for one in lineage["models"]
        )
        terminal.print(new_table("Models that were made of them", names, made))
    if not lineage["versions"]:
        terminal.print("No dataset version holds the user's data.")


def _keep(snapshots: SnapshotStore, user_key: str, result: dict[str, Any], *, now: datetime) -> str:
    """Write the report beside the snapshots, for the auditor; it names the pseudonym and nothing else of the user."""
    from mangaassist_assets.core.files import write_whole

    folder = snapshots.root / "erasure_reports"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{user_key}-{now:%Y%m%dT%H%M%S%fZ}.json"
    write_whole(path, json.dumps({"schema": 1, **result}, indent=2, sort_keys=True).encode())
    return str(path)
