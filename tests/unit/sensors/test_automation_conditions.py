"""When Dagster makes an asset by its condition."""

import dagster as dg
import pytest

from mangaassist_assets.partitions import release_bundles

SOURCES = ("tagged_traces", "failed_traces", "failure_clusters", "intent_evaluation")


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        made.add_dynamic_partitions(release_bundles.name, ["b1", "b2"])
        yield made


@pytest.fixture(scope="module")
def definitions():
    from mangaassist_assets.definitions import build_definitions

    return build_definitions("local")


def requested(definitions, instance, cursor=None):
    result = dg.evaluate_automation_conditions(
        defs=definitions,
        instance=instance,
        asset_selection=dg.AssetSelection.assets("bundle_comparison"),
        cursor=cursor,
    )
    return result.total_requested, result.cursor


def materialize(instance, asset, bundle):
    instance.report_runless_asset_event(dg.AssetMaterialization(asset_key=asset, partition=bundle))


def test_bundles_are_compared_when_something_of_one_changed_and_once(definitions, instance):
    count, cursor = requested(definitions, instance)
    assert count == 0
    for asset in SOURCES:
        materialize(instance, asset, "b1")
    count, cursor = requested(definitions, instance, cursor)
    assert count == 1
    instance.report_runless_asset_event(dg.AssetMaterialization(asset_key="bundle_comparison"))
    count, cursor = requested(definitions, instance, cursor)
    assert count == 0
    materialize(instance, "intent_evaluation", "b2")
    assert requested(definitions, instance, cursor)[0] == 1


def test_what_does_not_go_into_the_comparison_starts_none(definitions, instance):
    _, cursor = requested(definitions, instance)
    materialize(instance, "usage_report", "b1")
    assert requested(definitions, instance, cursor)[0] == 0
