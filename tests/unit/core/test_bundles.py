"""The order of bundles: by the start of their first trace, whatever they are called."""

from __future__ import annotations

import pytest
from upath import UPath

from mangaassist_assets.core.bundles import TURNS_CARD_FILE, bundles_until, previous_bundle
from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json


@pytest.fixture
def store(tmp_path):
    store = SnapshotStore(UPath(tmp_path))
    for bundle, start in {"zebra": 1, "apple": 2, "mango": 3, "empty": None}.items():
        files = {TURNS_CARD_FILE: canonical_json({"first_timestamp_ms": start})}
        store.write("tagged_traces", files, partition=bundle)
    store.write("feedback_events", {"events.json": b"[]"}, partition="zebra")
    return store


def test_a_bundle_stands_after_those_that_began_before_it(store):
    assert bundles_until(store, "apple") == ["zebra", "apple"]
    assert bundles_until(store, "zebra") == ["zebra"]


@pytest.mark.parametrize("bundle", ["empty", "never-seen"])
def test_a_bundle_without_a_trace_has_no_place_in_the_order(store, bundle):
    assert bundles_until(store, bundle) == []
    assert previous_bundle(store, bundle, having="feedback_events") is None


def test_the_bundle_before_is_the_newest_that_has_what_is_needed(store):
    assert previous_bundle(store, "mango", having="feedback_events") == "zebra"
    assert previous_bundle(store, "mango", having="tagged_traces") == "apple"
    assert previous_bundle(store, "zebra", having="tagged_traces") is None
