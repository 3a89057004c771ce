import os

import pytest

from mangaassist_assets.triggers.knowledge_changes import Fingerprint, KnowledgeState, fingerprint, look


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "returns.md").write_text("Returns are free.")
    (tmp_path / "titles.csv").write_text("title\nLantern Road\n")
    return tmp_path


def put(path, text):
    """Write a file with another time of change than it had, whatever the clock's resolution is."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    os.utime(path, ns=(before + 10**9, before + 10**9))


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: put(folder / "new.md", "new"),
        lambda folder: put(folder / "titles.csv", "title\nSignal Nine!\n"),
        lambda folder: (folder / "titles.csv").unlink(),
        lambda folder: (folder / "titles.csv").rename(folder / "books.csv"),
    ],
    ids=["added", "changed", "deleted", "renamed"],
)
def test_every_change_of_a_file_is_another_fingerprint(folder, change):
    before = fingerprint(folder)
    assert fingerprint(folder) == before
    change(folder)
    assert fingerprint(folder).digest != before.digest


def test_links_are_not_followed_and_odd_names_are_read(folder):
    (folder / "loop").symlink_to(folder)
    (folder / "outside").symlink_to("/")
    (folder / "a\nb\udcff.md").write_text("odd")
    assert fingerprint(folder).files == 5


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        fingerprint(tmp_path / "none")


def looks(*digests, state=None):
    keys = []
    for digest in digests:
        found = look(state, Fingerprint(digest=digest * 64, files=3))
        state = found.state
        keys.append(found.run_key)
    return keys, state


def test_a_change_is_refreshed_when_two_looks_agree_and_once():
    assert looks("a", "a", "b", "b", "b") == (
        [None, None, None, "knowledge-bbbbbbbbbbbbbbbb-1", None],
        KnowledgeState(refreshed="b" * 64, seen="b" * 64, edges=1),
    )


def test_a_folder_that_keeps_changing_is_waited_for():
    assert looks("a", "b", "c", "d", "d")[0] == [None, None, None, None, "knowledge-dddddddddddddddd-1"]


def test_a_change_that_is_taken_back_needs_no_refresh():
    assert looks("a", "b", "a", "a")[0] == [None] * 4


def test_going_back_and_forth_gives_a_run_key_to_every_change():
    keys = [key for key in looks("a", "b", "b", "a", "a", "b", "b")[0] if key]
    assert len(keys) == len(set(keys)) == 3
