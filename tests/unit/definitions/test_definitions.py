"""The graph as a whole: what is partitioned, who owns what, what a job may touch."""

import dagster as dg
import pytest

from mangaassist_assets.core.environment import EnvironmentNameError, parse_environment
from mangaassist_assets.definitions import build_definitions

PRODUCTION = {
    "intent_champion",
    "reranker_champion",
    "intent_endpoint",
    "reranker_endpoint",
    "live_index",
    "active_release",
    "runtime_configuration",
}


@pytest.fixture(scope="module", params=["local", "aws"])
def definitions(request):
    return build_definitions(request.param)


@pytest.fixture(scope="module")
def graph(definitions):
    return definitions.resolve_asset_graph()


def names(keys):
    return {key.to_user_string() for key in keys}


def test_everything_resolves_in_both_environments(definitions):
    dg.Definitions.validate_loadable(definitions)


def test_every_asset_has_a_group_an_owner_a_kind_a_description_and_a_code_version(graph):
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.group_name != "default", key
        assert node.owners, key
        assert node.kinds, key
        assert len(node.description or "") > 60, key
        assert node.code_version or not node.is_executable, key


def test_production_is_never_partitioned(graph):
    partitioned = {key.to_user_string() for key in graph.get_all_asset_keys() if graph.get(key).is_partitioned}
    assert not partitioned & PRODUCTION
    assert {
        "tagged_traces",
        "review_queue",
        "intent_labels",
        "intent_dataset",
        "intent_classifier",
        "intent_evaluation",
        "release_manifest",
    } <= partitioned


def test_the_backfill_job_touches_nothing_in_production(definitions):
    selected = names(definitions.resolve_job_def("bundle_backfill").asset_layer.executable_asset_keys)
    assert "intent_classifier" in selected
    assert not selected & PRODUCTION


def test_people_are_asked_by_mining_and_their_labels_are_gathered_before_the_dataset(definitions, graph):
    mined = names(definitions.resolve_job_def("failure_mining").asset_layer.executable_asset_keys)
    learned = names(definitions.resolve_job_def("intent_retraining").asset_layer.executable_asset_keys)
    assert "review_queue" in mined
    assert "intent_labels" in learned
    assert dg.AssetKey("review_queue") in graph.get(dg.AssetKey("intent_labels")).parent_keys


def test_every_pipeline_has_its_gate_between_evaluation_and_champion(graph):
    for pipeline in ("intent", "reranker"):
        key = dg.AssetCheckKey(dg.AssetKey(f"{pipeline}_evaluation"), f"{pipeline}_gate")
        # What stops a challenger is the stored verdict: a check that blocked would fail the run.
        assert not graph.get(key).blocking
        assert dg.AssetKey(f"{pipeline}_evaluation") in graph.get(dg.AssetKey(f"{pipeline}_champion")).parent_keys
        assert dg.AssetKey(f"{pipeline}_champion") in graph.get(dg.AssetKey(f"{pipeline}_endpoint")).parent_keys


def test_both_datasets_have_their_blocking_checks_before_anything_is_trained(graph):
    of_both = {"enough_examples", "few_duplicates", "no_leakage", "no_personal_data"}
    expected = {
        "intent_dataset": of_both | {"balanced_labels", "little_label_noise"},
        "reranker_dataset": of_both,
    }
    for asset, checks in expected.items():
        found = {key.name: graph.get(key) for key in graph.asset_check_keys if key.asset_key == dg.AssetKey(asset)}
        assert set(found) == checks
        assert all(node.blocking for node in found.values())


def test_what_learns_knows_the_golden_set(graph):
    golden = dg.AssetKey("golden_set")
    assert not graph.get(golden).is_partitioned
    for learner in ("intent_dataset", "reranker_dataset", "first_intent_classifier", "first_reranker"):
        assert golden in graph.get(dg.AssetKey(learner)).parent_keys, learner


def test_every_check_is_of_an_asset_that_exists(graph):
    for key in graph.asset_check_keys:
        assert graph.has(key.asset_key), key


def test_automation_targets_jobs_that_exist(definitions):
    repository = definitions.get_repository_def()
    jobs = set(repository.job_names)
    for sensor in repository.sensor_defs:
        assert {target.job_name for target in sensor.targets} <= jobs, sensor.name
    assert {schedule.job_name for schedule in repository.schedule_defs} <= jobs
    assert {schedule.name for schedule in repository.schedule_defs} == {
        "nightly_mining",
        "weekly_retraining",
        "nightly_index_refresh",
        "hourly_trigger_watch",
        "weekly_champion_evaluation",
    }


def test_an_override_replaces_one_resource_and_an_unknown_one_is_refused():
    from resources.settings.knowledge import KnowledgeResource

    other = KnowledgeResource(folder="elsewhere")
    assert build_definitions("local", knowledge=other).resources["knowledge"] is other
    with pytest.raises(KeyError, match="no resource is named 'knowlege'"):
        build_definitions("local", knowlege=other)


@pytest.mark.parametrize(("value", "expected"), [(None, "local"), ("", "local"), ("local", "local"), ("aws", "aws")])
def test_the_environment_is_one_of_two(value, expected):
    assert parse_environment(value) == expected


def test_another_environment_is_refused():
    with pytest.raises(EnvironmentNameError, match="'prod'"):
        parse_environment("prod")
