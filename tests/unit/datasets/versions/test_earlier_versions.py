"""Which versions a dataset must not leak into: those before it in time, not those stored before it."""

from __future__ import annotations

import pytest
from upath import UPath

from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.building.intent_dataset import IntentDatasetConfig, build_intent_dataset
from mangaassist_assets.datasets.versions.stored_versions import earlier_versions
from tests.support.intent_labels import BASE, make_label, user_on
from tests.support.labelled_store import write_labelled_bundle

BUNDLES = {"b3": 3_000, "b1": 1_000, "b2": 2_000}


@pytest.fixture
def store(tmp_path) -> SnapshotStore:
    """Three bundles, the newest stored first; the second one twice, as of two times."""
    snapshots = SnapshotStore(UPath(tmp_path))
    for number, (bundle, start) in enumerate(BUNDLES.items()):
        label = make_label(f"t-{bundle}", f"words of {bundle}", timestamp_ms=start, labelled_ms=start + 10)
        write_labelled_bundle(snapshots, bundle, [label])
        for as_of_ms in (start + 10, start + 500) if bundle == "b2" else (start + 10,):
            extra = make_label(f"x-{as_of_ms}", f"more of {as_of_ms}", user_key=user_on("train", number + 1))
            config = IntentDatasetConfig(as_of_ms=as_of_ms)
            version = build_intent_dataset(BASE, [label, extra], config=config).seal(as_of=bundle)
            snapshots.write("intent_dataset", version.files(), partition=bundle)
    return snapshots


@pytest.mark.parametrize(
    ("bundle", "as_of_ms", "expected"),
    [
        ("b1", 1_010, ["b1"]),
        ("b2", 2_010, ["b1", "b2"]),
        ("b2", 2_500, ["b1", "b2", "b2"]),
        ("b3", 3_010, ["b1", "b2", "b2", "b3"]),
        ("b3", None, ["b1", "b2", "b2", "b3"]),
        ("b2", 5, []),
        ("unknown", None, []),
    ],
)
def test_versions_of_bundles_and_times_before_count_whatever_was_stored_first(store, bundle, as_of_ms, expected):
    found = earlier_versions(store, "intent_dataset", bundle, as_of_ms=as_of_ms)
    assert [version.name.split()[0] for version in found] == expected


def test_a_snapshot_of_something_else_is_no_version(store):
    store.write("intent_dataset", {"note.txt": b"no dataset"}, partition="b1")
    assert len(earlier_versions(store, "intent_dataset", "b1", as_of_ms=None)) == 1
