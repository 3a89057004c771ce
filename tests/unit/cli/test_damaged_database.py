"""A damaged database is one line and the command that finds the file, whichever library stumbled over it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import click
import pytest
import sqlalchemy
from click.testing import CliRunner

from mangaassist_assets.cli.options import Command


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    path = tmp_path / "runs.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE t (a TEXT)")
    database.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 100)
    database.commit()
    database.close()
    data = path.read_bytes()
    path.write_bytes(data[:4096] + bytes(range(256)) * ((len(data) - 4096) // 256))
    return path


def run(statement: str, path: Path) -> tuple[int, str, BaseException | None]:
    @click.command(cls=Command)
    def read() -> None:
        with sqlalchemy.create_engine(f"sqlite:///{path}").connect() as connection:
            connection.execute(sqlalchemy.text(statement)).fetchall()

    result = CliRunner().invoke(read, [])
    return result.exit_code, result.output, result.exception


def test_a_damaged_database_is_one_line_that_names_the_doctor(damaged):
    code, output, _ = run("SELECT * FROM t", damaged)
    assert code == 1
    assert output.startswith("Error: a database of the home is damaged (database disk image is malformed)")
    assert "`mangaassist doctor`" in output
    assert output.count("\n") == 1


def test_a_wrong_statement_is_no_damage(damaged):
    _, _, error = run("SELECT * FROM missing", damaged)
    assert isinstance(error, sqlalchemy.exc.OperationalError)
