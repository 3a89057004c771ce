"""What starts the loop, seen under a running `mangaassist dev`: sensors, schedules, backfills, retries."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from mangaassist_assets.chatbot.configuration.documents import GuardrailsDocument, RoutingDocument
from mangaassist_assets.local.home import Home
from mangaassist_assets.triggers.settings import SETTINGS_FILE
from resources.aws.app_config import AppConfigResource
from resources.aws.clients import AwsResource
from tests.support.app_config_by_hand import past_this_code
from tests.support.command_line import Production, environment, run_apart
from tests.support.dagster_dev import LOCATION, DagsterDev, Run, job_command

pytestmark = pytest.mark.integration

FIRST, SECOND = "2026.04.07-rc1", "2026.04.21-rc2"
TOO_FEW = "intent_dataset_enough_examples"
SMALL_STORE = """
[feedback]
expected_share = 0.05     # there is no bundle before the first one
run_length = 100
block_votes = 5
window_votes = 400
minimum_votes = 15
minimum_shoppers = 3
left_out_share = 0.0
confound_hours = 0        # everything was deployed a minute ago
"""
NEW_INTENTS_BEGIN = 13
"""Traffic from this line on is of intents that the champion has not learned: shoppers press thumbs down."""


@pytest.fixture(scope="module", autouse=True)
def stopped_afterwards(bootstrapped_dev: DagsterDev) -> Iterator[None]:
    yield
    bootstrapped_dev.stop()


@pytest.fixture(scope="module")
def dev(bootstrapped_dev: DagsterDev) -> DagsterDev:
    """Dagster at work: every sensor had its first look, then the first bundle's few messages came."""
    inputs = Home.open(bootstrapped_dev.home).store / "inputs"
    inputs.mkdir(exist_ok=True)
    (inputs / SETTINGS_FILE).write_text(SMALL_STORE)
    bootstrapped_dev.start()
    for sensor in ("feedback_threshold", "configuration_versions", "new_release_bundles"):
        bootstrapped_dev.eventually(
            lambda sensor=sensor: [tick for tick in bootstrapped_dev.ticks(sensor) if tick["status"] != "STARTED"],
            what=f"first tick of {sensor}",
        )
    report = bootstrapped_dev.simulate(FIRST, lines=slice(NEW_INTENTS_BEGIN, NEW_INTENTS_BEGIN + 4))
    assert report["thumbs_down"] > 0
    return bootstrapped_dev


@pytest.fixture(scope="module")
def mined(dev: DagsterDev) -> Run:
    return dev.ended_run("failure_mining", dagster__partition=FIRST)


@pytest.fixture(scope="module")
def few_thumbs(dev: DagsterDev, mined: Run) -> str:
    """The skip reason of the tick that counted the first thumbs; taken before there are more."""
    assert mined.bundle == FIRST

    def reason() -> str | None:
        reasons = [tick["skipReason"] or "" for tick in dev.ticks("feedback_threshold")]
        return next((one for one in reasons if FIRST in one), None)

    return dev.eventually(reason, what="tick that counted the first thumbs")


@pytest.fixture(scope="module")
def retrained(dev: DagsterDev, few_thumbs: str) -> Run:
    assert few_thumbs
    # What the thumbs start is to find the reviews.
    with dev.stopped_sensor("feedback_threshold"):
        report = dev.simulate(FIRST, lines=slice(NEW_INTENTS_BEGIN, None), review_budget=400)
    assert report["thumbs_down"] >= 20
    assert report["reviews"] == report["turns"]
    return dev.ended_run("retraining", dagster__partition=FIRST)


@pytest.fixture(scope="module")
def settled(dev: DagsterDev, retrained: Run) -> DagsterDev:
    """Two mined bundles, and nothing under way."""
    dev.simulate(SECOND, lines=slice(0, 14))
    dev.ended_run("failure_mining", dagster__partition=SECOND)
    dev.ended_run("release", mangaassist__retraining_run=retrained.run_id)
    dev.idle()
    return dev


