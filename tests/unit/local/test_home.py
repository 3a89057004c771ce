from __future__ import annotations

import os
import re
import sqlite3
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mangaassist_assets.local.home import FOLDERS, Home, HomeError


def test_opening_creates_every_folder_and_opening_again_changes_nothing(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "new" / "home")
    (home.store / "kept.txt").write_text("kept")
    again = Home.open(home.root)
    assert again.root == home.root
    assert {entry.name for entry in home.root.iterdir() if entry.is_dir()} == set(FOLDERS)
    assert (home.store / "kept.txt").read_text() == "kept"


def test_a_relative_home_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Home.open("here").root == tmp_path / "here"


def test_a_file_is_refused_as_home(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(HomeError, match="is a file"):
        Home.open(tmp_path / "file")


@pytest.mark.parametrize("name", ["what?", "a#b", "100%", "new\nline"])
def test_a_path_that_breaks_urls_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(HomeError, match="in its path"):
        Home.open(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(HomeError, match=r"not a MangaAssist home.*thesis\.tex"):
        Home.open(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_home_whose_creation_was_cut_off_is_finished(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / ".home.json.abc").write_text("{")
    assert Home.open(tmp_path).logs.is_dir()


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not JSON"), ("[]", "does not describe"), ('{"kind": "mangaassist-home", "schema": 99}', "schema 99")],
)
def test_a_marker_that_says_otherwise_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "home.json").write_text(content)
    with pytest.raises(HomeError, match=message):
        Home.open(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that nobody can write to")
def test_a_place_that_cannot_be_written_is_refused_with_its_reason() -> None:
    with pytest.raises(HomeError, match=r"cannot be used: .*--home"):
        Home.open("/proc/mangaassist-home")


def test_the_pseudonym_key_is_secret_stable_and_different_for_each_home(tmp_path: Path) -> None:
    first, second = Home.open(tmp_path / "a"), Home.open(tmp_path / "b")
    key = first.pseudonym_key()
    assert len(key) == 32
    assert first.pseudonym_key() == key
    assert second.pseudonym_key() != key
    assert (first.root / "pseudonym.key").stat().st_mode & 0o777 == 0o600


def test_processes_that_make_the_key_together_agree_on_it(tmp_path: Path) -> None:
    home = Home.open(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: home.pseudonym_key(), range(16)))
    assert len(keys) == 1


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    home = Home.open(tmp_path)
    home.pseudonym_key()
    (home.root / "pseudonym.key").chmod(0o644)
    with pytest.raises(HomeError, match="chmod 600"):
        home.pseudonym_key()


@pytest.mark.parametrize("content", ["not hexadecimal", "abcd"])
def test_a_damaged_key_is_refused(tmp_path: Path, content: str) -> None:
    home = Home.open(tmp_path)
    home.pseudonym_key()
    (home.root / "pseudonym.key").write_text(content)
    with pytest.raises(HomeError, match="backup"):
        home.pseudonym_key()


def modes(root: Path) -> set[int]:
    """Return what others may do with anything in a folder, and with it."""
    return {stat.S_IMODE(path.lstat().st_mode) & 0o077 for path in (root, *root.rglob("*")) if not path.is_symlink()}


def test_nothing_in_a_home_is_anybody_elses(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        home = Home.open(tmp_path / "home")
        home.pseudonym_key()
        home.access_key()
        home.choose_base_model("packaged-minilm")
        (home.store / "folder").mkdir()
        (home.store / "folder" / "file").write_text("written by this process later on")
        assert modes(home.root) == {0}
        assert home.root.stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


def test_a_home_of_before_that_others_may_read_is_closed_to_them(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        root = tmp_path / "home"
        (root / "mlflow").mkdir(parents=True)
        root.chmod(0o755)
        (root / "home.json").write_text('{"kind": "mangaassist-home", "schema": 1}')
        (root / "mlflow" / "mlflow.db").write_bytes(b"")
        (root / "run.sh").write_text("")
        (root / "run.sh").chmod(0o755)
        outside = tmp_path / "outside"
        outside.write_text("")
        (root / "link").symlink_to(outside)
        assert modes(root) != {0}
        Home.open(root)
        assert modes(root) == {0}
        assert (root / "run.sh").stat().st_mode & 0o700 == 0o700
        assert outside.stat().st_mode & 0o077 == 0o044
    finally:
        os.umask(before)


def test_the_access_key_is_secret_stable_and_different_for_each_home(tmp_path: Path) -> None:
    first, second = Home.open(tmp_path / "a"), Home.open(tmp_path / "b")
    key = first.access_key()
    assert key == Home.open(first.root).access_key()
    assert key != second.access_key()
    assert re.fullmatch(r"[A-Z0-9]{32,128}", key)
    assert first.access_key_file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "test", "lower" * 10, "KEY " * 20])
def test_an_access_key_that_is_none_or_that_others_may_read_is_refused(tmp_path: Path, content: str) -> None:
    home = Home.open(tmp_path)
    home.access_key_file.write_text(content)
    with pytest.raises(HomeError, match="does not hold an access key"):
        home.access_key()
    home.access_key_file.chmod(0o644)
    with pytest.raises(HomeError, match="may be read by other users, so others may use the services"):
        home.access_key()


@pytest.mark.parametrize(
    ("name", "advice"), [("mlflow/mlflow.db", "restore it from a backup"), ("dagster/history/runs.db", "move it away")]
)
def test_a_damaged_database_is_named_with_what_it_holds_and_what_to_do(tmp_path: Path, name: str, advice: str) -> None:
    home = Home.open(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with sqlite3.connect(tmp_path / "whole.db") as whole:
        whole.execute("create table t (x)")
    home.require_readable()
    path.write_bytes((tmp_path / "whole.db").read_bytes())
    home.require_readable()
    path.write_bytes(b"\0" * 8192)
    with pytest.raises(HomeError, match=rf"{path.name} is no SQLite database any more.*{advice}"):
        home.require_readable()
