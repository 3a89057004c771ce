"""The intent dataset and its blocking checks, run by Dagster on a store in a folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from upath import UPath

from mangaassist_assets.assets.bootstrap import golden_set
from mangaassist_assets.assets.datasets import intent_dataset
from mangaassist_assets.checks.gates import build_checks
from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.building.intent_dataset import IntentDatasetConfig
from mangaassist_assets.datasets.building.intent_versions import build_intent_version
from mangaassist_assets.datasets.building.splits import assign_split
from mangaassist_assets.datasets.sources.golden_file import GoldenMessage
from mangaassist_assets.datasets.sources.golden_set import keep_golden_set
from mangaassist_assets.datasets.sources.training_corpus import read_corpus
from mangaassist_assets.datasets.sources.utterances import Utterance, read_utterances
from mangaassist_assets.datasets.versions.stored_versions import read_dataset
from mangaassist_assets.datasets.versions.versions import CARD_FILE, EXAMPLES_FILE, content_digest, to_parquet
from mangaassist_assets.demo.generator import write_demo
from mangaassist_assets.models.pipelines import OWN_PIPELINES
from mangaassist_assets.partitions import release_bundles
from mangaassist_assets.privacy import Vocabulary
from mangaassist_assets.tracing.erasure import record_erasure
from resources.search.embeddings import LocalEmbedderResource
from resources.store import StoreResource
from tests.support.intent_labels import make_label
from tests.support.labelled_store import write_corpus, write_labelled_bundle
from tests.support.reviewed_traffic import message

FIRST, SECOND = "2026.03.10-rc1", "2026.03.24-rc2"
CHECKS = [
    check
    for check in build_checks(OWN_PIPELINES)
    if any(key.asset_key == intent_dataset.key for key in check.check_keys)
]
CHECK_NAMES = {
    "enough_examples",
    "balanced_labels",
    "few_duplicates",
    "no_leakage",
    "little_label_noise",
    "no_personal_data",
}


def labels_of(path, bundle: str, every: int):
    utterances = read_utterances(path).utterances
    return [
        make_label(
            f"{bundle}-{number}",
            one.text,
            one.intent,
            session_id=one.session_id,
            user_key=one.user_id,
            release_bundle=bundle,
            timestamp_ms=int(one.timestamp.timestamp() * 1000),
            labelled_ms=int(one.timestamp.timestamp() * 1000) + 60_000,
        )
        for number, one in enumerate(utterances)
        if number % every == 0
    ]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, demo, cache) -> StoreResource:
    """A store in which both bundles are labelled; not to be changed."""
    resource = StoreResource(root=str(tmp_path_factory.mktemp("labelled")), cache_folder=cache)
    snapshots = resource.snapshots()
    write_corpus(snapshots, read_utterances(demo.training).utterances)
    write_labelled_bundle(snapshots, FIRST, labels_of(demo.first_bundle, FIRST, every=3))
    write_labelled_bundle(snapshots, SECOND, labels_of(demo.second_bundle, SECOND, every=3))
    return resource


@pytest.fixture(scope="module")
def with_datasets(tmp_path_factory, labelled) -> tuple[StoreResource, list[dg.ExecuteInProcessResult]]:
    """A store in which both datasets are built and checked as well, with the two runs; not to be changed."""
    resource = copy_of(labelled, tmp_path_factory.mktemp("built"))
    return resource, [materialize(resource, bundle) for bundle in (FIRST, SECOND)]


def copy_of(resource: StoreResource, folder: Path) -> StoreResource:
    shutil.copytree(resource.root, folder / "store")
    return StoreResource(root=str(folder / "store"), cache_folder=resource.cache_folder)


@pytest.fixture
def resource(labelled, tmp_path) -> StoreResource:
    return copy_of(labelled, tmp_path)


@pytest.fixture
def store(resource) -> SnapshotStore:
    return resource.snapshots()


@pytest.fixture
def built_resource(with_datasets, tmp_path) -> StoreResource:
    return copy_of(with_datasets[0], tmp_path)


@pytest.fixture
def built(built_resource) -> pl.DataFrame:
    return read_dataset(built_resource.snapshots(), "intent_dataset", SECOND).frame


def materialize(resource: StoreResource, bundle: str, *, asset=intent_dataset, checks=tuple(CHECKS), **config):
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions(release_bundles.name, [FIRST, SECOND])
        return dg.materialize(
            [asset, *checks],
            partition_key=bundle,
            instance=instance,
            resources={"store": resource, "embeddings": LocalEmbedderResource()},
            run_config={"ops": {"intent_dataset": {"config": config}}} if config else None,
            raise_on_error=False,
        )


def verdicts(result) -> dict[str, dg.AssetCheckEvaluation]:
    return {one.check_name: one for one in result.get_asset_check_evaluations()}


def build(store: SnapshotStore, bundle: str, **options) -> pl.DataFrame:
    return build_intent_version(store, bundle, config=IntentDatasetConfig(**options)).frame


def test_every_check_is_blocking_and_partitioned():
    assert {key.name for check in CHECKS for key in check.check_keys} == CHECK_NAMES
    for check in CHECKS:
        for spec in check.check_specs:
            assert spec.blocking
            assert spec.partitions_def == release_bundles


def test_the_demos_bundles_pass_every_check(with_datasets):
    resource, results = with_datasets
    store = resource.snapshots()
    for result in results:
        assert result.success
        found = verdicts(result)
        assert set(found) == CHECK_NAMES
        assert {name: one.description for name, one in found.items() if not one.passed} == {}
        assert all(one.metadata for one in found.values())
    first, second = (read_dataset(store, "intent_dataset", bundle).frame for bundle in (FIRST, SECOND))
    both = first.join(second, on="example_id", suffix="_later")
    assert both.height > 100
    assert both["split"].equals(both["split_later"])
    assert "earlier versions" in found["no_leakage"].description


def refused(resource: StoreResource, frame: pl.DataFrame) -> dict[str, str]:
    """Return which checks fail, and why, when somebody with a shell stores these rows as the bundle's dataset."""

    @dg.asset(name="intent_dataset", partitions_def=release_bundles)
    def planted() -> None:
        snapshots = resource.snapshots()
        card = json.loads(snapshots.read(snapshots.latest("intent_dataset", partition=SECOND), CARD_FILE))
        card["digest"] = content_digest(frame)
        files = {EXAMPLES_FILE: to_parquet(frame), CARD_FILE: json.dumps(card).encode()}
        snapshots.write("intent_dataset", files, partition=SECOND)

    found = verdicts(materialize(resource, SECOND, asset=planted))
    assert set(found) == CHECK_NAMES
    return {name: one.description or "" for name, one in found.items() if not one.passed}