def test_a_new_bundle_in_the_traces_becomes_a_partition_and_is_mined(dev, mined):
    assert mined.status == "SUCCESS"
    assert mined.tags["mangaassist/trigger"] == "new_release_bundles"
    assert mined.run_id in [run for tick in dev.ticks("new_release_bundles") for run in tick["runIds"]]


def test_too_few_thumbs_downs_are_skipped_with_their_numbers(few_thumbs):
    assert f"{FIRST}: " in few_thumbs
    assert "thumbs-down of" in few_thumbs
    assert "evidence" in few_thumbs


def test_a_rise_of_thumbs_downs_retrains_once_and_says_on_what_numbers(dev, retrained):
    assert retrained.tags["mangaassist/trigger"] == "feedback_threshold"
    assert int(retrained.tags["mangaassist/thumbs_down"]) >= 10
    evidence, _, needed = retrained.tags["mangaassist/evidence"].partition(" of ")
    assert float(evidence) >= float(needed)
    assert len(dev.runs("retraining", dagster__partition=FIRST)) == 1
    # Failed it can have only at a gate.
    query = """query($id: ID!) { runOrError(runId: $id) { ... on Run { stepStats { stepKey status } } } }"""
    steps = dev.graphql(query, id=retrained.run_id)["runOrError"]["stepStats"]
    assert {step["stepKey"] for step in steps if step["status"] == "FAILURE"} <= {
        "intent_evaluation_intent_gate",
        "reranker_evaluation_reranker_gate",
    }
    assert {"intent_evaluation", "reranker_evaluation"} <= {
        step["stepKey"] for step in steps if step["status"] == "SUCCESS"
    }


def test_a_release_manifest_follows_a_retraining_run_whatever_its_gates_said(dev, retrained):
    release = dev.ended_run("release", mangaassist__retraining_run=retrained.run_id)
    assert (release.status, release.bundle) == ("SUCCESS", FIRST)


def test_a_deployed_routing_policy_is_recorded_and_evaluated(settled):
    with environment(**settled.environment()):
        resource = AppConfigResource(aws=AwsResource())
        document = resource.document("routing")
        assert isinstance(document, RoutingDocument)
        resource.deploy("routing", document.model_copy(update={"version": "routing-of-the-automation-test"}))
    run = settled.ended_run("configuration_refresh", mangaassist__changed="routing")
    assert run.status == "SUCCESS"
    assert run.run_id in [one for tick in settled.ticks("configuration_versions") for one in tick["runIds"]]


def test_a_broken_document_fails_its_refresh_and_the_next_valid_one_is_recorded(settled):
    with environment(**settled.environment()):
        resource = AppConfigResource(aws=AwsResource())
        valid = resource.document("guardrails")
        assert isinstance(valid, GuardrailsDocument)
        past_this_code(resource, "guardrails", b'{"version": "broken", "blocked_patterns": "all"}')
        refused = settled.ended_run("configuration_refresh", mangaassist__changed="guardrails")
        serving = resource.document("guardrails")
        resource.deploy("guardrails", valid.model_copy(update={"version": "repaired-by-the-automation-test"}))
    assert refused.status == "FAILURE"
    assert asset_steps(settled, refused, status="FAILURE") == {"runtime_configuration_configuration_is_valid"}
    assert asset_steps(settled, refused) >= {"runtime_configuration", "active_release", "configuration_evaluation"}
    assert serving == valid
    repaired = settled.eventually(
        lambda: [
            run
            for run in settled.runs("configuration_refresh", mangaassist__changed="guardrails")
            if run.status == "SUCCESS"
        ],
        what="refresh after the repair",
    )
    assert repaired[0].run_id != refused.run_id


