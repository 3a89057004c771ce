import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from mangaassist_assets.core import snapshots
from mangaassist_assets.core.files import DamagedFileError, write_whole
from mangaassist_assets.core.snapshots import (
    Origin,
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
    assert found == written
    assert store.read(found, "turns.parquet") == b"abc"


def test_the_same_content_is_the_same_snapshot(store):
    first = store.write("turns", {"a": b"1"})
    store.write("turns", {"a": b"2"})
    again = store.write("turns", {"a": b"1"})
    assert again.digest == first.digest
    assert store.latest("turns").digest == first.digest
    assert store.write("turns", {"a": b"1"}) == again


def test_a_record_says_what_a_snapshot_was_made_of_and_by(store):
    origin = Origin(inputs={"knowledge_chunks": "ab" * 32}, settings={"page": 5}, code_version="3", run_id="run-1")
    written = store.write("turns", {"a": b"1"}, origin=origin)
    assert store.latest("turns").origin == origin
    record = json.loads(UPath(written.uri).read_text())
    assert (record["asset"], record["inputs"], record["run_id"]) == ("turns", dict(origin.inputs), "run-1")


def test_each_run_leaves_a_record_of_its_own_and_one_that_is_repeated_none(store):
    first, second = (Origin(run_id=f"run-{number}") for number in (1, 2))
    store.write("turns", {"a": b"1"}, origin=first)
    made = store.write("turns", {"a": b"1"}, origin=second)
    assert store.write("turns", {"a": b"1"}, origin=second) == made
    assert [one.origin.run_id for one in store.records("turns")] == ["run-2", "run-1"]
    assert store.newest_number("turns") == 2
    assert len(list(store.history("turns"))) == 1


def test_content_is_stored_once(store, tmp_path):
    store.write("turns", {"a": b"1", "b": b"2"})
    store.write("turns", {"a": b"1", "b": b"3"})
    store.write("failures", {"other": b"1"}, partition="one")
    assert sorted(path.read_bytes() for path in (tmp_path / "blobs").rglob("*") if path.is_file()) == [b"1", b"2", b"3"]


def test_writers_at_once_lose_nothing(store):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.write("turns", {"a": str(number).encode()}), range(24)))
    assert [one.number for one in store.records("turns")] == list(range(24, 0, -1))
    assert {store.read(one, "a") for one in store.records("turns")} == {str(number).encode() for number in range(24)}


def test_partitions_do_not_see_each_other(store):
    store.write("turns", {"a": b"1"}, partition="one")
    assert store.find("turns", partition="two") is None
    assert store.find("turns") is None
    assert list(store.partitions("turns")) == ["one"]


def test_a_missing_snapshot_says_what_to_materialize(store):
    with pytest.raises(SnapshotMissingError, match=r"'turns' for partition 'one': materialize"):
        store.latest("turns", partition="one")


def test_a_changed_file_is_refused_and_mended_by_writing_it_again(store):
    snapshot = store.write("turns", {"a": b"1"})
    store.path(snapshot, "a").write_bytes(b"2")
    with pytest.raises(SnapshotDamagedError, match="materialize 'turns' again"):
        store.read(snapshot, "a")
    assert store.defects(snapshot) == ["a"]
    store.write("turns", {"a": b"1"})
    assert store.read(snapshot, "a") == b"1"


def test_a_write_killed_before_its_record_leaves_the_older_snapshot(store, monkeypatch):
    store.write("turns", {"a": b"1"})

    def dies(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(snapshots, "create_whole", dies)
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


def test_the_history_has_older_snapshots_of_all_partitions_each_content_once(store, tmp_path):
    assert list(store.history("turns")) == []
    first = store.write("turns", {"a": b"1"}, partition="one")
    second = store.write("turns", {"a": b"2"}, partition="one")
    back = store.write("turns", {"a": b"1"}, partition="one")
    other = store.write("turns", {"a": b"1"}, partition="two")
    whole = store.write("turns", {"a": b"1"})
    (tmp_path / "snapshots" / "turns" / "never-finished").mkdir(parents=True)
    assert list(store.history("turns")) == [whole, second, back, other]
    assert store.find_digest("turns", partition="one", digest=first.digest) == back
    assert store.find_digest("turns", partition="two", digest=second.digest) is None


def test_a_purged_snapshot_keeps_its_record_and_says_why(store):
    store.write("turns", {"a": b"1"}, partition="one")
    newest = store.write("turns", {"a": b"2"}, partition="one")
    marked = store.rewrite_record(newest, purged="a user was erased")
    assert store.find("turns", partition="one") is None
    with pytest.raises(SnapshotMissingError, match=r"purged \(a user was erased\): materialize"):
        store.latest("turns", partition="one")
    assert [one.purged for one in store.records("turns", partition="one")] == ["a user was erased", None]
    assert newest.digest not in {one.digest for one in store.history("turns")}
    store.path(marked, "a").unlink()
    with pytest.raises(SnapshotDamagedError, match="a user was erased"):
        store.read(marked, "a")


def _old(folder, name, files):
    place = folder / name
    place.mkdir(parents=True)
    for file, data in files.items():
        (place / file).write_bytes(data)


def test_snapshots_of_before_there_was_provenance_are_taken_over_once(store, tmp_path):
    folder = tmp_path / "snapshots" / "turns" / "one"
    older, newer = {"a": b"1", "b": b"2"}, {"a": b"1", "b": b"3"}
    for files in (older, newer):
        _old(folder, content_digest(files)[:24], files)
    _old(folder, "ab" * 12, {"a": b"half"})
    write_whole(folder / "LATEST.json", json.dumps({"digest": content_digest(newer)}).encode())
    assert store.read(store.latest("turns", partition="one"), "b") == b"3"
    assert [one.digest for one in store.history("turns")] == [content_digest(older), content_digest(newer)]
    assert sorted(path.name for path in folder.iterdir()) == ["00000001.json", "00000002.json"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"digest": "d"}'])
def test_a_damaged_record_is_named_with_what_to_do(tmp_path, content):
    store = SnapshotStore(UPath(tmp_path))
    store.write("asset", {"a": b"1"})
    written = store.write("asset", {"a": b"2"})
    path = UPath(written.uri)
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"00000002\.json, the record of a snapshot, .*materialize asset again"):
        store.latest("asset")
    path.unlink()
    assert store.read(store.latest("asset"), "a") == b"1"
