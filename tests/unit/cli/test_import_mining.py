"""What `import-traces` says of the mining of its bundles: true to what the sensor will do."""

from __future__ import annotations

import time
from types import SimpleNamespace
from uuid import uuid4

import dagster as dg
import pytest

from mangaassist_assets.cli.commands.traces import _mining_of
from mangaassist_assets.jobs import failure_mining
from sensors.mined_bundles import SENSOR, sensor_is_on


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def said(instance):
    return lambda *bundles: _mining_of(SimpleNamespace(instance=instance), bundles)


@pytest.fixture
def daemon(instance, monkeypatch):
    """A daemon whose last heartbeat is as old as is said."""

    def beat(age_s: float) -> None:
        heartbeat = SimpleNamespace(timestamp=time.time() - age_s)
        monkeypatch.setattr(type(instance), "get_daemon_heartbeats", lambda _: {"SENSOR": heartbeat})
        monkeypatch.setattr(type(instance), "all_instigator_state", lambda _: [])

    return beat


def run(instance: dg.DagsterInstance, bundle: str, status: dg.DagsterRunStatus) -> dg.DagsterRun:
    tags = {"dagster/partition": bundle}
    made = dg.DagsterRun(job_name=failure_mining.name, run_id=str(uuid4()), tags=tags, status=status)
    return instance.add_run(made)


def test_where_no_daemon_runs_it_says_how_to_mine_by_hand(said):
    assert said("b1") == {
        "b1": "mined by `mangaassist loop --release-bundle b1 --no-deploy`, or the job failure_mining in Dagster; "
        "`mangaassist dev` does it by itself, which does not run now"
    }


def test_where_a_daemon_runs_the_sensor_mines_it(said, daemon):
    daemon(20)
    assert said("b1") == {"b1": f"the sensor {SENSOR} mines it at its next look"}


def test_a_daemon_that_is_gone_mines_nothing(instance, daemon):
    assert not sensor_is_on(instance)
    daemon(20)
    assert sensor_is_on(instance)
    daemon(1_000)
    assert not sensor_is_on(instance)


def test_a_sensor_that_somebody_stopped_mines_nothing(instance, daemon, monkeypatch):
    daemon(20)
    stopped = SimpleNamespace(instigator_name=SENSOR, status=SimpleNamespace(value="STOPPED"))
    monkeypatch.setattr(type(instance), "all_instigator_state", lambda _: [stopped])
    assert not sensor_is_on(instance)


def test_a_bundle_that_was_mined_or_is_being_mined_is_recognised(instance, said, daemon):
    daemon(20)
    instance.report_runless_asset_event(dg.AssetMaterialization("tagged_traces", partition="old"))
    going = run(instance, "going", dg.DagsterRunStatus.STARTED)
    failed = run(instance, "failed", dg.DagsterRunStatus.FAILURE)
    found = said("old", "going", "failed", "new")
    assert found["old"].startswith(
        "was mined before: its new traces are read by nightly_mining, or now by `mangaassist"
    )
    assert found["going"].startswith(f"run {going.run_id[:8]} is mining it")
    assert found["failed"].startswith(f"run {failed.run_id[:8]} was to mine it and ended FAILURE")
    assert "next look" in found["new"]
