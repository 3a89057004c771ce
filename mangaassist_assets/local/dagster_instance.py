"""The Dagster instance of a home: its configuration, and the runs and processes that a killed command left in it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from mangaassist_assets.local.home import Home, HomeError
from mangaassist_assets.local.processes import ProcessIdentity, end_leftovers

if TYPE_CHECKING:
    import dagster as dg

OWNER_TAG = "mangaassist/driver"
HOME_VARIABLE = "MANGAASSIST_DAGSTER_OF"
"""In the environment of `dagster dev`, its daemon, its code server and its run workers: the home they work for."""
STOP_SECONDS = 10.0
CONFIGURATION = Path(__file__).resolve().parents[2] / "dagster.yaml"


def prepare_dagster_home(home: Home) -> None:
    """Put the checkout's dagster.yaml into DAGSTER_HOME; a changed one replaces the older copy.

    Raises:
        HomeError: the package runs outside a checkout.
    """
    if not CONFIGURATION.is_file():
        raise HomeError(f"{CONFIGURATION.name} is not beside the package: run from a checkout of the repository")
    target = home.dagster / "dagster.yaml"
    if not target.exists() or target.read_bytes() != CONFIGURATION.read_bytes():
        shutil.copyfile(CONFIGURATION, target)


def owner_of_this_process() -> str:
    """Return what a run is tagged with: process id and start time, for the system gives an id to others again."""
    process = psutil.Process()
    return f"{process.pid}:{process.create_time()}"


def _driver(owner: str) -> ProcessIdentity:
    pid, _, created = owner.partition(":")
    return ProcessIdentity(int(pid), float(created))


def end_orphaned_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs whose driving process is gone as failed; returns their ids.

    A command that was killed leaves its run STARTED for ever, and its pool slots taken.
    """
    import dagster as dg

    ended: list[str] = []
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])):
        owner = run.tags.get(OWNER_TAG)
        if owner is None or _driver(owner).is_alive():
            continue
        _fail(instance, run, f"the process {_driver(owner).pid} that drove this run is gone")
        ended.append(run.run_id)
    return ended


def end_abandoned_runs(home: Home) -> int:
    """Mark runs as failed that an earlier `mangaassist dev` launched and did not see the end of; returns how many.

    They would stay STARTED for ever, and with them their pool slots and their places among the concurrent runs: locally
    nobody watches a run but the code server that launched it. Only for the holder of the home, before Dagster starts.
    Dagster then tries them again as dagster.yaml says. Runs that a command drives are recognised by their owner.
    """
    import dagster as dg

    under_way = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    ended = 0
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        ended += len(end_orphaned_runs(instance))
        for run in instance.get_runs(dg.RunsFilter(statuses=under_way)):
            if OWNER_TAG not in run.tags:
                _fail(instance, run, "Dagster was stopped while this run was under way")
                ended += 1
    return ended


def _fail(instance: dg.DagsterInstance, run: dg.DagsterRun, why: str) -> None:
    instance.report_run_failed(run, why)
    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def end_left_behind(home: Home) -> list[int]:
    """End the daemon, page, code server and run workers that a killed `mangaassist dev` left; returns their ids.

    They outlive a `dagster dev` that had no chance to stop them, and a second daemon would tick every sensor twice.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(HOME_VARIABLE) == str(home.root):
                found.append(ProcessIdentity(process.pid, process.create_time()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # gone meanwhile, or of another user
    return end_leftovers(found, grace_seconds=STOP_SECONDS)
