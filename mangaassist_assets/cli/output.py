"""What the commands of the command line share: printing, progress, and how expected errors are told."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

P = ParamSpec("P")
R = TypeVar("R")

JSON_HELP = "Print one JSON object on standard output; progress still goes to standard error."
FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, readable=True, path_type=Path)


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
    from mangaassist_assets.chatbot.configuration.fields import ConfigurationDocumentError
    from mangaassist_assets.chatbot.simulation import LostTracesError, SimulationError
    from mangaassist_assets.cli.session import CommandError
    from mangaassist_assets.core.bundles import InvalidBundleError
    from mangaassist_assets.core.ingestion_tables import IngestionConflictError
    from mangaassist_assets.core.snapshots import SnapshotMissingError
    from mangaassist_assets.datasets.sources.utterances import UtteranceFileError
    from mangaassist_assets.datasets.versions.stored_versions import UnknownVersionError
    from mangaassist_assets.labelling.queue.label_import import LabelFileError
    from mangaassist_assets.local.home import HomeError
    from mangaassist_assets.local.ports import PortInUseError
    from mangaassist_assets.local.supervisor import SupervisorError
    from mangaassist_assets.models.artifacts import ArtifactMismatchError
    from mangaassist_assets.models.registration.registry import RegistryError
    from mangaassist_assets.retrieval.errors import KnowledgeError
    from mangaassist_assets.tracing.contract.mapping import TraceMappingError
    from mangaassist_assets.tracing.erasure import InvalidUserKeyError
    from mangaassist_assets.tracing.importing.files import ImportFileError
    from mangaassist_assets.tracing.importing.import_run import ImportIncompleteError
    from resources.aws.app_config import ConfigurationNotDeployedError
    from resources.aws.clients import DeadlineExceededError
    from resources.aws.endpoints import EndpointDeploymentError
    from resources.feedback.feedback_stream import FeedbackNotPublishedError
    from resources.feedback.firehose_delivery import DeliveryUrlError
    from resources.mlflow.traces.sink import TraceExportError

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
        IngestionConflictError,
        LostTracesError,
        PortInUseError,
        RegistryError,
        SimulationError,
        SnapshotMissingError,
        SupervisorError,
        TraceExportError,
        TraceMappingError,
        UnknownVersionError,
        UtteranceFileError,
    )


def explained(command: Callable[P, R]) -> Callable[P, R]:
    """Turn expected errors into one clear line and exit code 1."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except _expected_errors() as error:
            raise click.ClickException(str(error)) from error

    return run


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
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