# SECOND was registered last, but the traffic of FIRST began later: see the lines that `dev` and `settled` drive.
@pytest.mark.parametrize(
    ("schedule", "bundle"), [("nightly_mining", FIRST), ("weekly_retraining", FIRST), ("nightly_index_refresh", None)]
)
def test_a_schedule_runs_and_its_tick_requests_a_run(settled, schedule, bundle):
    query = """mutation($selector: ScheduleSelector!) { scheduleDryRun(selectorData: $selector, timestamp: 1775350800) {
        ... on DryRunInstigationTick { evaluationResult { skipReason error { message }
          runRequests { runKey jobName tags { key value } } } } ... on PythonError { message } } }"""
    selector = {**LOCATION, "scheduleName": schedule}
    result = settled.graphql(query, selector=selector)["scheduleDryRun"]["evaluationResult"]
    assert result["error"] is None
    (request,) = result["runRequests"]
    tags = {tag["key"]: tag["value"] for tag in request["tags"]}
    assert tags.get("dagster/partition") == bundle
    state = """query($selector: ScheduleSelector!) { scheduleOrError(scheduleSelector: $selector) {
        ... on Schedule { scheduleState { status } } } }"""
    answer = settled.graphql(state, selector=selector)["scheduleOrError"]
    assert answer["scheduleState"]["status"] == "RUNNING"


def test_a_backfill_from_the_command_line_leaves_production_alone(settled):
    before = settled.production()
    done = job_command(
        *(settled, "job", "backfill", "--job", "bundle_backfill", "--location", "mangaassist"),
        *("--partitions", f"{FIRST},{SECOND}", "--noprompt"),
    )
    assert done.returncode == 0, done.stderr
    for bundle in (FIRST, SECOND):
        run = settled.ended_run("bundle_backfill", dagster__partition=bundle)
        assert "dagster/backfill" in run.tags
        assert asset_steps(settled, run) >= {"intent_dataset", "reranker_dataset"}
        if bundle == FIRST:
            assert asset_steps(settled, run) >= {"intent_classifier", "reranker", "intent_evaluation"}
        else:
            # Fourteen messages are too few to judge an intent classifier with: that stops this model pipeline alone.
            assert TOO_FEW in asset_steps(settled, run, status="FAILURE")
    assert_untouched(settled, before)


