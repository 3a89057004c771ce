"""The command line. Reads options, calls `commands`, prints; nothing else belongs here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import click

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_HOME = ".mangaassist"
JSON_HELP = "Print one JSON object on standard output; progress still goes to standard error."
_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, readable=True, path_type=Path)


def say(line: str) -> None:
    """Print one line of progress on standard error."""
    click.echo(line, err=True)


def emit(value: dict[str, Any], render: Callable[[dict[str, Any]], None], *, as_json: bool) -> None:
    """Print a result: JSON for programs, tables for people."""
    if as_json:
        click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))
    else:
        render(value)


def _expected_errors() -> tuple[type[Exception], ...]:
    """Errors that say what the person at the terminal can do; anything else is a defect and keeps its traceback."""
    from mangaassist_assets.chatbot.documents import ConfigurationDocumentError
    from mangaassist_assets.chatbot.simulation import LostTracesError, SimulationError
    from mangaassist_assets.commands.session import CommandError
    from mangaassist_assets.datasets.stored_versions import UnknownVersionError
    from mangaassist_assets.datasets.utterances import UtteranceFileError
    from mangaassist_assets.knowledge.errors import KnowledgeError
    from mangaassist_assets.labelling.label_import import LabelFileError
    from mangaassist_assets.landing import LandingConflictError
    from mangaassist_assets.learning.artifacts import ArtifactMismatchError
    from mangaassist_assets.local.home import HomeError
    from mangaassist_assets.local.ports import PortInUseError
    from mangaassist_assets.local.supervisor import SupervisorError
    from mangaassist_assets.storage import SnapshotMissingError
    from mangaassist_assets.tracing.contract import InvalidBundleError
    from mangaassist_assets.tracing.erasure import InvalidUserKeyError
    from mangaassist_assets.tracing.importing.files import ImportFileError
    from mangaassist_assets.tracing.importing.running import ImportIncompleteError
    from resources.app_config import ConfigurationNotDeployedError
    from resources.aws import DeadlineExceededError
    from resources.endpoints import EndpointDeploymentError
    from resources.feedback_delivery import DeliveryUrlError
    from resources.feedback_stream import FeedbackNotPublishedError
    from resources.mlflow_registry import RegistryError
    from resources.trace_sink import TraceExportError

    return (
        ArtifactMismatchError,
        CommandError,
        ConfigurationDocumentError,
        ConfigurationNotDeployedError,
        DeadlineExceededError,
        DeliveryUrlError,
        EndpointDeploymentError,
        FeedbackNotPublishedError,
        HomeError,
        ImportFileError,
        ImportIncompleteError,
        InvalidBundleError,
        InvalidUserKeyError,
        KnowledgeError,
        LabelFileError,
        LandingConflictError,
        LostTracesError,
        PortInUseError,
        RegistryError,
        SimulationError,
        SnapshotMissingError,
        SupervisorError,
        TraceExportError,
        UnknownVersionError,
        UtteranceFileError,
    )


def _explained(command: Callable[P, R]) -> Callable[P, R]:
    """Turn expected errors into one clear line and exit code 1."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except _expected_errors() as error:
            raise click.ClickException(str(error)) from error

    return run


@contextmanager
def _bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal; elsewhere one line every tenth of the way."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(title, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)
        return
    said = [-1]

    def line(done: int, total: int) -> None:
        tenth = 10 * done // max(total, 1)
        if tenth > said[0]:
            said[0] = tenth
            say(f"{title}: {done} of {total}")

    yield line


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--home",
    default=DEFAULT_HOME,
    envvar="MANGAASSIST_HOME",
    show_default=True,
    help="Folder that holds all local state: servers' data, models, datasets, logs.",
)
@click.version_option(package_name="mangaassist-assets")
@click.pass_context
def main(context: click.Context, home: str) -> None:
    """Turn the failures of a shopping chatbot into better models, and prove where every answer came from.

    Start with `mangaassist demo`. Commands start the local servers they need and stop them afterwards; keep them
    running with `mangaassist up`, or with `mangaassist dev` to see everything in Dagster.
    """
    context.obj = home