def test_a_message_planted_in_train_that_is_nearly_one_of_test_is_refused_by_its_id(built_resource, built):
    test_row = built.filter(pl.col("split") == "test").sort("example_id").head(1)
    planted = test_row.with_columns(
        example_id=pl.lit("planted"), split=pl.lit("train"), text=pl.col("text") + pl.lit("!"), user_key=None
    )
    found = refused(built_resource, pl.concat([built, planted]))
    assert set(found) == {"no_leakage"}
    assert "planted" in found["no_leakage"]
    assert test_row["text"][0] not in found["no_leakage"]


def test_an_address_in_a_dataset_is_refused(built_resource, built):
    first = pl.col("example_id") == built["example_id"][0]
    personal = built.with_columns(text=pl.when(first).then(pl.lit("mail nobody@example.invalid")).otherwise("text"))
    assert set(refused(built_resource, personal)) == {"no_personal_data"}


def test_a_dataset_of_wrong_labels_is_refused(built_resource, built):
    intents = sorted(built["intent"].unique())
    # Every other label is wrong, each in another way: half of an intent's that all say one other would be an overlap.
    wrong = [
        intents[(intents.index(intent) + 1 + row % (len(intents) - 1)) % len(intents)] if row % 2 else intent
        for row, intent in enumerate(built["intent"])
    ]
    found = refused(built_resource, built.with_columns(intent=pl.Series(wrong)))
    assert set(found) == {"little_label_noise"}
    assert "labels are wrong" in found["little_label_noise"]


def test_a_dataset_without_a_test_side_and_about_one_intent_is_refused(built_resource, built):
    intent = built["intent"][0]
    found = refused(built_resource, built.filter((pl.col("split") == "train") & (pl.col("intent") == intent)))
    assert set(found) == {"enough_examples", "balanced_labels"}


