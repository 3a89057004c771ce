"""What commands print with: progress on standard error, a result as JSON or as tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def say(line: str) -> None:
    """Print one line of progress on standard error."""
    click.echo(line, err=True)


def emit(value: dict[str, Any], render: Callable[[dict[str, Any]], None], *, as_json: bool) -> None:
    """Print a result: JSON for programs, tables for people."""
    if as_json:
        click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))
    else:
        render(value)


def console() -> Console:
    """Return the terminal; figures and names in a text get no colours of their own."""
    from rich.console import Console

    return Console(highlight=False)


def new_table(title: str, *columns: str, whole: str | None = None) -> Table:
    """Return an empty table.

    Args:
        title: Its title.
        columns: Its columns; long cells are folded.
        whole: The column whose cells are never folded, because people copy them.
    """
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", expand=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == whole)
    return table


def add_row(table: Table, *cells: str) -> None:
    """Add a row of plain texts: a name from a trace may hold what rich takes for markup."""
    from rich.text import Text

    table.add_row(*(Text(cell) for cell in cells))


def figure(value: float | None, digits: int = 3) -> str:
    """Return a figure as a cell."""
    return "–" if value is None else f"{value:.{digits}f}"


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
