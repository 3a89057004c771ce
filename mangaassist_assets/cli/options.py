"""How commands are declared: `--home` on each of them, options that several share, expected errors as one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from mangaassist_assets.core.environment import ENVIRONMENT_VARIABLE, OperatorError, parse_environment

FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, readable=True, path_type=Path)

json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object on standard output; progress still goes to standard error.",
)


def _take_home(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.obj = value


class _TakesHome(click.Command):
    """Takes `--home`, which any command of a chain may have; the last one counts. `context.obj` is None without it."""

    def __init__(self, *args: Any, **keywords: Any) -> None:  # noqa: ANN401 - click's own parameters
        super().__init__(*args, **keywords)
        self.params.append(
            click.Option(
                ["--home"],
                expose_value=False,
                callback=_take_home,
                help="Folder that holds all local state: servers' data, models, datasets, logs.  "
                "[default: MANGAASSIST_HOME, else .mangaassist]",
            )
        )


class Command(_TakesHome):
    """A command whose expected errors are one line and exit code 1.

    Args:
        local_only: It works on a local home only, and refuses the environment `aws`.
    """

    def __init__(self, *args: Any, local_only: bool = False, **keywords: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*args, **keywords)
        self._local_only = local_only

    def invoke(self, context: click.Context) -> Any:  # noqa: ANN401 - whatever the command returns
        """Run the command."""
        try:
            if self._local_only:
                _require_local(context.command_path)
            return super().invoke(context)
        except OperatorError as error:
            raise click.ClickException(str(error)) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if isinstance(error, _expected_errors()):
                raise click.ClickException(str(error)) from error
            raise


class Group(_TakesHome, click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type


def _require_local(command: str) -> None:
    if parse_environment(os.environ.get(ENVIRONMENT_VARIABLE)) != "local":
        raise OperatorError(f"`{command}` works on a local home only, and {ENVIRONMENT_VARIABLE} is aws")


def _expected_errors() -> tuple[type[Exception], ...]:
    """Errors that say what the person at the terminal can do; anything else is a defect and keeps its traceback."""
    from mangaassist_assets.chatbot.configuration.fields import ConfigurationDocumentError
    from mangaassist_assets.chatbot.simulation import LostTracesError, SimulationError
    from mangaassist_assets.core.bundles import InvalidBundleError
    from mangaassist_assets.core.ingestion_tables import IngestionConflictError
    from mangaassist_assets.core.snapshots import SnapshotMissingError
    from mangaassist_assets.datasets.sources.json_lines import UtteranceFileError
    from mangaassist_assets.datasets.versions.stored_versions import UnknownVersionError
    from mangaassist_assets.labelling.queue.label_import import LabelFileError
    from mangaassist_assets.models.artifacts import ArtifactMismatchError
    from mangaassist_assets.models.registration.registry import RegistryError
    from mangaassist_assets.retrieval.errors import KnowledgeError
    from mangaassist_assets.tracing.erasure import InvalidUserKeyError
    from mangaassist_assets.tracing.importing.import_run import ImportIncompleteError
    from mangaassist_assets.tracing.importing.parsing import ImportFileError
    from mangaassist_assets.tracing.reading.mapping import TraceMappingError
    from resources.aws.app_config import ConfigurationNotDeployedError
    from resources.aws.clients import DeadlineExceededError
    from resources.aws.endpoints import EndpointDeploymentError
    from resources.feedback.feedback_stream import FeedbackNotPublishedError
    from resources.feedback.firehose_delivery import DeliveryUrlError
    from resources.mlflow.traces.sink import TraceExportError
    from resources.settings.privacy import PseudonymKeyError

    return (
        ArtifactMismatchError,
        ConfigurationDocumentError,
        ConfigurationNotDeployedError,
        DeadlineExceededError,
        DeliveryUrlError,
        EndpointDeploymentError,
        FeedbackNotPublishedError,
        ImportFileError,
        ImportIncompleteError,
        IngestionConflictError,
        InvalidBundleError,
        InvalidUserKeyError,
        KnowledgeError,
        LabelFileError,
        LostTracesError,
        PseudonymKeyError,
        RegistryError,
        SimulationError,
        SnapshotMissingError,
        TraceExportError,
        TraceMappingError,
        UnknownVersionError,
        UtteranceFileError,
    )
