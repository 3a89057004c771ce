"""After a retraining run comes its release, whatever the gates said."""

import dagster as dg
import pytest

from sensors.release_after_retraining import build_release_sensors, request_release

BUNDLE = "2026.03.24-rc2"


@dg.op
def work(context: dg.OpExecutionContext) -> None:
    if context.run.tags.get("fails"):
        raise dg.Failure("as if a gate had said no")


@dg.job
def retraining_like():
    work()


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def decide(instance, *, mined=True, fails=False, **tags):
    if mined:
        instance.report_runless_asset_event(dg.AssetMaterialization("tagged_traces", partition=BUNDLE))
    if fails:
        tags["fails"] = "yes"
    result = retraining_like.execute_in_process(instance=instance, tags=tags, raise_on_error=False)
    ended = dg.DagsterEventType.RUN_FAILURE if fails else dg.DagsterEventType.RUN_SUCCESS
    (event,) = [event for event in result.all_events if event.event_type is ended]
    context = dg.build_run_status_sensor_context(
        sensor_name="release", dagster_event=event, dagster_instance=instance, dagster_run=result.dagster_run
    )
    return result.run_id, request_release(context)


@pytest.mark.parametrize("fails", [False, True])
def test_a_retraining_run_that_has_ended_either_way_gets_one_release(instance, fails):
    run_id, request = decide(instance, fails=fails, **{"dagster/partition": BUNDLE})
    assert (request.partition_key, request.run_key) == (BUNDLE, f"release-after-{run_id}")
    assert request.tags["mangaassist/retraining_run"] == run_id


def test_a_run_that_is_tried_again_is_waited_for(instance):
    tags = {"dagster/partition": BUNDLE, "dagster/will_retry": "true"}
    _, skipped = decide(instance, fails=True, **tags)
    assert "tried again" in skipped.skip_message


def test_without_traces_there_is_no_manifest_to_write(instance):
    _, skipped = decide(instance, mined=False, fails=True, **{"dagster/partition": BUNDLE})
    assert BUNDLE in skipped.skip_message
    assert "materialize tagged_traces" in skipped.skip_message


def test_a_run_of_no_bundle_releases_nothing(instance):
    _, skipped = decide(instance)
    assert "no release bundle" in skipped.skip_message


def test_success_and_failure_are_both_watched_from_the_start():
    sensors = build_release_sensors(retraining_like)
    assert [sensor.name for sensor in sensors] == ["release_after_retraining", "release_after_failed_retraining"]
    for sensor in sensors:
        assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
        assert sensor.job.name == "release"
