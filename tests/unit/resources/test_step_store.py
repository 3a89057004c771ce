"""The store as a step gets it from Dagster: its own partition, what it declares, as of the beginning of its run."""

import json

import dagster as dg
import pytest

from mangaassist_assets.assets.common import materialized
from mangaassist_assets.assets.declaring import declared_asset, declared_check
from mangaassist_assets.core.declared_inputs import Input, Read, UndeclaredReadError
from mangaassist_assets.partitions import release_bundles
from resources.store import SETTLED_TAG, StoreResource

BUNDLE = "2026.03.24-rc2"
FACTS = Input((Read(asset="facts"),), lambda store, _: store.read(store.latest("facts"), "text"))
ROWS = Input((Read(asset="rows", bundles="same"),), lambda store, bundle: store.latest("rows", partition=bundle))
OF_ALL = Read(asset="rows", bundles="all")


@pytest.fixture
def store(tmp_path):
    made = StoreResource(root=str(tmp_path / "store"), cache_folder=str(tmp_path / "cache"))
    made.snapshots().write("facts", {"text": b"old"})
    return made


def definitions(*, rows_read=(FACTS,)):
    facts = dg.AssetSpec("facts")

    @declared_asset(reads=rows_read, partitions_def=release_bundles)
    def rows(context: dg.AssetExecutionContext, store: StoreResource) -> dg.MaterializeResult:
        step = store.step(context)
        # Somebody else materializes an input in the middle of the run.
        store.snapshots().write("facts", {"text": b"new"})
        return materialized(step.keep({"text": step.load(FACTS)}), {})

    @declared_asset(reads=[OF_ALL, FACTS])
    def summary(context: dg.AssetExecutionContext, store: StoreResource) -> dg.MaterializeResult:
        step = store.step(context)
        there = [step.read(step.latest("rows", partition=one), "text") for one in step.partitions("rows")]
        return materialized(step.keep({"text": b"|".join([*there, step.load(FACTS)])}), {})

    @declared_check(asset="rows", reads=[ROWS, FACTS], partitions_def=release_bundles)
    def rows_are_of_the_facts(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
        step = store.step(context)
        return dg.AssetCheckResult(passed=step.read(step.load(ROWS), "text") == step.load(FACTS))

    return [facts, rows, summary, rows_are_of_the_facts]


def run(store, made, **options):
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(release_bundles.name, [BUNDLE])
        result = dg.materialize(made, resources={"store": store}, instance=instance, partition_key=BUNDLE, **options)
        return result, instance.get_run_by_id(result.run_id)


def test_a_run_of_a_bundle_sees_the_inputs_of_its_beginning_and_what_it_makes_itself(store):
    result, recorded = run(store, definitions())
    snapshots = store.snapshots()
    rows, summary = snapshots.latest("rows", partition=BUNDLE), snapshots.latest("summary")
    assert snapshots.read(rows, "text") == b"old"
    assert snapshots.read(summary, "text") == b"old|old"
    (check,) = result.get_asset_check_evaluations()
    assert check.passed
    assert summary.origin.inputs == {f"rows/{BUNDLE}": rows.digest, "facts": rows.origin.inputs["facts"]}
    assert {rows.origin.run_id, summary.origin.run_id} == {result.run_id}
    pins = json.loads((store.path() / recorded.tags[SETTLED_TAG]).read_bytes())["pins"]
    assert pins == {"facts": {"": 1}, "rows": {}} | {"rows": {BUNDLE: 0}}
    (materialization,) = result.asset_materializations_for_node("summary")
    shown = {(one.data["input"], one.data["bundle"]) for one in materialization.metadata["inputs"].records}
    assert shown == {("rows", BUNDLE), ("facts", "none")}


def test_what_has_no_partitions_is_kept_without_one_in_a_run_of_a_bundle(store):
    run(store, definitions())
    assert list(store.snapshots().places("summary")) == [None]
    assert list(store.snapshots().places("rows")) == [BUNDLE]


def test_an_asset_that_reads_what_it_does_not_declare_fails(store):
    with pytest.raises(UndeclaredReadError, match="rows reads facts, but declares nothing"):
        run(store, definitions(rows_read=()))
    assert store.snapshots().find("rows", partition=BUNDLE) is None
