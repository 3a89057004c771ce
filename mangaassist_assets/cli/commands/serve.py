"""`mangaassist up` and `mangaassist dev`: the stand-ins in the foreground, with or without Dagster."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import click
import psutil

from mangaassist_assets.cli.session import OWNER_TAG, Progress, end_orphaned_runs, prepare_dagster_home
from mangaassist_assets.local.home import Home
from mangaassist_assets.local.processes import ProcessIdentity, end_leftovers
from mangaassist_assets.local.supervisor import Supervisor

LOOPBACK = "127.0.0.1"
DEFAULT_DAGSTER_PORT = 3000
STOP_SECONDS = 10.0
_MARK = "MANGAASSIST_DAGSTER_OF"
"""In the environment of `dagster dev`, its daemon, its code server and its run workers: the home they work for."""


def serve_stand_ins(home_path: str, *, ports: Mapping[str, int], progress: Progress, as_json: bool) -> None:
    """Run the stand-ins until a signal comes or one of them dies."""
    home = Home.open(home_path)
    with Supervisor(home, progress=progress, ports=ports) as supervisor:
        _announce(dict(supervisor.urls), home, as_json=as_json)
        received = supervisor.wait()
        progress(f"{received.name} received: stopping")


def serve_with_dagster(home_path: str, *, dagster_port: int | None, progress: Progress, as_json: bool) -> None:
    """Run the stand-ins and `dagster dev` until a signal comes or one of them dies."""
    home = Home.open(home_path)
    prepare_dagster_home(home)
    workspace = Path(__file__).resolve().parents[3] / "workspace.yaml"
    with Supervisor(home, progress=progress) as supervisor:
        left = end_left_behind(home)
        if left:
            progress(f"ended what a killed Dagster left behind: processes {', '.join(map(str, left))}")
        ended = end_abandoned_runs(home)
        if ended:
            progress(f"{ended} runs of a Dagster that was stopped in their midst are marked as failed")
        port = dagster_port or _free_port(DEFAULT_DAGSTER_PORT)
        url = f"http://{LOOPBACK}:{port}"
        supervisor.start_process(
            "dagster",
            [
                *(sys.executable, "-m", "dagster", "dev", "--workspace", str(workspace)),
                *("--host", LOOPBACK, "--port", str(port), "--log-level", "warning"),
            ],
            health_url=f"{url}/server_info",
            start_seconds=180,
            environment={_MARK: str(home.root)},
        )
        _announce({"dagster": url, **supervisor.urls}, home, as_json=as_json)
        received = supervisor.wait()
        progress(f"{received.name} received: stopping")


def end_left_behind(home: Home) -> list[int]:
    """End the daemon, page, code server and run workers that a killed `mangaassist dev` left; returns their ids.

    They outlive a `dagster dev` that had no chance to stop them, and a second daemon would tick every sensor twice.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == str(home.root):
                found.append(ProcessIdentity(process.pid, process.create_time()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # gone meanwhile, or of another user
    return end_leftovers(found, grace_seconds=STOP_SECONDS)


def end_abandoned_runs(home: Home) -> int:
    """Mark runs as failed that an earlier `mangaassist dev` launched and did not see the end of; returns how many.

    They would stay STARTED for ever, and with them their pool slots and their places among the concurrent runs: locally
    nobody watches a run but the code server that launched it. Only for the holder of the home, before Dagster starts.
    Dagster then tries them again as dagster.yaml says. Runs that a command drives are told apart by their owner.
    """
    import dagster as dg

    under_way = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    ended = 0
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        ended += len(end_orphaned_runs(instance))
        for run in instance.get_runs(dg.RunsFilter(statuses=under_way)):
            if OWNER_TAG in run.tags:
                continue
            instance.report_run_failed(run, "Dagster was stopped while this run was under way")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            ended += 1
    return ended


def _announce(urls: Mapping[str, str], home: Home, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"home": str(home.root), "logs": str(home.logs), "urls": dict(urls)}))
    else:
        for name, url in urls.items():
            click.echo(f"{name:10} {url}")
        click.echo(f"{'logs':10} {home.logs}\nCtrl-C stops everything.")
    sys.stdout.flush()


def _free_port(preferred: int) -> int:
    """Return the preferred port where it is free, any free one otherwise."""
    for port in (preferred, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            bound: int = probe.getsockname()[1]
            return bound
    msg = f"no free port on {LOOPBACK}"
    raise OSError(msg)
