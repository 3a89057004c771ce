"""What the clock starts: the newest bundle, one run a night or week."""

import os
import subprocess
import sys
from datetime import UTC, datetime

import dagster as dg
import pytest
from pydantic import Field

from mangaassist_assets.core.bundles import TURNS_ASSET, TURNS_CARD_FILE
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.partitions import release_bundles
from mangaassist_assets.schedules import ALL_SCHEDULES, nightly_index_refresh, nightly_mining, weekly_retraining
from resources.mlflow.tracking import MlflowResource
from resources.store import StoreResource

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


class Traces(MlflowResource):
    """Starts of bundles that nobody has stored yet, as the tracking server would tell them."""

    starts: dict[str, int] = Field(default={})

    def bundle_start_ms(self, release_bundle):
        return self.starts.get(release_bundle)


@pytest.fixture
def store(tmp_path):
    return StoreResource(root=str(tmp_path / "store"), cache_folder=str(tmp_path / "cache"))


def evaluate(schedule, instance, store, at=NIGHT, **starts):
    resources = {"mlflow": Traces(starts=starts), "store": store}
    with dg.build_schedule_context(instance=instance, resources=resources, scheduled_execution_time=at) as context:
        return schedule(context)


def keep(store, bundle, start_ms):
    card = {"turns": 1, "first_timestamp_ms": start_ms}
    store.snapshots().write(TURNS_ASSET, {TURNS_CARD_FILE: canonical_json(card)}, partition=bundle)


@pytest.mark.parametrize("schedule", [nightly_mining, weekly_retraining])
def test_without_a_bundle_with_a_trace_nothing_is_requested(schedule, instance, store):
    assert "no release bundle with a trace" in evaluate(schedule, instance, store).skip_message
    instance.add_dynamic_partitions(release_bundles.name, ["b1"])
    assert "no release bundle with a trace" in evaluate(schedule, instance, store).skip_message


@pytest.mark.parametrize(
    ("schedule", "job", "key"),
    [
        (nightly_mining, "failure_mining", "nightly-2026-03-29-b2"),
        (weekly_retraining, "retraining", "weekly-2026-W13-b2"),
    ],
)
def test_the_bundle_whose_first_trace_started_last_is_taken(schedule, job, key, instance, store):
    # Neither the last in the alphabet nor the one whose partition an import added last.
    instance.add_dynamic_partitions(release_bundles.name, ["b9", "b2", "b5"])
    for bundle, start_ms in {"b9": 1_000, "b2": 3_000, "b5": 2_000}.items():
        keep(store, bundle, start_ms)
    request = evaluate(schedule, instance, store)
    assert (request.partition_key, request.run_key) == ("b2", key)
    assert schedule.job_name == job


@pytest.mark.parametrize(("start_ms", "newest"), [(500, "b1"), (1_500, "b7")])
def test_a_bundle_that_nobody_mined_yet_is_asked_for_at_the_tracking_server(start_ms, newest, instance, store):
    instance.add_dynamic_partitions(release_bundles.name, ["b1", "b7"])
    keep(store, "b1", 1_000)
    assert evaluate(nightly_mining, instance, store, b7=start_ms).partition_key == newest


def test_two_weeks_have_two_run_keys(instance, store):
    instance.add_dynamic_partitions(release_bundles.name, ["b1"])
    keep(store, "b1", 1_000)
    keys = {evaluate(weekly_retraining, instance, store, NIGHT.replace(day=day)).run_key for day in (22, 29)}
    assert len(keys) == 2


def test_every_schedule_runs_from_the_start_in_utc():
    assert nightly_index_refresh.job.name == "index_refresh"
    for schedule in ALL_SCHEDULES:
        assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
        assert schedule.execution_timezone == "UTC"


@pytest.mark.parametrize(
    ("zone", "said"), [("Asia/Tokyo", "Asia/Tokyo"), ("", "UTC"), ("Mars/Olympus", "Mars/Olympus")]
)
def test_the_hours_are_in_the_time_zone_of_the_installation(zone, said):
    program = (
        "from mangaassist_assets.schedules import ALL_SCHEDULES as all; print({one.execution_timezone for one in all})"
    )
    environment = {**os.environ, "MANGAASSIST_TIME_ZONE": zone}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.stdout.strip() == ("" if zone.startswith("Mars") else f"{{'{said}'}}")
    assert ran.returncode == 0 or f"No time zone found with key {said}" in ran.stderr
