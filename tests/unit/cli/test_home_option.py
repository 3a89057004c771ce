"""`--home` before and after the name of a command, and which home is taken without it."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from mangaassist_assets.cli.main import main


def paths_of(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            sub = command.get_command(context, name)
            assert sub is not None
            yield from paths_of(sub, (*path, name))


@pytest.mark.parametrize("path", list(paths_of(main)), ids=" ".join)
def test_every_command_takes_it(path):
    ran = CliRunner().invoke(main, [*path, "--home", "anywhere", "--help"])
    assert ran.exit_code == 0, ran.output
    assert "--home TEXT" in ran.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("--home", "named", "datasets", "list"),
        ("datasets", "--home", "named", "list"),
        ("datasets", "list", "--home", "named"),
        ("--home", "other", "datasets", "list", "--home", "named"),
    ],
    ids=" ".join,
)
def test_the_last_one_that_is_given_is_the_home(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MANGAASSIST_HOME", "by-variable")
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 0, ran.output
    assert [path.name for path in tmp_path.iterdir()] == ["named"]


@pytest.mark.parametrize(("variable", "home"), [("by-variable", "by-variable"), (None, ".mangaassist")])
def test_without_it_the_variable_counts_and_then_the_default(tmp_path, monkeypatch, variable, home):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MANGAASSIST_HOME", raising=False)
    if variable:
        monkeypatch.setenv("MANGAASSIST_HOME", variable)
    assert CliRunner().invoke(main, ["datasets", "list"]).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == [home]


def test_a_file_of_traces_is_inspected_without_a_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "traces.jsonl").write_text("{}\n")
    ran = CliRunner().invoke(main, ["traces", "inspect", "traces.jsonl", "--home", "named"])
    assert ran.exit_code == 1  # it holds no turn
    assert [path.name for path in tmp_path.iterdir()] == ["traces.jsonl"]
