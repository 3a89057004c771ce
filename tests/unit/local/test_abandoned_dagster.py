"""What a killed `mangaassist dev` leaves behind is ended by the next one, and nothing else is."""

import os
import subprocess
import sys

import dagster as dg
import pytest

from mangaassist_assets.local.dagster_instance import (
    OWNER_TAG,
    end_abandoned_runs,
    end_left_behind,
    owner_of_this_process,
    prepare_dagster_home,
)
from mangaassist_assets.local.home import Home

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


@dg.op
def nothing():
    pass


@dg.job
def quick():
    nothing()


@pytest.fixture
def home(tmp_path):
    home = Home.open(tmp_path / "home")
    prepare_dagster_home(home)
    return home


def test_workers_of_this_home_are_ended_and_those_of_another_go_on(home):
    def sleeper(path):
        environment = {**os.environ, "MANGAASSIST_DAGSTER_OF": str(path)}
        process = subprocess.Popen(SLEEP, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "up\n"
        return process

    with sleeper(home.root) as ours, sleeper(home.root.parent / "other") as theirs:
        assert end_left_behind(home) == [ours.pid]
        assert ours.wait(timeout=10) == -15
        assert theirs.poll() is None
        theirs.kill()


def test_runs_that_nobody_will_end_are_marked_failed_and_driven_ones_are_left(home):
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        abandoned = instance.create_run_for_job(quick, status=dg.DagsterRunStatus.STARTED).run_id
        driven = instance.create_run_for_job(
            quick, status=dg.DagsterRunStatus.STARTED, tags={OWNER_TAG: owner_of_this_process()}
        ).run_id
        waiting = instance.create_run_for_job(quick).run_id
        assert end_abandoned_runs(home) == 1
        found = {run.run_id: run.status for run in instance.get_runs()}
    assert found == {
        abandoned: dg.DagsterRunStatus.FAILURE,
        driven: dg.DagsterRunStatus.STARTED,
        waiting: dg.DagsterRunStatus.NOT_STARTED,
    }
