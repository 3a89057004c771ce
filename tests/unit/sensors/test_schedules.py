"""What the clock starts: the newest bundle, one run a night or week."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from mangaassist_assets.partitions import release_bundles
from mangaassist_assets.schedules import ALL_SCHEDULES, nightly_index_refresh, nightly_mining, weekly_retraining

NIGHT = datetime(2026, 3, 29, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def shared_instance(tmp_path_factory):
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as made:
        yield made


@pytest.fixture
def instance(shared_instance):
    for bundle in shared_instance.get_dynamic_partitions(release_bundles.name):
        shared_instance.delete_dynamic_partition(release_bundles.name, bundle)
    return shared_instance


def evaluate(schedule, instance, at=NIGHT):
    return schedule(dg.build_schedule_context(instance=instance, scheduled_execution_time=at))


@pytest.mark.parametrize("schedule", [nightly_mining, weekly_retraining])
def test_without_a_bundle_nothing_is_requested(schedule, instance):
    assert "no release bundle is known yet" in evaluate(schedule, instance).skip_message


@pytest.mark.parametrize(
    ("schedule", "job", "key"),
    [
        (nightly_mining, "failure_mining", "nightly-2026-03-29-b2"),
        (weekly_retraining, "retraining", "weekly-2026-W13-b2"),
    ],
)
def test_the_bundle_that_was_discovered_last_is_taken(schedule, job, key, instance):
    # Discovered last, not last in the alphabet.
    instance.add_dynamic_partitions(release_bundles.name, ["b9"])
    instance.add_dynamic_partitions(release_bundles.name, ["b2"])
    request = evaluate(schedule, instance)
    assert (request.partition_key, request.run_key) == ("b2", key)
    assert schedule.job.name == job


def test_two_weeks_have_two_run_keys(instance):
    instance.add_dynamic_partitions(release_bundles.name, ["b1"])
    keys = {evaluate(weekly_retraining, instance, NIGHT.replace(day=day)).run_key for day in (22, 29)}
    assert len(keys) == 2


def test_every_schedule_runs_from_the_start_in_utc():
    assert nightly_index_refresh.job.name == "index_refresh"
    for schedule in ALL_SCHEDULES:
        assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
        assert schedule.execution_timezone == "UTC"
