"""What is collected, and above all what is not: whoever writes meanwhile, and wherever the collection is killed."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from mangaassist_assets.core import snapshots as snapshots_module
from mangaassist_assets.core.blobs import drop_blobs, named_blobs, stored_blobs
from mangaassist_assets.core.declared_inputs import Read
from mangaassist_assets.core.retention import (
    RetentionRule,
    RetentionRules,
    RetentionRulesError,
    collect,
    plan_collection,
    read_rules,
)
from mangaassist_assets.core.run_pins import settle_pins
from mangaassist_assets.core.snapshots import Origin, Snapshot, SnapshotStore, input_name
from tests.support.examples import examples

HOUR = timedelta(hours=1)
LATER = datetime.now(UTC) + timedelta(days=40)


def rules(
    newest: int | None = 1, *, days: float = 0, grace: timedelta = HOUR, **assets: RetentionRule
) -> RetentionRules:
    return RetentionRules(
        grace=grace,
        run_age=timedelta(days=60),
        index_generations=2,
        endpoint_configurations=2,
        assets={"*": RetentionRule(newest=newest, days=days), **assets},
    )


@pytest.fixture
def store(tmp_path) -> SnapshotStore:
    return SnapshotStore(UPath(tmp_path))


def made(store: SnapshotStore, name: str, content: bytes, *inputs: Snapshot, partition: str | None = None) -> Snapshot:
    origin = Origin(inputs={input_name(one.name, one.partition): one.digest for one in inputs}, run_id=content.hex())
    return store.write(name, {"file": content, "shared": b"the same in all"}, partition=partition, origin=origin)


def contents(store: SnapshotStore, name: str) -> list[bytes]:
    return [store.read(one, "file") for one in reversed(list(store.records(name))) if not one.purged]


def run(store: SnapshotStore, which: RetentionRules, now: datetime = LATER, **needed: str) -> None:
    collect(store, plan_collection(store, which, needed=needed, now=now))


def why(store: SnapshotStore, which: RetentionRules, *, now: datetime = LATER, **needed: str) -> dict[str, str]:
    planned = plan_collection(store, which, needed=needed, now=now)
    return {store.read(one.snapshot, "file").decode(): one.why for one in planned.kept if not one.snapshot.purged}


def test_the_newest_stay_and_their_files_and_no_others(store):
    for content in (b"1", b"2", b"3"):
        made(store, "turns", content)
    planned = plan_collection(store, rules(2), needed={}, now=LATER)
    assert planned.bytes == 1
    assert planned.bytes_of(planned.gone) == 1
    assert contents(store, "turns") == [b"1", b"2", b"3"]
    collect(store, planned)
    assert contents(store, "turns") == [b"2", b"3"]
    assert len(stored_blobs(store)) == 3


def test_a_file_that_a_kept_snapshot_shares_stays(store):
    made(store, "turns", b"1")
    made(store, "other", b"1")
    made(store, "turns", b"2")
    run(store, rules())
    assert contents(store, "other") == [b"1"]
    assert contents(store, "turns") == [b"2"]


def test_each_partition_and_asset_goes_by_itself_and_by_its_own_rule(store):
    for partition in ("rc1", "rc2"):
        for content in (b"1", b"2"):
            made(store, "turns", content, partition=partition)
            made(store, "overrides", content, partition=partition)
    run(store, rules(1, overrides=RetentionRule(newest=None)))
    assert len(list(store.everything())) == 6


def test_snapshots_of_the_same_content_count_once_and_the_newest_of_them_stays(store):
    for content, number in ((b"1", 1), (b"2", 2), (b"2", 3), (b"2", 4)):
        store.write("turns", {"file": content}, origin=Origin(run_id=str(number)))
    run(store, rules(2))
    assert [one.number for one in store.records("turns")] == [4, 1]


def test_what_a_kept_snapshot_was_made_of_stays_back_to_the_first_input(store):
    chunks, _ = made(store, "chunks", b"c1"), made(store, "chunks", b"c2")
    turns = made(store, "turns", b"t1", chunks, partition="rc1")
    made(store, "turns", b"t2", partition="rc1")
    made(store, "dataset", b"d1", turns)
    made(store, "chunks", b"c3")
    assert why(store, rules()) == {
        "c1": "turns/rc1 was made of it",
        "c3": "the latest",
        "d1": "the latest",
        "t1": "dataset was made of it",
        "t2": "the latest",
    }


def test_rows_of_an_earlier_version_are_an_input_too(store):
    earlier = made(store, "dataset", b"d1", partition="rc1")
    made(store, "dataset", b"d2", partition="rc1")
    store.write("dataset", {"file": b"d3"}, partition="rc2", origin=Origin(inputs={"dataset/rc1@abc": earlier.digest}))
    assert why(store, rules())["d1"] == "dataset/rc2 was made of it"


def test_what_is_needed_from_outside_stays(store):
    first = made(store, "model", b"m1")
    made(store, "model", b"m2")
    assert why(store, rules(), **{first.digest: "the champion stands on it"})["m1"] == "the champion stands on it"


def test_what_is_young_and_what_was_the_latest_until_a_moment_ago_stays(store):
    for content in (b"1", b"2", b"3"):
        made(store, "turns", content)
    soon = datetime.now(UTC) + timedelta(minutes=30)
    assert set(why(store, rules(), now=soon)) == {"1", "2", "3"}
    record = store.root / "snapshots" / "turns" / "_all"
    for number, days in ((1, 50), (2, 40)):
        path = record / f"{number:08d}.json"
        old = {**json.loads(path.read_text()), "committed_at": (soon - timedelta(days=days)).isoformat()}
        path.write_text(json.dumps(old))
    assert set(why(store, rules(), now=soon)) == {"2", "3"}
    assert set(why(store, rules(days=45), now=soon)) == {"2", "3"}
    assert set(why(store, rules(days=55), now=soon)) == {"1", "2", "3"}


def test_what_a_run_pinned_or_made_stays_as_long_as_its_pins_and_the_old_pins_go(store):
    made(store, "turns", b"1")
    made(store, "turns", b"2")
    store.write("failures", {"file": b"f1"}, origin=Origin(run_id="run-1"))
    made(store, "failures", b"f2")
    settle_pins(
        store, "run-1", [Read(asset="turns"), Read(asset="chunks"), Read(asset="labels", bundles="same")], bundle="rc1"
    )
    made(store, "turns", b"3")
    assert why(store, rules()) == {
        "2": "run run-1 reads it",
        "3": "the latest",
        "f1": "run run-1 made it, and may be carried on",
        "f2": "the latest",
    }
    run(store, rules())
    pins = store.root / "runs" / "run-1.json"
    assert pins.exists()
    run(store, rules(), datetime.now(UTC) + timedelta(days=61))
    assert not pins.exists()
    assert contents(store, "turns") == [b"3"]
    assert contents(store, "failures") == [b"f2"]


def test_a_purged_latest_stays_as_its_record_and_no_older_one_takes_its_place(store):
    made(store, "turns", b"1")
    store.rewrite_record(made(store, "turns", b"2"), purged="erasure")
    run(store, rules(0))
    assert store.find("turns") is None
    assert [one.purged for one in store.records("turns")] == ["erasure"]
    assert stored_blobs(store) == {}


def test_what_killed_writers_left_goes_when_it_is_old(store):
    written = made(store, "turns", b"1")
    path = Path(str(store.path(written, "file")))
    left = path.with_name(f".{path.name}.0123abcd")
    left.write_bytes(b"half")
    run(store, rules(), datetime.now(UTC))
    assert left.exists()
    run(store, rules())
    assert not left.exists()
    assert contents(store, "turns") == [b"1"]


def test_a_blob_without_a_record_is_left_alone_while_it_is_young(store):
    made(store, "turns", b"1")
    store._keep_blob("ab" * 32, b"of a writer that has not written its record yet")
    run(store, rules(), datetime.now(UTC))
    assert "ab" * 32 in stored_blobs(store)
    run(store, rules())
    assert "ab" * 32 not in stored_blobs(store)


def test_the_newest_record_cannot_be_dropped(store):
    one = made(store, "turns", b"1")
    with pytest.raises(ValueError, match="the newest"):
        store.drop_record(one)


def test_a_file_that_is_used_again_is_young_again(store):
    path = Path(str(store.path(made(store, "turns", b"1"), "file")))
    os.utime(path, (0, 0))
    made(store, "other", b"1")
    assert path.stat().st_mtime > 0


# Killed anywhere, and beside a writer


class PowerCutError(BaseException):
    pass


@contextmanager
def steps(monkeypatch: pytest.MonkeyPatch, at: Callable[[int], None]) -> Iterator[list[int]]:
    """Call `at` before each change that a collection makes to the disk, with its number."""
    count = [0]

    def step() -> None:
        number = count[0]
        count[0] += 1
        at(number)

    unlink, move = os.unlink, shutil.move

    def counted_unlink(*args, **kw):
        if threading.current_thread() is threading.main_thread():
            step()
        return unlink(*args, **kw)

    def counted_move(*args, **kw):
        step()
        return move(*args, **kw)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", counted_unlink)
        patched.setattr(shutil, "move", counted_move)
        yield count


def whole(store: SnapshotStore) -> None:
    for one in store.everything():
        assert one.purged or store.defects(one) == []
        for entry, digest in () if one.purged else one.origin.inputs.items():
            name, _, partition = entry.partition("@")[0].partition("/")
            assert store.find_digest(name, partition=partition or None, digest=digest) is not None


def a_store(folder: Path) -> SnapshotStore:
    store = SnapshotStore(UPath(folder))
    chunks = [made(store, "chunks", b"c%d" % number) for number in range(4)]
    for number in range(4):
        made(store, "turns", b"t%d" % number, chunks[number % 3], partition="rc1")
    store.rewrite_record(store.find_digest("chunks", partition=None, digest=chunks[3].digest), purged="erasure")
    return store


def test_a_collection_that_is_killed_anywhere_is_finished_by_the_next(tmp_path, monkeypatch):
    def cut_at(limit: int) -> Callable[[int], None]:
        def at(number: int) -> None:
            if number == limit:
                raise PowerCutError

        return at

    expected = a_store(tmp_path / "whole")
    with steps(monkeypatch, lambda _: None) as count:
        run(expected, rules())
    left = [(one.name, one.number) for one in expected.everything()]
    assert count[0] > 10
    for limit in range(count[0]):
        store = a_store(tmp_path / str(limit))
        with steps(monkeypatch, cut_at(limit)), pytest.raises(PowerCutError):
            run(store, rules())
        for one in store.everything():
            # Between the move and the second look a file may be aside, but only one that no record names.
            assert one.purged or store.defects(one) == []
        run(store, rules())
        assert [(one.name, one.number) for one in store.everything()] == left
        assert set(stored_blobs(store)) == set(stored_blobs(expected))
        assert not list((store.root / "blobs-aside").iterdir())


class WaitingStore(SnapshotStore):
    """A store whose writer waits between its files and its record."""

    def __init__(self, root: UPath) -> None:
        super().__init__(root)
        self.files_written, self.go_on = threading.Event(), threading.Event()

    def _commit(self, *args, **kw) -> Snapshot:
        self.files_written.set()
        assert self.go_on.wait(30)
        return super()._commit(*args, **kw)


def test_a_writer_beside_a_collection_loses_nothing(tmp_path, monkeypatch):
    # Without the protection of young files: what is left is the order of things.
    monkeypatch.setattr(snapshots_module, "_RENEWED_AFTER", timedelta(days=1_000))
    no_grace = rules(grace=timedelta(0))
    counted = a_store(tmp_path / "count")
    with steps(monkeypatch, lambda _: None) as count:
        run(counted, no_grace)
    total = count[0]
    for first in range(total):
        for second in range(first, total):
            a_store(tmp_path / f"{first}-{second}")
            store = WaitingStore(UPath(tmp_path / f"{first}-{second}"))
            # The content of a snapshot that goes.
            files = {"file": b"t0", "shared": b"the same in all"}
            writer = threading.Thread(target=lambda store=store, files=files: store.write("again", files))

            def at(number: int, *, start=first, end=second, writer=writer, store=store) -> None:
                if number == start:
                    writer.start()
                    assert store.files_written.wait(30)
                if number == end:
                    store.go_on.set()
                    writer.join(30)

            with steps(monkeypatch, at):
                run(SnapshotStore(store.root), no_grace)
            store.go_on.set()
            writer.join(30)
            assert not writer.is_alive()
            assert contents(store, "again") == [b"t0"]
            whole(store)


def test_two_collections_at_once_lose_nothing(store):
    for number in range(30):
        made(store, "turns", b"%d" % number)
    planned = plan_collection(store, rules(), needed={}, now=LATER)
    threads = [threading.Thread(target=collect, args=(SnapshotStore(store.root), planned)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents(store, "turns") == [b"29"]
    assert set(stored_blobs(store)) == named_blobs(store)


def test_a_named_blob_is_never_dropped_whoever_asks(store):
    written = made(store, "turns", b"1")
    drop_blobs(store, written.files.values())
    assert store.defects(written) == []


_WRITES = st.lists(
    st.tuples(
        st.sampled_from(["chunks", "turns", "dataset"]),
        st.sampled_from([None, "rc1", "rc2"]),
        st.integers(0, 5),
        st.lists(st.integers(0, 20), max_size=3),
        st.booleans(),
    ),
    max_size=20,
)


@settings(max_examples=examples(60), deadline=None)
@given(writes=_WRITES, newest=st.integers(0, 3), needed=st.sets(st.integers(0, 20), max_size=2))
def test_what_is_kept_is_whole_and_can_be_built_again_and_a_second_collection_finds_nothing(
    tmp_path_factory, writes, newest, needed
):
    store = SnapshotStore(UPath(tmp_path_factory.mktemp("store")))
    written: list[Snapshot] = []
    for name, partition, content, inputs, purged in writes:
        of = [written[one % len(written)] for one in inputs] if written else []
        one = made(store, name, b"%d" % content, *of, partition=partition)
        written.append(one)
        if purged and content == 0:
            # Every snapshot of the content, as an erasure does.
            for record in list(store.records(name, partition=partition)):
                if record.digest == one.digest:
                    store.rewrite_record(record, purged="erasure")
    stood_on = {written[one % len(written)].digest: "the champion" for one in needed} if written else {}
    latest = {(one.name, one.partition): one.number for one in reversed(list(store.everything()))}
    planned = plan_collection(store, rules(newest), needed=stood_on, now=LATER)
    collect(store, planned)
    whole(store)
    left = {(one.name, one.partition, one.number) for one in store.everything()}
    assert {(*place, number) for place, number in latest.items()} <= left
    assert left == {(one.snapshot.name, one.snapshot.partition, one.snapshot.number) for one in planned.kept}
    assert set(stored_blobs(store)) == named_blobs(store)
    assert stood_on.keys() <= {one.digest for one in store.everything()}
    again = plan_collection(store, rules(newest), needed=stood_on, now=LATER)
    assert (again.gone, again.files) == ((), {})


# Rules


def test_the_packaged_rules_keep_the_ledger_for_ever_and_datasets_longer():
    found = read_rules()
    assert found.of("champion_overrides").newest is None
    assert found.of("intent_dataset") == RetentionRule(newest=10, days=365)
    assert found.of("turns") == RetentionRule(newest=3, days=30)


def test_an_own_file_is_laid_over_the_packaged_one(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('grace_hours = 1\n[assets.turns]\nnewest = "all"\n[assets."*"]\nnewest = 1\n')
    found = read_rules(own)
    assert (found.grace, found.run_age) == (HOUR, timedelta(days=7))
    assert (found.of("turns").newest, found.of("chunks")) == (None, RetentionRule(newest=1))
    assert found.of("intent_dataset").newest == 10


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("grace = 1", "'grace' is no key"),
        ("grace_hours = -1", "grace_hours is -1"),
        ("index_generations = 1.5", "index_generations is 1.5"),
        ("[assets.turns]\nkeep = 1", "assets.turns.keep is no key"),
        ('[assets.turns]\nnewest = "some"', "assets.turns.newest is 'some'"),
        ("[assets.turns]\ndays = true", "assets.turns.days is True"),
        ("assets = 1", "assets is 1"),
        ("= 1", "no TOML"),
    ],
)
def test_a_wrong_key_is_named(tmp_path, text, said):
    own = tmp_path / "own.toml"
    own.write_text(text)
    with pytest.raises(RetentionRulesError, match=said):
        read_rules(own)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RetentionRulesError, match=r"absent.toml cannot be read"):
        read_rules(tmp_path / "absent.toml")
