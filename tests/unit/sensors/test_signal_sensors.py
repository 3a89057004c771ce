"""The sensors of AppConfig and of new release bundles, on a real instance, with resources that answer from memory."""

from collections.abc import Collection
from typing import Any, ClassVar
from uuid import uuid4

import dagster as dg
import pytest

from mangaassist_assets.jobs import RETRAINING, failure_mining, release
from mangaassist_assets.partitions import release_bundles
from mangaassist_assets.tracing.ingestion.trace_sources import BundleSightings
from resources.aws.app_config import AppConfigResource
from resources.aws.clients import AwsResource
from resources.mlflow.tracking import MlflowResource
from resources.settings.knowledge import KnowledgeResource
from sensors.configuration_versions import configuration_versions
from sensors.knowledge_documents import knowledge_documents
from sensors.new_release_bundles import new_release_bundles
from tests.support.app_config_api import app_config_error

BUNDLE = "2026.03.24-rc2"


class MemoryTraces(MlflowResource):
    """Start time in ms and bundle of traces. Dagster copies resources, so what it holds is the class's."""

    seen: ClassVar[list[tuple[int, str]]] = []

    def add(self, bundle: str, timestamp_ms: int) -> None:
        self.seen.append((timestamp_ms, bundle))

    def release_bundles_since(self, timestamp_ms: int, *, known: Collection[str] = ()) -> BundleSightings:
        found = [(at, bundle) for at, bundle in self.seen if at > timestamp_ms]
        late = {bundle for _, bundle in self.seen if known and bundle not in known}
        return BundleSightings(
            bundles=tuple(sorted({bundle for _, bundle in found} | late)),
            newest_ms=max((at for at, _ in found), default=0),
            traces=len(found),
        )


class AppConfigApi:
    """The three list calls of AppConfig that tell what is deployed."""

    def __init__(self) -> None:
        self.deployments: list[dict[str, Any]] = []

    def deploy(self, profile: str, version: int, state: str = "COMPLETE") -> None:
        number = len(self.deployments) + 1
        self.deployments.append(
            {
                "DeploymentNumber": number,
                "ConfigurationName": profile,
                "ConfigurationVersion": str(version),
                "State": state,
            }
        )

    def get_paginator(self, operation: str) -> "AppConfigApi":
        self._item = {"list_applications": "mangaassist", "list_environments": "production"}[operation]
        return self

    def paginate(self, **_: str) -> list[dict[str, Any]]:
        return [{"Items": [{"Id": self._item, "Name": self._item}]}]

    def list_deployments(self, **_: object) -> dict[str, Any]:
        return {"Items": self.deployments}


class MemoryAws(AwsResource):
    api: ClassVar[AppConfigApi] = AppConfigApi()

    def client(self, service: str) -> AppConfigApi:
        assert service == "appconfig"
        return self.api


@pytest.fixture(scope="module")
def shared_instance(tmp_path_factory):
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as made:
        yield made


@pytest.fixture
def instance(shared_instance):
    for bundle in shared_instance.get_dynamic_partitions(release_bundles.name):
        shared_instance.delete_dynamic_partition(release_bundles.name, bundle)
    for run in shared_instance.get_runs():
        shared_instance.delete_run(run.run_id)
    shared_instance.wipe_assets([dg.AssetKey("tagged_traces")])
    return shared_instance


@pytest.fixture
def traces():
    MemoryTraces.seen.clear()
    return MemoryTraces(tracking_uri="http://127.0.0.1:9")


class Ticker:
    """Ticks a sensor as the daemon does: the stored cursor goes in, cursor and partitions of the result are kept."""

    def __init__(self, sensor, instance, **resources) -> None:
        self.sensor, self.instance, self.resources = sensor, instance, resources
        self.cursor = None

    def tick(self) -> dg.SensorResult:
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor, resources=self.resources) as context:
            result = self.sensor(context)
        if isinstance(result, dg.SkipReason):
            return result
        self.cursor = result.cursor or self.cursor
        for request in result.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        return result

    def skip_reason(self) -> str:
        result = self.tick()
        assert not result.run_requests
        return result.skip_reason.skip_message

    def requests(self) -> list[dg.RunRequest]:
        return list(self.tick().run_requests or [])


@pytest.fixture
def bundles(instance, traces):
    return Ticker(new_release_bundles, instance, mlflow=traces)


@pytest.fixture
def api():
    MemoryAws.api.deployments.clear()
    return MemoryAws.api


@pytest.fixture
def configuration(instance, api):
    assert api is MemoryAws.api
    return Ticker(configuration_versions, instance, app_config=AppConfigResource(aws=MemoryAws()))


# Release bundles


