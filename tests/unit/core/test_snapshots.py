import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from mangaassist_assets.core import snapshots
from mangaassist_assets.core.files import write_whole
from mangaassist_assets.core.snapshots import (
    SnapshotDamagedError,
    SnapshotMissingError,
    SnapshotStore,
    UnsafeNameError,
    content_digest,
)
from tests.support.examples import examples


@pytest.fixture
def store(tmp_path):
    return SnapshotStore(UPath(tmp_path))


def test_what_was_written_is_read_back(store):
    written = store.write("turns", {"turns.parquet": b"abc", "card.json": b"{}"}, partition="2026.03.24-rc2")
    found = store.latest("turns", partition="2026.03.24-rc2")
    assert found.digest == written.digest
    assert store.read(found, "turns.parquet") == b"abc"


def test_the_same_content_is_the_same_snapshot(store):
    first = store.write("turns", {"a": b"1"})
    store.write("turns", {"a": b"2"})
    again = store.write("turns", {"a": b"1"})
    assert again.digest == first.digest
    assert store.latest("turns").digest == first.digest


def test_partitions_do_not_see_each_other(store):
    store.write("turns", {"a": b"1"}, partition="one")
    assert store.find("turns", partition="two") is None
    assert store.find("turns") is None
    assert list(store.partitions("turns")) == ["one"]


def test_a_missing_snapshot_says_what_to_materialize(store):
    with pytest.raises(SnapshotMissingError, match=r"'turns' for partition 'one': materialize"):
        store.latest("turns", partition="one")


def test_a_changed_file_is_refused(store):
    snapshot = store.write("turns", {"a": b"1"})
    (UPath(snapshot.uri) / "a").write_bytes(b"2")
    with pytest.raises(SnapshotDamagedError, match="materialize 'turns' again"):
        store.read(snapshot, "a")


def test_a_write_killed_before_the_pointer_leaves_the_older_snapshot(store, monkeypatch):
    store.write("turns", {"a": b"1"})

    def dies(path, data):
        if "LATEST" in path.name:
            raise KeyboardInterrupt
        write_whole(path, data)

    monkeypatch.setattr(snapshots, "write_whole", dies)
    with pytest.raises(KeyboardInterrupt):
        store.write("turns", {"a": b"2"})
    monkeypatch.undo()
    assert store.read(store.latest("turns"), "a") == b"1"


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a..b", "x" * 129, "a\x00b", "a\n"])
def test_names_that_could_leave_the_folder_are_refused(store, name):
    with pytest.raises(UnsafeNameError):
        store.write("turns", {"a": b"1"}, partition=name)
    with pytest.raises(UnsafeNameError):
        store.write("turns", {name: b"1"})


@settings(max_examples=examples(50), deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.binary(max_size=64), min_size=1))
def test_the_digest_depends_on_names_and_content_alone(files):
    shuffled = dict(reversed(list(files.items())))
    assert content_digest(files) == content_digest(shuffled)
    changed = {**files, next(iter(files)): next(iter(files.values())) + b"x"}
    assert content_digest(changed) != content_digest(files)


def test_the_pointer_is_plain_json(store, tmp_path):
    store.write("turns", {"a": b"1"}, partition="one")
    pointer = json.loads((tmp_path / "snapshots" / "turns" / "one" / "LATEST.json").read_text())
    assert pointer["partition"] == "one"


def test_the_history_has_older_snapshots_of_all_partitions_and_none_that_a_killed_writer_left(store, tmp_path):
    assert list(store.history("turns")) == []
    first = store.write("turns", {"a": b"1"}, partition="one")
    second = store.write("turns", {"a": b"2"}, partition="one")
    other = store.write("turns", {"a": b"1"}, partition="two")
    whole = store.write("turns", {"a": b"1"})
    (tmp_path / "snapshots" / "turns" / "one" / ("ab" * 12)).mkdir()
    (tmp_path / "snapshots" / "turns" / "never-finished" / ("ab" * 12)).mkdir(parents=True)
    history = list(store.history("turns"))
    assert {(one.partition, one.digest) for one in history} == {
        (one.partition, one.digest) for one in (first, second, other, whole)
    }
    assert [store.read(one, "a") for one in history if one == first] == [b"1"]
    assert list(store.history("turns")) == history


def test_a_snapshot_is_found_by_its_digest_after_newer_ones_until_its_files_change(store, tmp_path):
    first = store.write("turns", {"a": b"1"}, partition="one")
    store.write("turns", {"a": b"2"}, partition="one")
    assert store.find_digest("turns", partition="one", digest=first.digest) == first
    assert store.find_digest("turns", partition=None, digest=first.digest) is None
    assert store.find_digest("turns", partition="one", digest=first.digest[:24] + "0" * 40) is None
    (tmp_path / "snapshots" / "turns" / "one" / first.digest[:24] / "a").write_bytes(b"3")
    assert store.find_digest("turns", partition="one", digest=first.digest) is None


def test_the_folders_are_all_there_are_and_say_which_one_is_the_latest(store, tmp_path):
    assert list(store.folders("turns")) == []
    older = store.write("turns", {"a": b"1"})
    newer = store.write("turns", {"a": b"2"})
    (tmp_path / "snapshots" / "turns" / "never-finished" / "half").mkdir(parents=True)
    found = {(one.partition, one.path.name): (one.complete, one.latest) for one in store.folders("turns")}
    assert found == {
        (None, older.digest[:24]): (True, False),
        (None, newer.digest[:24]): (True, True),
        ("never-finished", "half"): (False, False),
    }
