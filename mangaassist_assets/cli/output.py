"""What commands print with: progress on standard error, a result as JSON or as tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
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


def new_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    whole: str | None = None,
    narrow: bool = False,
) -> Table:
    """Return a table; cells are shown as they are, for a name from a trace may hold what rich takes for markup.

    Long cells are folded, but not those of the column `whole`, which people copy. A `narrow` table has no lines between
    its columns.
    """
    from rich.box import HEAVY_HEAD, SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    box = SIMPLE_HEAD if narrow else HEAVY_HEAD
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=box)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == whole)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return table


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