def ask_for(instance: dg.DagsterInstance, request: dg.RunRequest, status: dg.DagsterRunStatus, job=failure_mining.name):
    """Create the run of a request as the daemon does, and let it come as far as `status`."""
    tags = {**request.tags, "dagster/partition": request.partition_key, "dagster/run_key": request.run_key or ""}
    return instance.add_run(dg.DagsterRun(job_name=job, run_id=str(uuid4()), tags=tags, status=status))


def mine(instance: dg.DagsterInstance, bundle: str) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization("tagged_traces", partition=bundle))


def test_a_new_bundle_becomes_a_partition_and_is_mined_once(bundles, traces, instance):
    traces.add(BUNDLE, 1_000_000_000)
    (request,) = bundles.requests()
    assert (request.run_key, request.partition_key) == (f"new-bundle-{BUNDLE}", BUNDLE)
    assert bundles.sensor.job.name == "failure_mining"
    assert instance.get_dynamic_partitions(release_bundles.name) == [BUNDLE]
    ask_for(instance, request, dg.DagsterRunStatus.STARTING)
    assert bundles.skip_reason() == "1 bundles in 1 traces since the last look, all known; 1 being mined"
    mine(instance, BUNDLE)
    assert bundles.skip_reason() == "1 bundles in 1 traces since the last look, all known"


def test_an_imported_bundle_which_is_a_partition_already_is_mined_like_a_live_one(bundles, traces, instance):
    traces.add(BUNDLE, 2_000_000_000_000)
    ask_for(instance, bundles.requests()[0], dg.DagsterRunStatus.SUCCESS)
    mine(instance, BUNDLE)
    instance.add_dynamic_partitions(release_bundles.name, ["imported"])
    traces.add("imported", 1_000_000_000_000)
    (request,) = bundles.requests()
    assert (request.run_key, request.partition_key) == ("new-bundle-imported", "imported")


def test_the_very_first_bundle_may_be_an_imported_one_behind_the_cursor(bundles, traces, instance):
    traces.add("no, bundle", 2_000_000_000_000)
    assert "1 keys rejected" in bundles.skip_reason()
    instance.add_dynamic_partitions(release_bundles.name, ["imported"])
    traces.add("imported", 1_000)
    assert [request.partition_key for request in bundles.requests()] == ["imported"]


def test_a_bundle_that_somebody_mined_by_hand_is_left_alone(bundles, traces, instance):
    instance.add_dynamic_partitions(release_bundles.name, ["imported"])
    mine(instance, "imported")
    traces.add("imported", 1_000)
    assert "all known" in bundles.skip_reason()


@pytest.mark.parametrize("job", [failure_mining.name, RETRAINING])
def test_a_mining_that_failed_is_named_and_not_asked_for_again(bundles, traces, instance, job):
    traces.add(BUNDLE, 1_000)
    run = ask_for(instance, bundles.requests()[0], dg.DagsterRunStatus.FAILURE, job)
    bundles.cursor = None
    assert f"not mined: {BUNDLE} (run {run.run_id[:8]} FAILURE): run failure_mining" in bundles.skip_reason()


def test_a_run_that_does_not_mine_is_no_mining(bundles, traces, instance):
    traces.add(BUNDLE, 1_000)
    (request,) = bundles.requests()
    ask_for(instance, request, dg.DagsterRunStatus.FAILURE, release.name)
    assert [one.partition_key for one in bundles.requests()] == [BUNDLE]


def test_a_partition_without_traces_is_not_mined(bundles, instance):
    instance.add_dynamic_partitions(release_bundles.name, ["empty"])
    assert bundles.skip_reason() == "0 bundles in 0 traces since the last look, all known"


def test_a_bundle_whose_traces_are_older_than_the_last_look_is_found(bundles, traces, instance):
    traces.add("2026.03.24-rc2", 2_000_000_000_000)
    ask_for(instance, bundles.requests()[0], dg.DagsterRunStatus.STARTED)
    traces.add("2026.03.10-rc1", 1_000_000_000_000)
    assert [request.partition_key for request in bundles.requests()] == ["2026.03.10-rc1"]


@pytest.mark.parametrize("key", ["a,b", "../etc", "a b", "x" * 64])
def test_a_key_that_is_no_bundle_is_reported_and_never_becomes_a_partition(bundles, traces, instance, key):
    traces.add(key, 1_000)
    traces.add(BUNDLE, 1_000)
    (request,) = bundles.requests()
    assert request.partition_key == BUNDLE
    assert instance.get_dynamic_partitions(release_bundles.name) == [BUNDLE]
    ask_for(instance, request, dg.DagsterRunStatus.STARTED)
    assert "1 keys rejected" in bundles.skip_reason()