def test_a_backfill_from_the_page_leaves_production_alone(settled):
    before = settled.production()
    launch = """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
        __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
    assets = [{"path": [name]} for name in ("tagged_traces", "failed_traces", "failure_clusters", "intent_dataset")]
    answer = settled.graphql(launch, params={"assetSelection": assets, "partitionNames": [FIRST, SECOND]})
    backfill = answer["launchPartitionBackfill"].get("backfillId")
    assert backfill, answer
    query = """query($id: String!) { partitionBackfillOrError(backfillId: $id) {
        ... on PartitionBackfill { status } } }"""

    def finished() -> dict[str, object] | None:
        state: dict[str, object] = settled.graphql(query, id=backfill)["partitionBackfillOrError"]
        return state if state["status"] not in {"REQUESTED", "COMPLETING"} else None

    state = settled.eventually(finished, what="end of the backfill")
    # Whether one that a check stopped counts as failed is Dagster's to say.
    assert str(state["status"]).startswith("COMPLETED_"), state
    # Datasets read the bundles before theirs too; what is made again are the bundles that were asked for.
    runs = settled.runs(dagster__backfill=str(backfill))
    assert sorted(run.bundle for run in runs) == [FIRST, SECOND]
    (small,) = [run for run in runs if run.status == "FAILURE"]
    assert (small.bundle, asset_steps(settled, small, status="FAILURE")) == (SECOND, {TOO_FEW})
    assert_untouched(settled, before)


def asset_steps(dev: DagsterDev, run: Run, *, status: str = "SUCCESS") -> set[str]:
    query = """query($id: ID!) { runOrError(runId: $id) { ... on Run { stepStats { stepKey status } } } }"""
    steps = dev.graphql(query, id=run.run_id)["runOrError"]["stepStats"]
    return {step["stepKey"] for step in steps if step["status"] == status}


def assert_untouched(dev: DagsterDev, before: Production) -> None:
    after = dev.production()
    assert after.endpoints == before.endpoints  # configuration and time of the last change are in it
    assert after.champions == before.champions
    assert after.live_generation == before.live_generation


def test_a_killed_worker_is_noticed_and_its_run_is_tried_once_more(settled):
    launch = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
        __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
    params = {
        "selector": {**LOCATION, "jobName": "failure_mining"},
        "executionMetadata": {
            "tags": [{"key": "dagster/partition", "value": SECOND}, {"key": "test", "value": "kill"}]
        },
    }
    run_id = settled.graphql(launch, params=params)["launchRun"]["run"]["runId"]

    def worker():
        (run,) = [one for one in settled.runs("failure_mining", test="kill") if one.run_id == run_id]
        assert run.status not in {"SUCCESS", "FAILURE"}, "too late to kill"
        return settled.worker_of(run)

    settled.eventually(worker, what="worker of the run").send_signal(signal.SIGKILL)
    retry = settled.ended_run("failure_mining", dagster__parent_run_id=run_id)
    assert retry.status == "SUCCESS"
    assert retry.tags["dagster/retry_number"] == "1"
    killed = next(run for run in settled.runs("failure_mining", test="kill") if run.run_id == run_id)
    assert (killed.status, killed.tags["dagster/will_retry"]) == ("FAILURE", "true")


def test_a_loop_beside_a_running_dagster_is_left_alone_by_it(settled):
    ran = run_apart(settled.home, "loop", "--release-bundle", SECOND, "--no-deploy", "--json")
    assert ran.code == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert report["succeeded"]
    status = {run.run_id: run for run in settled.runs()}
    for run_id in report["runs"].values():
        assert "mangaassist/trigger" not in status[run_id].tags
        # Whatever the gates said; what is too small to train on stops its run.
        assert asset_steps(settled, status[run_id], status="FAILURE") <= {TOO_FEW, "reranker_dataset_enough_examples"}
    # No second release.
    assert not [run for run in settled.runs() if run.tags.get("dagster/parent_run_id") in report["runs"].values()]


def test_limits_retries_and_monitoring_of_dagster_yaml_are_in_force(settled):
    query = """{ instance { info runQueueConfig { maxConcurrentRuns tagConcurrencyLimitsYaml }
        concurrencyLimits { concurrencyKey slotCount }
        daemonHealth { allDaemonStatuses { daemonType healthy required } } } }"""
    instance = settled.graphql(query)["instance"]
    assert instance["runQueueConfig"]["maxConcurrentRuns"] == 2
    assert "applyLimitPerUniqueValue" in instance["runQueueConfig"]["tagConcurrencyLimitsYaml"]
    pools = {pool["concurrencyKey"]: pool["slotCount"] for pool in instance["concurrencyLimits"]}
    assert pools == {
        "feedback_stream": 1,
        "index_build": 1,
        "production": 1,
        "trace_ingestion": 1,
        "training": 1,
        "warehouse": 1,
    }
    assert "retry_on_asset_or_op_failure: false" in instance["info"]
    daemons = {one["daemonType"]: one for one in instance["daemonHealth"]["allDaemonStatuses"]}
    assert daemons["MONITORING"]["required"]
    assert [name for name, one in daemons.items() if one["required"] and not one["healthy"]] == []


def test_what_people_rely_on_says_whether_it_is_overdue(settled):
    query = """query Nodes($keys: [AssetKeyInput!]) {
        assetNodes(assetKeys: $keys) { assetKey { path } freshnessStatusInfo { freshnessStatus } } }"""
    relied_on = ("tagged_traces", "live_index")

    def fresh():
        nodes = settled.graphql(query, keys=[{"path": [name]} for name in relied_on])["assetNodes"]
        states = {node["assetKey"]["path"][0]: node["freshnessStatusInfo"]["freshnessStatus"] for node in nodes}
        return states if states == dict.fromkeys(relied_on, "HEALTHY") else None

    assert settled.eventually(fresh, what="freshness of what was just made")


def test_bundles_are_compared_when_retraining_has_ended(settled):
    def compared():
        return [run for run in settled.runs() if "bundle_comparison" in asset_steps(settled, run)]

    assert settled.eventually(compared, what="run of bundle_comparison")