def test_a_past_bundle_built_again_after_newer_ones_comes_out_as_it_did(built_resource, built):
    store = built_resource.snapshots()
    before = store.latest("intent_dataset", partition=FIRST)
    assert materialize(built_resource, FIRST, checks=()).success
    assert store.latest("intent_dataset", partition=FIRST).digest == before.digest
    again = store.latest("intent_dataset", partition=SECOND)
    assert materialize(built_resource, SECOND, checks=()).success
    assert store.latest("intent_dataset", partition=SECOND).digest == again.digest
    assert built.equals(read_dataset(store, "intent_dataset", SECOND).frame)


def test_a_version_as_of_an_earlier_time_knows_less_and_the_newer_one_stays_stored(built_resource):
    store = built_resource.snapshots()
    whole = store.latest("intent_dataset", partition=FIRST)
    version = read_dataset(store, "intent_dataset", FIRST)
    early_ms = int(version.frame["labelled_ms"].drop_nulls().median())
    assert version.card.as_of_ms == version.frame["labelled_ms"].max()
    assert materialize(built_resource, FIRST, checks=(), as_of_ms=early_ms).success
    early = read_dataset(store, "intent_dataset", FIRST)
    assert early.card.as_of_ms == early_ms
    assert 0 < early.frame["labelled_ms"].drop_nulls().max() <= early_ms
    assert whole.digest in {one.digest for one in store.history("intent_dataset")}


def test_what_an_older_snapshot_was_tested_on_is_not_trained_on_though_the_corpus_is_another(resource, store):
    sentences = (f"{message(number)} {message(number + 1)}" for number in range(1_000))
    tested = next(one for one in sentences if (assign_split(one), assign_split(f"{one} too")) == ("test", "train"))
    corpus = read_corpus(store)
    write_corpus(store, [*corpus, Utterance(text=tested, intent="order_status")])
    other = make_label("t-old", "which ferry goes to the island", "order_status", release_bundle=FIRST)
    write_labelled_bundle(store, FIRST, [other])
    assert materialize(resource, FIRST, checks=()).success
    write_corpus(store, [*corpus, Utterance(text=f"{tested} too", intent="order_status")])
    built = build_intent_version(store, FIRST, config=IntentDatasetConfig())
    assert f"{tested} too" not in set(built.frame["text"])
    assert built.card.excluded["an earlier version was tested on it"] == 1
    # What shoppers send may teach, whatever the corpus was tested on.
    write_labelled_bundle(store, FIRST, [replace(other, trace_id="t-new", text=f"{tested} too", sources=("t-new",))])
    assert "trace-t-new" in set(build_intent_version(store, FIRST, config=IntentDatasetConfig()).frame["example_id"])


def test_an_erased_user_is_not_in_the_next_version_nor_carried_into_it(resource, store, demo):
    erased = "u-" + "ab" * 10
    ours = make_label("t-erased", "a message of somebody who left", "order_status", user_key=erased)
    times = {"timestamp_ms": 1_773_140_000_000, "labelled_ms": 1_773_140_100_000}
    write_labelled_bundle(store, FIRST, [*labels_of(demo.first_bundle, FIRST, every=3), replace(ours, **times)])
    assert materialize(resource, FIRST, checks=()).success
    assert erased in set(read_dataset(store, "intent_dataset", FIRST).frame["user_key"])
    record_erasure(store, erased, requested_at="2026-04-01T00:00:00Z")
    assert erased not in set(build(store, FIRST)["user_key"])
    assert erased not in set(build(store, SECOND)["user_key"])


def test_the_golden_set_is_kept_out_of_a_dataset_and_fixed(resource, store, demo):
    inputs = resource.inputs()
    inputs.mkdir(parents=True)
    taught = read_utterances(demo.training).utterances[0]
    golden = GoldenMessage(text=taught.text, intent=taught.intent)
    keep_golden_set(inputs, [golden], vocabulary=Vocabulary(()), replace_present=False)

    def materialize_golden():
        return dg.materialize([golden_set], resources={"store": resource}, raise_on_error=False)

    assert materialize_golden().success
    in_use = store.latest("golden_set")
    assert materialize_golden().success
    assert store.latest("golden_set").digest == in_use.digest
    assert taught.text not in set(build(store, FIRST)["text"])
    (inputs / "golden.jsonl").write_bytes(b'{"text": "mine", "intent": null, "relevant_documents": []}\n')
    assert not materialize_golden().success
    assert store.latest("golden_set").digest == in_use.digest


def test_a_dataset_without_labels_says_what_to_materialize(tmp_path):
    empty = SnapshotStore(UPath(tmp_path))
    with pytest.raises(LookupError, match="intent_labels"):
        build(empty, FIRST)