# Configuration


def test_the_first_look_is_a_baseline(configuration, api):
    api.deploy("routing", 3)
    assert configuration.skip_reason() == "first look, baseline: routing 3"
    assert configuration.skip_reason() == "unchanged: routing 3"


def test_a_deployed_version_requests_one_run_for_all_profiles_that_changed(configuration, api):
    api.deploy("routing", 1)
    api.deploy("prompts", 1)
    configuration.tick()
    api.deploy("routing", 2)
    api.deploy("prompts", 2)
    (request,) = configuration.requests()
    assert request.tags["mangaassist/changed"] == "prompts,routing"
    assert configuration.sensor.job.name == "configuration_refresh"
    assert configuration.skip_reason() == "unchanged: prompts 2, routing 2"


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("DEPLOYING", "under way, waited for"),
        ("ROLLING_BACK", "under way, waited for"),
        ("ROLLED_BACK", "undone, which triggers nothing"),
        ("REVERTED", "undone, which triggers nothing"),
    ],
)
def test_a_deployment_that_is_not_complete_is_no_change(configuration, api, state, said):
    api.deploy("routing", 1)
    configuration.tick()
    api.deploy("routing", 2, state=state)
    assert configuration.skip_reason() == f"unchanged: routing 1; {said}: routing 2 {state}"


def test_every_version_in_force_is_an_observed_version_of_its_external_asset(configuration, api):
    api.deploy("routing", 1)
    api.deploy("unknown-here", 1)
    (baseline,) = configuration.tick().asset_events
    assert (baseline.asset_key, baseline.tags) == (dg.AssetKey("routing_config"), {"dagster/data_version": "1"})
    assert configuration.tick().asset_events == []
    api.deploy("routing", 2)
    api.deploy("prompts", 1, state="ROLLED_BACK")
    events = {one.asset_key.to_user_string(): one for one in configuration.tick().asset_events}
    assert events["routing_config"].tags == {"dagster/data_version": "2"}
    # What never came into force is no version of the data.
    assert events["prompt_config"].tags == {}
    assert events["prompt_config"].metadata["state"].text == "ROLLED_BACK"


def test_an_app_config_that_throttles_is_asked_again_at_the_next_tick(configuration, api, monkeypatch):
    api.deploy("routing", 1)
    configuration.tick()
    api.deploy("routing", 2)

    def throttled(**_):
        raise app_config_error("ThrottlingException", "ListDeployments")

    with monkeypatch.context() as patched:
        patched.setattr(api, "list_deployments", throttled)
        skipped = configuration.tick()
    assert skipped.skip_message == "AppConfig does not answer (ThrottlingException): the next tick asks again"
    assert len(configuration.requests()) == 1


def test_going_back_and_forth_gives_a_run_key_to_every_change(configuration, api):
    api.deploy("routing", 1)
    configuration.tick()
    keys = []
    for version in (2, 1, 2):
        api.deploy("routing", version)
        keys += [request.run_key for request in configuration.requests()]
    assert len(set(keys)) == 3


# Knowledge


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "knowledge"
    made.mkdir()
    (made / "returns.md").write_text("Returns are free.")
    return made


@pytest.fixture
def documents(instance, folder):
    return Ticker(knowledge_documents, instance, knowledge=KnowledgeResource(folder=str(folder)))


def test_a_changed_document_requests_one_refresh_when_the_folder_is_at_rest(documents, folder):
    assert documents.skip_reason() == "first look, baseline: 1 files"
    assert documents.skip_reason() == "unchanged: 1 files"
    (folder / "shipping.md").write_text("Parcels take two days.")
    assert documents.skip_reason() == "changing: 2 files; the next look sees if it is at rest"
    (request,) = documents.requests()
    assert request.tags == {"mangaassist/trigger": "knowledge_documents"}
    assert documents.sensor.job.name == "index_refresh"
    assert documents.skip_reason() == "unchanged: 2 files"


def test_a_knowledge_folder_that_is_gone_for_a_while_loses_nothing(documents, folder):
    documents.tick()
    away = folder.rename(folder.with_name("away"))
    said = documents.tick().skip_message
    assert said == "the knowledge folder cannot be listed (No such file or directory): the next tick looks again"
    away.rename(folder)
    assert documents.skip_reason() == "unchanged: 1 files"


def test_a_cursor_of_an_earlier_version_makes_a_new_baseline(configuration, api):
    api.deploy("routing", 2)
    configuration.cursor = '{"kind": "configuration_changes", "version": 1, "state": {"versions": {}, "edges": 3}}'
    assert configuration.skip_reason() == "first look, baseline: routing 2"
