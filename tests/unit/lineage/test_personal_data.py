"""Where an erased user's data went: dataset versions of now and before, and the models made of them."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace

import polars as pl
import pytest
from upath import UPath

from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.versions.data_card import Provenance
from mangaassist_assets.datasets.versions.versions import seal_version
from mangaassist_assets.lineage.personal_data import TrainedModelVersion, personal_data_lineage
from mangaassist_assets.privacy import pseudonym
from tests.support.dataset_store import write_version

USER, OTHER = (pseudonym(name, b"key") for name in ("someone", "someone else"))


class Records:
    def __init__(self, *trained: TrainedModelVersion) -> None:
        self.trained = trained
        self.asked: list[str] = []

    def trained_on(self, digests: Collection[str]) -> list[TrainedModelVersion]:
        self.asked += digests
        return [one for one in self.trained if one.dataset_digest in digests]


def dataset(*examples: tuple[str, str, str | None, list[str]], as_of_ms: int = 1):
    rows = [
        {
            "example_id": f"trace-{trace}",
            "text": f"message {trace}",
            "intent": "i",
            "split": split,
            "label_kind": "human",
            "release_bundle": "b1",
            "session_id": f"s-{trace}",
            "user_key": user,
            "source_trace_id": trace,
            "label_sources": sources,
        }
        for trace, split, user, sources in examples
    ]
    schema = {"user_key": pl.String, "label_sources": pl.List(pl.String)}
    frame = pl.DataFrame(rows, schema_overrides=schema)
    return seal_version(frame, Provenance(kind="intent", as_of_ms=as_of_ms))


TRAINED_ON = dataset(("t1", "train", USER, ["t1"]), ("t2", "train", OTHER, ["t1", "t2"]), ("t3", "test", None, ["t3"]))
EVALUATED_ON = dataset(("t2", "train", OTHER, ["t2"]), ("t4", "test", USER, ["t4"]), as_of_ms=2)
WITHOUT = dataset(("t2", "train", OTHER, ["t2"]), ("t3", "test", None, ["t3"]), as_of_ms=3)


@pytest.fixture
def store(tmp_path) -> SnapshotStore:
    made = SnapshotStore(UPath(tmp_path))
    for version in (TRAINED_ON, WITHOUT):
        write_version(made, "intent_dataset", version, partition="b1")
    write_version(made, "intent_dataset", EVALUATED_ON, partition="b2")
    return made


def model(version, number, *aliases):
    return TrainedModelVersion(
        dataset_digest=version.digest, run_id=f"run-{number}", model="m", version=str(number), aliases=aliases
    )


def test_versions_of_now_and_before_are_named_with_sides_and_examples(store):
    lineage = personal_data_lineage(store, [USER], records=Records())
    assert [(one.release_bundle, one.examples, one.by_split, one.latest, one.use) for one in lineage.versions] == [
        ("b1", ("trace-t1",), {"train": 1}, False, "training"),
        ("b2", ("trace-t4",), {"test": 1}, True, "evaluation"),
    ]


def test_labels_of_others_that_rest_on_the_users_reviews_are_named_apart(store):
    lineage = personal_data_lineage(store, [USER], records=Records())
    assert lineage.versions[0].rest_on == ("trace-t2",)
    # The trace is known from elsewhere, as after the user's own rows are gone.
    only = personal_data_lineage(store, [], trace_ids=["t3"], records=Records())
    assert [one.examples for one in only.versions] == [("trace-t3",), ("trace-t3",)]


def test_models_are_found_by_the_digest_of_their_dataset_and_say_what_the_data_was_to_them(store):
    records = Records(model(EVALUATED_ON, 10), model(TRAINED_ON, 9, "champion"), model(WITHOUT, 11))
    lineage = personal_data_lineage(store, [USER], records=records)
    assert set(records.asked) == {TRAINED_ON.digest, EVALUATED_ON.digest}
    assert [(one.trained.version, one.trained.aliases, one.use) for one in lineage.models] == [
        ("9", ("champion",), "training"),
        ("10", (), "evaluation"),
    ]
    assert lineage.models[0].dataset_versions == (TRAINED_ON.card.version,)


def test_a_run_that_registered_nothing_is_listed_as_well(store):
    run = TrainedModelVersion(dataset_digest=TRAINED_ON.digest, run_id="failed")
    (found,) = personal_data_lineage(store, [USER], records=Records(run)).models
    assert (found.trained.run_id, found.trained.model) == ("failed", None)


def test_the_report_names_no_user(store):
    written = personal_data_lineage(store, [USER], records=Records(model(TRAINED_ON, 1))).to_json()
    assert USER.encode() not in written
    assert json.loads(written)["models"][0]["use"] == "training"


def test_nobody_is_in_no_version_and_no_model(store):
    lineage = personal_data_lineage(store, [pseudonym("nobody", b"key")], records=Records(model(TRAINED_ON, 1)))
    assert (lineage.versions, lineage.models) == ((), ())


def test_the_same_version_stored_twice_is_one(store):
    again = replace(TRAINED_ON, card=replace(TRAINED_ON.card, notes=("another card",)))
    write_version(store, "intent_dataset", again, partition="b1")
    found = [
        one for one in personal_data_lineage(store, [USER], records=Records()).versions if one.release_bundle == "b1"
    ]
    assert [one.latest for one in found] == [True]
