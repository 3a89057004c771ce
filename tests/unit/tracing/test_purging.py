"""A purged dataset version can still be asked for, and says that it was purged."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from upath import UPath

from mangaassist_assets.cli.commands.datasets import rebuild_dataset
from mangaassist_assets.core.codecs import to_parquet
from mangaassist_assets.core.retention import collect, plan_collection, read_rules
from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.versions.stored_versions import UnknownVersionError
from mangaassist_assets.tracing.person_marks import PersonMarks
from mangaassist_assets.tracing.purging import find_purged_version, holding_records, snapshots_holding, take_out
from tests.support.dataset_store import BUNDLE, fill, put_dataset, user_on


@pytest.fixture
def store(tmp_path) -> SnapshotStore:
    made = SnapshotStore(UPath(tmp_path))
    fill(made)
    return made


def marks_of(store: SnapshotStore) -> PersonMarks:
    turns = store.latest("tagged_traces", partition=BUNDLE)
    frame = pl.read_parquet(store.read(turns, "turns.parquet")).filter(pl.col("user_key") == user_on("train"))
    return PersonMarks(user_on("train"), frozenset(frame["trace_id"]))


def test_a_purged_dataset_version_says_so_when_it_is_to_be_built_again(store):
    version = put_dataset(store, BUNDLE)
    marks = marks_of(store)
    take_out(store, holding_records(store, marks), marks)
    assert snapshots_holding(store, marks) == []
    for name in (version.version, version.version[:8], version.card.digest[:10].upper()):
        found = rebuild_dataset(store, name)
        assert (found["outcome"], found["version"]) == ("impossible", version.version)
        assert found["reason"] == "was purged: the data of a person was erased"
    collect(store, plan_collection(store, read_rules(), needed={}, now=datetime.now(UTC) + timedelta(days=400)))
    assert rebuild_dataset(store, version.version)["outcome"] == "impossible"


def test_a_name_of_no_version_stays_unknown(store):
    version = put_dataset(store, BUNDLE)
    marks = marks_of(store)
    take_out(store, holding_records(store, marks), marks)
    assert find_purged_version(store, version.version[:3]) is None
    with pytest.raises(UnknownVersionError):
        rebuild_dataset(store, "0123456789abcdef")


@pytest.mark.parametrize(
    ("content", "held"),
    [
        (b'{"a": [{"trace_id": "t1"}]}', True),
        (b'{"a": [{"trace_id": "t11"}]}', False),
        (b"no JSON, but t1 is named", True),
        (b"<b>what &lt;only&gt; this person says</b>", True),
        (json.dumps({"said": ["what <only> this person says"]}).encode(), True),
        (json.dumps({"said": ["what <only> this person says, and more"]}).encode(), False),
        (b"\x89PNG t1 \xff", False),
        (to_parquet(pl.DataFrame({"x": [1], "y": [[{"z": ["t1"]}]]})), True),
        (to_parquet(pl.DataFrame({"x": ["t11"]})), False),
        (to_parquet(pl.DataFrame({"x": pl.Series([None], dtype=pl.List(pl.String))})), False),
        (b"", False),
    ],
)
def test_a_file_with_the_persons_data_is_recognised(content, held):
    marks = PersonMarks("u-" + "0" * 20, frozenset(["t1"]), frozenset(["what <only> this person says", "yes"]))
    assert marks.are_in(content) is held
