"""How commands are declared: `--home` on each of them, options that several share, expected errors as one line."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import click

from mangaassist_assets.core.environment import ENVIRONMENT_VARIABLE, parse_environment
from mangaassist_assets.core.errors import OperatorError

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
        except Exception as error:
            if (damage := _damaged_database(error)) is None:
                raise
            raise click.ClickException(
                f"a database of the home is damaged ({damage}): `mangaassist doctor` says which file, and what to do"
            ) from error


class Group(_TakesHome, click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type


def _damaged_database(error: BaseException | None) -> str | None:
    """Return what SQLite says where an error comes of a damaged database; it names no file."""
    while error is not None:
        # The classes for a locked or missing one, or a wrong statement, are others.
        if type(error) is sqlite3.DatabaseError:
            return str(error)
        error = error.__cause__ or error.__context__
    return None


def _require_local(command: str) -> None:
    if parse_environment(os.environ.get(ENVIRONMENT_VARIABLE)) != "local":
        raise OperatorError(f"`{command}` works on a local home only, and {ENVIRONMENT_VARIABLE} is aws")
