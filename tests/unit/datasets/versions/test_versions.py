"""Dataset versions: what names them, what never changes, and what is noticed when it did."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.versions.data_card import Provenance
from mangaassist_assets.datasets.versions.stored_versions import (
    ImmutableVersionError,
    UnknownVersionError,
    damaged_snapshots,
    find_version,
    problems_of,
    read_rows,
    stored_versions,
)
from mangaassist_assets.datasets.versions.versions import (
    EXAMPLES_FILE,
    DatasetDamagedError,
    content_digest,
    seal_version,
    to_parquet,
    version_id,
)
from tests.support.dataset_store import write_version

ASSET = "intent_dataset"


def frame_of(*texts: str, **columns) -> pl.DataFrame:
    rows = [
        {
            "example_id": f"trace-{text}",
            "text": text,
            "intent": "a" if number % 2 else "b",
            "split": ("train", "validation", "test")[number % 3],
            "label_kind": "human",
            "release_bundle": "b1",
            "session_id": f"s{number}",
            "user_key": f"u{number}",
            "label_sources": [f"t{number}"],
            "confidence": 1.0,
            "timestamp_ms": number,
            "source_trace_id": f"t{number}",
            **columns,
        }
        for number, text in enumerate(texts)
    ]
    return pl.DataFrame(rows, schema_overrides={"label_sources": pl.List(pl.String)})


def seal(*texts: str, as_of_ms: int | None = 5, **options):
    return seal_version(frame_of(*texts), Provenance(kind="intent", as_of_ms=as_of_ms, **options))


@pytest.fixture
def store(tmp_path) -> SnapshotStore:
    return SnapshotStore(UPath(tmp_path))


message_lists = st.lists(st.text(min_size=1, max_size=12).filter(str.isprintable), min_size=1, max_size=12, unique=True)


@given(message_lists, st.integers(0, 2**53), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_names_depend_on_content_and_as_of_time_alone(texts, as_of_ms, random):
    frame = frame_of(*texts)
    first = seal_version(
        frame, Provenance(kind="intent", excluded={"x": 1}, as_of="b1", as_of_ms=as_of_ms, notes=("n",))
    )
    order = list(range(len(frame)))
    random.shuffle(order)
    columns = list(frame.columns)
    random.shuffle(columns)
    second = seal_version(
        frame[order].select(columns), Provenance(kind="intent", as_of="b2", as_of_ms=as_of_ms, inputs={"a": "00"})
    )
    assert (second.digest, second.card.version) == (first.digest, first.card.version)
    assert second.files()[EXAMPLES_FILE] == first.files()[EXAMPLES_FILE]


@given(message_lists)
@settings(deadline=None)
def test_another_time_is_another_version_of_the_same_digest_and_other_rows_are_another_digest(texts):
    version, later = seal(*texts, as_of_ms=5), seal(*texts, as_of_ms=6)
    assert later.digest == version.digest
    assert later.card.version != version.card.version
    more = seal(*texts, "one more \x00", as_of_ms=5)
    assert more.digest != version.digest
    assert more.card.version != version.card.version


_ELSEWHERE = """
import hashlib, sys
from tests.unit.datasets.versions.test_versions import seal
version = seal("a", "b", "予約", "d|e")
print(version.card.version, *(hashlib.sha256(data).hexdigest() for _, data in sorted(version.files().items())))
"""


def test_another_process_writes_the_same_bytes(repository_root):
    said = [
        subprocess.run(
            [sys.executable, "-c", _ELSEWHERE],
            capture_output=True,
            text=True,
            check=True,
            cwd=repository_root,
            env={"PYTHONHASHSEED": seed, "POLARS_MAX_THREADS": threads, "PYTHONPATH": str(repository_root)},
        ).stdout.split()
        for seed, threads in (("1", "1"), ("2", "4"))
    ]
    version = seal("a", "b", "予約", "d|e")
    here = [version.card.version, *(hashlib.sha256(data).hexdigest() for _, data in sorted(version.files().items()))]
    assert said == [here, here]


def test_a_version_is_found_again_by_the_first_digits_of_either_name(store):
    version = seal("a", "b", "c")
    write_version(store, ASSET, version, partition="b1")
    for name in (version.card.version[:8], version.digest[:10].upper(), version.card.version):
        found = find_version(store, name)
        assert (found.version, found.latest, found.snapshot.partition) == (version.card.version, True, "b1")
    assert read_rows(store, found).equals(version.frame)
    assert problems_of(store, found) == []


def test_older_versions_stay_and_the_latest_is_marked(store):
    first, second = seal("a", as_of_ms=1), seal("a", "b", as_of_ms=2)
    write_version(store, ASSET, first, partition="b1")
    write_version(store, ASSET, second, partition="b1")
    listed = stored_versions(store)
    assert [(one.version, one.latest) for one in listed] == [
        (first.card.version, False),
        (second.card.version, True),
    ]


def test_a_name_that_fits_none_or_several_or_is_too_short_is_no_name(store):
    write_version(store, ASSET, seal("a", as_of_ms=1), partition="b1")
    write_version(store, ASSET, seal("a", as_of_ms=2), partition="b2")
    with pytest.raises(UnknownVersionError, match="names 2 dataset versions"):
        find_version(store, seal("a").digest)
    with pytest.raises(UnknownVersionError, match="datasets list"):
        find_version(store, "f" * 12)
    with pytest.raises(UnknownVersionError, match="too short"):
        find_version(store, "abc")


def test_other_rows_are_not_stored_under_the_name_of_a_version(store):
    version, other = seal("a", "b"), seal("a", "c")
    write_version(store, ASSET, version, partition="b1")
    forged = [
        replace(version, frame=other.frame),
        replace(version, card=replace(version.card, as_of_ms=99)),
        replace(other, card=version.card),
    ]
    for one in forged:
        with pytest.raises(ImmutableVersionError, match="a version never changes"):
            write_version(store, ASSET, one, partition="b1")
    assert [one.version for one in stored_versions(store)] == [version.card.version]


def test_the_bytes_that_were_written_first_stand(store):
    version = seal("a", "b")
    files = version.files()
    version.frame.write_parquet(written := UPath(store.root) / "other.parquet", compression="uncompressed")
    files[EXAMPLES_FILE] = written.read_bytes()
    assert files[EXAMPLES_FILE] != to_parquet(version.frame)
    store.write(ASSET, files, partition="b1")
    again = write_version(store, ASSET, version, partition="b2")
    assert store.read(again, EXAMPLES_FILE) == files[EXAMPLES_FILE]


def test_writing_a_version_again_changes_nothing(store):
    version = seal("a", "b")
    assert write_version(store, ASSET, version, partition="b1") == write_version(store, ASSET, version, partition="b1")
    assert len(stored_versions(store)) == 1


def test_a_damaged_file_is_named_and_mended_by_writing_it_again(store):
    version = seal("a", "b")
    snapshot = write_version(store, ASSET, version, partition="b1")
    path = store.path(snapshot, EXAMPLES_FILE)
    path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\x00\x00")
    (damaged,) = damaged_snapshots(store)
    assert snapshot.uri in damaged
    assert EXAMPLES_FILE in damaged
    assert EXAMPLES_FILE in " ".join(problems_of(store, find_version(store, version.card.version)))
    write_version(store, ASSET, version, partition="b1")
    assert list(damaged_snapshots(store)) == []


def test_rows_that_were_exchanged_with_their_card_left_are_noticed(store):
    version, other = seal("a", "b"), seal("a", "c")
    store.write(ASSET, {**version.files(), EXAMPLES_FILE: to_parquet(other.frame)}, partition="b1")
    (stored,) = stored_versions(store)
    (problem,) = problems_of(store, stored)
    assert EXAMPLES_FILE in problem
    with pytest.raises(DatasetDamagedError, match=EXAMPLES_FILE):
        write_version(store, ASSET, version, partition="b1")


def test_a_card_that_was_rewritten_is_noticed(store):
    version = seal("a", "b")
    retold = replace(version.card, as_of_ms=77)
    store.write(ASSET, {**version.files(), "card.json": retold.to_json()}, partition="b1")
    (stored,) = stored_versions(store)
    problems = problems_of(store, stored)
    assert any("calls itself" in problem for problem in problems)
    assert any("card.md" in problem for problem in problems)


def test_the_version_is_of_kind_digest_and_time():
    digest = content_digest(frame_of("a"))
    names = {
        version_id("intent", digest, 1),
        version_id("ranking", digest, 1),
        version_id("intent", digest, 2),
        version_id("intent", digest, None),
    }
    assert len(names) == 4
