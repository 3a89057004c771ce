"""What production stands on is found, whatever names it: alias, endpoint, manifest, live index."""

from __future__ import annotations

import json

import pytest
from upath import UPath

from mangaassist_assets.core.snapshots import Origin, SnapshotStore
from mangaassist_assets.lineage.standing import made_of, previous_generation, stood_on
from mangaassist_assets.models.pipelines import INTENT
from tests.support.dataset_store import BUNDLE, fill, put_dataset


@pytest.fixture
def store(tmp_path) -> SnapshotStore:
    return SnapshotStore(UPath(tmp_path))


def put(store, asset, file, value, partition=None):
    return store.write(asset, {file: json.dumps(value).encode()}, partition=partition)


def put_model(store, version, bundle="rc1"):
    digest = f"{version}" * 64
    dataset = store.write(
        INTENT.dataset_asset,
        {"card.json": json.dumps({"digest": digest}).encode(), "examples.parquet": digest.encode()},
        partition=bundle,
    )
    model = put(store, INTENT.model_asset, "model.json", {"version": version, "dataset_digest": digest}, bundle)
    verdict = put(store, INTENT.evaluation_asset, "evaluation.json", {"challenger_version": version}, bundle)
    return dataset, model, verdict


def standing(store, versions=None, generations=None):
    return stood_on(store, [INTENT], versions={INTENT.model_name: versions or {}}, generations=generations or {})


def test_a_version_in_use_keeps_its_record_its_data_and_its_verdict(store):
    first, second = put_model(store, "1"), put_model(store, "2")
    found = standing(store, {"1": "champion"})
    assert found.keys() == {one.digest for one in first}
    assert all("1: champion" in why for why in found.values())
    assert second[1].digest not in found


def test_a_version_in_a_manifest_stays_as_well(store):
    first, _ = put_model(store, "1"), put_model(store, "2")
    learned = {INTENT.model_asset: {"challenger_version": "1", "champion_version": None}}
    put(store, "release_manifest", "manifest.json", {"learned": learned}, "rc7")
    found = standing(store)
    assert found.keys() == {one.digest for one in first}
    assert all(why.endswith("in the manifest of rc7") for why in found.values())


def test_the_live_generation_and_the_one_before_keep_what_they_were_built_by(store):
    indexes = [put(store, "search_index", "generation.json", {"generation": name}) for name in ("kb-1", "kb-2", "kb-3")]
    found = standing(store, generations={"kb-3": "live", "kb-1": "before"})
    assert found == {indexes[2].digest: "live", indexes[0].digest: "before"}


def test_the_generation_before_the_live_one_is_the_one_on_record(store):
    for name in ("kb-1", "kb-2", "kb-3"):
        put(store, "live_index", "generation.json", {"generation": name})
    assert previous_generation(store, "kb-3") == "kb-2"
    assert previous_generation(store, "kb-9") == "kb-3"
    assert previous_generation(SnapshotStore(store.root / "empty"), "kb-3") is None


def test_what_cannot_be_read_stays(store):
    _, model, _ = put_model(store, "1")
    store.path(model, "model.json").write_bytes(b"{}")
    assert "damaged" in standing(store)[model.digest]


def test_what_a_dataset_was_made_of_stands_on_its_card_too(store):
    fill(store)
    stored = put_dataset(store, BUNDLE)
    assert dict(made_of(store, stored.snapshot)).items() >= stored.card.inputs.items()
    made = store.write("turns", {"a": b"1"}, origin=Origin(inputs={"chunks": "ab" * 32}))
    assert made_of(store, made) == {"chunks": "ab" * 32}