@main.command()
@click.option("--mlflow-port", type=click.IntRange(1, 65535), help="Port of the MLflow server; a free one by default.")
@click.option("--ministack-port", type=click.IntRange(1, 65535), help="Port of MiniStack (Kinesis, AppConfig, S3).")
@click.option("--sagemaker-port", type=click.IntRange(1, 65535), help="Port of the local SageMaker.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@_explained
def up(
    home: str, mlflow_port: int | None, ministack_port: int | None, sagemaker_port: int | None, *, as_json: bool
) -> None:
    """Start MLflow, MiniStack and the local SageMaker in the foreground; Ctrl-C stops them."""
    from mangaassist_assets.commands.serve import serve_stand_ins

    ports = {"mlflow": mlflow_port, "ministack": ministack_port, "sagemaker": sagemaker_port}
    serve_stand_ins(home, ports={name: port for name, port in ports.items() if port}, progress=say, as_json=as_json)


@main.command()
@click.option("--dagster-port", type=click.IntRange(1, 65535), help="Port of the Dagster page; a free one by default.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@_explained
def dev(home: str, dagster_port: int | None, *, as_json: bool) -> None:
    """Start everything, with Dagster's page, sensors and schedules, in the foreground; Ctrl-C stops it."""
    from mangaassist_assets.commands.serve import serve_with_dagster

    serve_with_dagster(home, dagster_port=dagster_port, progress=say, as_json=as_json)


@main.command()
@click.option("--training", type=_FILE, required=True, help="JSON lines of labelled messages for the first champions.")
@click.option("--knowledge", type=_FOLDER, required=True, help="Folder of .md, .txt, .html, .csv, .jsonl documents.")
@click.option("--golden", type=_FILE, help="JSON lines like those of --training that nothing is ever trained on.")
@click.option("--replace-golden", is_flag=True, help="Let --golden take the place of the golden set in use.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@_explained
def bootstrap(
    home: str, training: Path, knowledge: Path, golden: Path | None, *, replace_golden: bool, as_json: bool
) -> None:
    """First champion models, first index generation, AppConfig profiles, endpoints."""
    from mangaassist_assets.commands.bootstrap import run_bootstrap
    from mangaassist_assets.commands.render import render_bootstrap
    from mangaassist_assets.commands.session import open_session

    with open_session(home, say) as session:
        report = run_bootstrap(
            session, training=training, knowledge=knowledge, golden=golden, replace_golden=replace_golden
        )
    emit(report.to_dict(), render_bootstrap, as_json=as_json)


@main.command()
@click.option("--utterances", type=_FILE, required=True, help="JSON lines of messages; only `text` is required.")
@click.option("--release-bundle", required=True, help="The bundle the traffic belongs to, such as 2026.03.24-rc2.")
@click.option(
    "--label-rate",
    type=click.FloatRange(0, 1),
    default=0.3,
    show_default=True,
    help="Share of failing turns that a human reviews.",
)
@click.option(
    "--feedback-noise",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="Share of turns that a shopper misjudges.",
)
@click.option("--limit", type=click.IntRange(1), help="Drive only the first so many messages.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the simulated people.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@_explained
def simulate(
    home: str,
    utterances: Path,
    release_bundle: str,
    label_rate: float,
    feedback_noise: float,
    limit: int | None,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Drive the chatbot with messages; simulated shoppers press thumbs, reviewers label some failing turns."""
    from mangaassist_assets.commands.render import render_simulation
    from mangaassist_assets.commands.session import open_session
    from mangaassist_assets.commands.simulate import run_simulation

    with open_session(home, say) as session, _bar(f"simulating {release_bundle}") as progress:
        report = run_simulation(
            session,
            utterances=utterances,
            release_bundle=release_bundle,
            label_rate=label_rate,
            feedback_noise=feedback_noise,
            limit=limit,
            seed=seed,
            progress=progress,
        )
    emit(report, render_simulation, as_json=as_json)


@main.command()
@click.option("--release-bundle", required=True, help="The bundle to learn from.")
@click.option(
    "--no-deploy", is_flag=True, help="Mine, train and judge, but leave champions, endpoints and the live index."
)
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@_explained
def loop(home: str, release_bundle: str, *, no_deploy: bool, as_json: bool) -> None:
    """One turn of the loop: failures, clusters, datasets, challengers, gates, deployment, index, manifest.

    Exit code 0 when everything ran, whatever the gates said; 1 when something failed.
    """
    from mangaassist_assets.commands.loop import run_loop
    from mangaassist_assets.commands.render import render_loop
    from mangaassist_assets.commands.session import open_session

    with open_session(home, say) as session:
        report = run_loop(session, release_bundle=release_bundle, deploy=not no_deploy)
    emit(report.to_dict(), render_loop, as_json=as_json)
    if not report.succeeded:
        raise SystemExit(1)


@main.group()
def evaluate() -> None:
    """Score one registered model on a file of labelled messages."""


def _model_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--json", "as_json", is_flag=True, help=JSON_HELP),
        click.option(
            "--model", default="champion", show_default=True, help="champion, challenger, or a version number."
        ),
        click.option("--data", type=_FILE, required=True, help="JSON lines of labelled messages."),
    ):
        command = option(command)
    return command


@evaluate.command("intent")
@_model_options
@click.pass_obj
@_explained
def evaluate_intent(home: str, data: Path, model: str, *, as_json: bool) -> None:
    """Accuracy, macro F1 and every intent's precision and recall of an intent classifier."""
    from mangaassist_assets.commands.evaluate import evaluate_intent as run
    from mangaassist_assets.commands.render import render_intent_evaluation
    from mangaassist_assets.commands.session import open_session

    with open_session(home, say) as session:
        figures = run(session, data=data, model=model)
    emit(figures, render_intent_evaluation, as_json=as_json)


@evaluate.command("reranker")
@_model_options
@click.pass_obj
@_explained
def evaluate_reranker(home: str, data: Path, model: str, *, as_json: bool) -> None:
    """MRR@10 and nDCG@10 on the live index: the retriever alone, and after reranking."""
    from mangaassist_assets.commands.evaluate import evaluate_reranker as run
    from mangaassist_assets.commands.render import render_reranker_evaluation
    from mangaassist_assets.commands.session import open_session

    with open_session(home, say) as session:
        figures = run(session, data=data, model=model)
    emit(figures, render_reranker_evaluation, as_json=as_json)


@main.command()
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@_explained
def demo(home: str, *, as_json: bool) -> None:
    """An invented manga store through two release bundles of the loop, then a report of what changed and why."""
    from mangaassist_assets.commands.demo import run_demo
    from mangaassist_assets.commands.render import render_demo
    from mangaassist_assets.commands.session import open_session

    with open_session(home, say) as session, _bar("simulating") as progress:
        report = run_demo(session, progress=progress)
    emit(report, render_demo, as_json=as_json)
    if report["errors"]:
        raise SystemExit(1)


@main.group()
def datasets() -> None:
    """Dataset versions: list them, show what one is made of, make one again."""


@datasets.command("list")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@_explained
def list_datasets(home: str, *, as_json: bool) -> None:
    """Every stored version with its bundle, as-of time and counts."""
    from mangaassist_assets.commands.datasets import list_datasets as run
    from mangaassist_assets.commands.datasets import render_list, store_of

    emit(run(store_of(home)), render_list, as_json=as_json)


@datasets.command("show")
@click.argument("version")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@_explained
def show_dataset(home: str, version: str, *, as_json: bool) -> None:
    """The data card of a version, named by its first digits; exit code 1 if it is damaged."""
    from mangaassist_assets.commands.datasets import render_show, store_of
    from mangaassist_assets.commands.datasets import show_dataset as run

    report = run(store_of(home), version)
    emit(report, render_show, as_json=as_json)
    if report["problems"]:
        raise SystemExit(1)


@datasets.command("rebuild")
@click.argument("version")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@_explained
def rebuild_dataset(home: str, version: str, *, as_json: bool) -> None:
    """Make a version again from its recorded inputs and compare every byte; exit code 1 if it is not the same."""
    from mangaassist_assets.commands.datasets import rebuild_dataset as run
    from mangaassist_assets.commands.datasets import render_rebuild, store_of

    report = run(store_of(home), version)
    emit(report, render_rebuild, as_json=as_json)
    if report["outcome"] != "identical":
        raise SystemExit(1)


@main.group()
def labels() -> None:
    """Labels of other tools: the review queue as a file, and the answers back."""


_FORMAT = click.Choice(["csv", "jsonl"])


@labels.command("export")
@click.option("--release-bundle", required=True, help="A bundle that was mined.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The .csv or .jsonl file.")
@click.option("--format", "file_format", type=_FORMAT, help="Only where the file's name does not say it.")
@click.option("--replace", is_flag=True, help="Write over a file that is there, and over the answers in it.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@_explained
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
    from mangaassist_assets.commands.datasets import store_of
    from mangaassist_assets.commands.labels import render_export, run_export

    report = run_export(
        store_of(home), release_bundle=release_bundle, out=out, file_format=file_format, replace=replace
    )
    emit(report, render_export, as_json=as_json)


@labels.command("import")
@click.argument("file", type=_FILE)
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
@_explained
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
    from mangaassist_assets.commands.labels import render_import, run_import
    from mangaassist_assets.commands.session import open_session

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


@main.command("erase-user")
@click.option("--user-key", help="The user's pseudonym; without it the store's id is asked for, or read from a pipe.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@_explained
def erase_user(home: str, user_key: str | None, *, as_json: bool) -> None:
    """Remove a user from feedback and traces; list what must be made again, and which models learned from the user."""
    from mangaassist_assets.commands.erase_user import render, run_erasure
    from mangaassist_assets.commands.session import open_session

    user_id: str | None = None
    if user_key is None:
        # Never an option: arguments are seen in process lists and kept by shells.
        typed = click.prompt("User id", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline()
        user_id = typed.strip() or None
    with open_session(home, say) as session:
        report = run_erasure(session, user_id=user_id, user_key=user_key)
    emit(report, render, as_json=as_json)


@main.command()
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
@_explained
def report(home: str, release_bundle: str, kind: Literal["all", "satisfaction", "usage"], *, as_json: bool) -> None:
    """How satisfied shoppers are with one release bundle, and what its turns took and cost."""
    from mangaassist_assets.commands.report import render_report, run_report
    from mangaassist_assets.commands.session import open_session

    with open_session(home, say) as session:
        reports = run_report(session, release_bundle=release_bundle, kind=kind)
    emit(reports, render_report, as_json=as_json)


@main.command("import-traces")
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@_explained
def import_traces(home: str, file: Path, *, as_json: bool) -> None:
    """Import traces: JSON lines of MLflow traces or OTLP JSON, plain or .gz; what is there is not written twice."""
    from mangaassist_assets.commands.import_traces import render, run_import
    from mangaassist_assets.commands.session import open_session

    with open_session(home, say) as session, _bar(f"importing {file.name}") as progress:
        report = run_import(session, file=file, progress=progress)
    emit(report, render, as_json=as_json)


@main.command("redact")
@click.argument("text", required=False)
@click.option("--file", type=_FILE, help="Redact the lines of a file; without text and file, standard input.")
@click.option("--vocabulary", type=_FILE, help="Titles, characters, authors, one a line: no personal data.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def redact_command(text: str | None, file: Path | None, vocabulary: Path | None, *, as_json: bool) -> None:
    """Show what redaction would do to a text: placeholders for what is personal, never the values found."""
    from mangaassist_assets.commands.redact import render_redact, run_redact_lines

    if text is not None and file is not None:
        raise click.UsageError("give a text or --file, not both")
    if text is not None:
        lines = [text]
    else:
        data = sys.stdin.buffer.read() if file is None else file.read_bytes()
        lines = data.decode("utf-8-sig", errors="replace").splitlines()
    words = [] if vocabulary is None else vocabulary.read_text("utf-8-sig", errors="replace").splitlines()
    emit(run_redact_lines(lines, vocabulary=words), render_redact, as_json=as_json)
