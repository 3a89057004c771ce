"""What a step may read and write, and what its record says of it."""

from __future__ import annotations

import pytest
from upath import UPath

from mangaassist_assets.core.bundles import TURNS_ASSET, TURNS_CARD_FILE
from mangaassist_assets.core.declared_inputs import (
    Input,
    InputGoneError,
    PinnedStore,
    Read,
    StepStore,
    UndeclaredReadError,
    UndeclaredWriteError,
    merged_reads,
    reads_from_json,
    reads_to_json,
)
from mangaassist_assets.core.snapshots import Origin, SnapshotMissingError, SnapshotStore, canonical_json


@pytest.fixture
def store(tmp_path):
    made = SnapshotStore(UPath(tmp_path))
    for number, bundle in enumerate(("b1", "b2", "b3")):
        card = {TURNS_CARD_FILE: canonical_json({"first_timestamp_ms": number})}
        made.write(TURNS_ASSET, card, partition=bundle)
        made.write("labels", {"rows.parquet": bundle.encode()}, partition=bundle)
    made.write("corpus", {"a": b"corpus"})
    made.write("overrides", {"a": b"old"}, partition="model")
    return made


def step(store, *reads, bundle="b2"):
    return StepStore(store, reads, output="dataset", bundle=bundle, origin=Origin(code_version="3", run_id="run"))


def labels(bundles):
    return Read(asset="labels", bundles=bundles)


@pytest.mark.parametrize(
    ("bundles", "seen"), [("same", ["b2"]), ("until", ["b1", "b2"]), ("all", ["b1", "b2", "b3"]), ("none", [])]
)
def test_a_step_sees_the_bundles_it_declares_and_no_other(store, bundles, seen):
    reads = step(store, labels(bundles))
    assert list(reads.partitions("labels")) == seen
    assert [one.partition for one in reads.history("labels")] == seen
    for bundle in {"b1", "b2", "b3"} - set(seen):
        with pytest.raises(UndeclaredReadError, match=f"dataset/b2 reads labels/{bundle}, but declares '{bundles}'"):
            reads.find("labels", partition=bundle)


def test_reading_what_was_not_declared_raises(store):
    reads = step(store, labels("same"))
    for forbidden in (
        lambda: reads.find("corpus"),
        lambda: reads.latest("corpus"),
        lambda: list(reads.history("corpus")),
        lambda: list(reads.partitions("corpus")),
        lambda: reads.records("corpus"),
        lambda: reads.read(store.latest("corpus"), "a"),
        lambda: reads.load(Input((Read(asset="corpus"),), lambda given, _: given.latest("corpus"))),
    ):
        with pytest.raises(UndeclaredReadError, match="dataset reads corpus, but declares labels"):
            forbidden()


def test_a_reader_that_reads_more_than_it_says_raises(store):
    says_less = Input((labels("same"),), lambda given, _: given.latest("corpus"))
    with pytest.raises(UndeclaredReadError):
        step(store, labels("same")).load(says_less)


def test_a_value_is_what_its_reader_returns_of_the_steps_bundle(store):
    text = Input(
        (labels("same"),), lambda given, bundle: given.read(given.latest("labels", partition=bundle), "rows.parquet")
    )
    assert step(store, *merged_reads([text])).load(text) == b"b2"


def test_the_record_names_what_was_read_and_nothing_that_was_only_found(store):
    reads = step(store, labels("until"), Read(asset="corpus"))
    reads.find("corpus")
    reads.read(reads.latest("labels", partition="b2"), "rows.parquet")
    kept = reads.keep({"a": b"1"})
    assert kept.origin == Origin(
        inputs={"labels/b2": store.latest("labels", partition="b2").digest}, code_version="3", run_id="run"
    )
    assert store.latest("dataset", partition="b2") == kept


def test_rows_of_an_earlier_version_are_an_input_of_their_own(store):
    reads = step(store, labels("until"))
    for one in reads.history("labels"):
        reads.read(one, "rows.parquet")
    assert [name.partition("@")[0] for name in reads.inputs()] == ["labels/b1", "labels/b2"]
    assert [name.partition("@")[0] for name in reads.inputs(own_rows=b"b2")] == ["labels/b1"]


def test_of_what_comes_through_another_system_only_the_digest_is_known(store):
    reads = step(store, Read(asset="labels", bundles="same", through="MLflow"))
    assert reads.inputs() == {"labels/b2": store.latest("labels", partition="b2").digest}
    with pytest.raises(UndeclaredReadError, match="declares to know it through MLflow"):
        reads.find("labels", partition="b2")


def test_a_step_writes_its_own_output_and_declared_ledgers(store):
    reads = step(store, Read(asset="overrides", bundles="all", ledger=True))
    reads.write("overrides", {"a": b"new"}, partition="model")
    assert len(list(store.history("overrides"))) == 2
    assert list(reads.history("overrides")) == list(store.history("overrides"))
    assert reads.inputs() == {}
    assert reads.write("dataset", {"a": b"1"}, partition="b2").origin.run_id == "run"
    for name, partition in (("dataset", "b1"), ("dataset", None), ("corpus", None)):
        with pytest.raises(UndeclaredWriteError, match="dataset/b2 writes"):
            reads.write(name, {"a": b"1"}, partition=partition)


def test_a_pinned_store_knows_the_recorded_snapshots_and_writes_nothing(store):
    reads = step(store, Read(asset="corpus"), labels("until"))
    snapshot = reads.latest("corpus")
    reads.read(snapshot, "a")
    store.write("corpus", {"a": b"newer"})
    pinned = PinnedStore(store, reads.inputs())
    assert pinned.latest("corpus") == snapshot
    assert pinned.find("labels", partition="b1") is None
    with pytest.raises(SnapshotMissingError, match="none of the recorded inputs"):
        pinned.latest("labels", partition="b1")
    with pytest.raises(PermissionError, match="writes nothing"):
        pinned.write("corpus", {})
    with pytest.raises(InputGoneError, match=r"golden_set \(000000"):
        PinnedStore(store, {"golden_set": "0" * 64})
    with pytest.raises(ValueError, match="names no input"):
        PinnedStore(store, {"../etc/passwd/x": "0" * 64})


def test_an_input_that_was_purged_is_named_with_the_reason(store):
    corpus = store.latest("corpus")
    store.rewrite_record(corpus, purged="a user was erased")
    store.path(corpus, "a").unlink()
    with pytest.raises(InputGoneError, match="purged: a user was erased"):
        PinnedStore(store, {"corpus": corpus.digest})


def test_reads_of_one_asset_are_merged_to_the_widest():
    merged = merged_reads(
        [labels("same"), Input((labels("until"), Read(asset="corpus")), lambda *_: None), labels("same")]
    )
    assert merged == (Read(asset="corpus"), labels("until"))
    digest, data = Read(asset="labels", bundles="same", through="MLflow"), labels("same")
    assert merged_reads([digest, data]) == (data,)
    assert merged_reads([digest, digest]) == (digest,)
    assert reads_from_json(reads_to_json(merged)) == merged
