"""`mangaassist up` and `mangaassist dev`: the stand-ins in the foreground, with or without Dagster."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mangaassist_assets.cli.options import Command, json_option
from mangaassist_assets.cli.output import say
from mangaassist_assets.cli.session import Progress, home_of, require_local_packages

if TYPE_CHECKING:
    from mangaassist_assets.local.home import Home

LOOPBACK = "127.0.0.1"
DEFAULT_DAGSTER_PORT = 3000
WORKSPACE = Path(__file__).resolve().parents[3] / "workspace.yaml"


@click.command(cls=Command, local_only=True)
@click.option("--mlflow-port", type=click.IntRange(1, 65535), help="Port of the MLflow server; a free one by default.")
@click.option("--ministack-port", type=click.IntRange(1, 65535), help="Port of MiniStack (Kinesis, AppConfig, S3).")
@click.option("--sagemaker-port", type=click.IntRange(1, 65535), help="Port of the local SageMaker.")
@json_option
@click.pass_obj
def up(
    home: str | None, mlflow_port: int | None, ministack_port: int | None, sagemaker_port: int | None, *, as_json: bool
) -> None:
    """Start MLflow, MiniStack and the local SageMaker in the foreground; Ctrl-C stops them."""
    ports = {"mlflow": mlflow_port, "ministack": ministack_port, "sagemaker": sagemaker_port}
    serve_stand_ins(home, ports={name: port for name, port in ports.items() if port}, progress=say, as_json=as_json)


@click.command(cls=Command, local_only=True)
@click.option("--dagster-port", type=click.IntRange(1, 65535), help="Port of the Dagster page; a free one by default.")
@json_option
@click.pass_obj
def dev(home: str | None, dagster_port: int | None, *, as_json: bool) -> None:
    """Start everything, with Dagster's page, sensors and schedules, in the foreground; Ctrl-C stops it."""
    serve_with_dagster(home, dagster_port=dagster_port, progress=say, as_json=as_json)


def serve_stand_ins(named_home: str | None, *, ports: Mapping[str, int], progress: Progress, as_json: bool) -> None:
    """Run the stand-ins until a signal comes or one of them dies."""
    require_local_packages()
    from mangaassist_assets.local.supervisor import Supervisor

    home = home_of(named_home)
    with Supervisor(home, progress=progress, ports=ports) as supervisor:
        _announce(dict(supervisor.urls), home, as_json=as_json)
        received = supervisor.wait()
        progress(f"{received.name} received: stopping")


def serve_with_dagster(named_home: str | None, *, dagster_port: int | None, progress: Progress, as_json: bool) -> None:
    """Run the stand-ins and `dagster dev` until a signal comes or one of them dies."""
    require_local_packages()
    from mangaassist_assets.local import dagster_instance
    from mangaassist_assets.local.supervisor import Supervisor

    home = home_of(named_home)
    dagster_instance.prepare_dagster_home(home)
    with Supervisor(home, progress=progress) as supervisor:
        left = dagster_instance.end_left_behind(home)
        if left:
            progress(f"ended what a killed Dagster left behind: processes {', '.join(map(str, left))}")
        ended = dagster_instance.end_abandoned_runs(home)
        if ended:
            progress(f"{ended} runs of a Dagster that was stopped in their midst are marked as failed")
        port = dagster_port or _free_port(DEFAULT_DAGSTER_PORT)
        url = f"http://{LOOPBACK}:{port}"
        supervisor.start_process(
            "dagster",
            [
                *(sys.executable, "-m", "dagster", "dev", "--workspace", str(WORKSPACE)),
                *("--host", LOOPBACK, "--port", str(port), "--log-level", "warning"),
            ],
            health_url=f"{url}/server_info",
            start_seconds=180,
            environment={dagster_instance.HOME_VARIABLE: str(home.root)},
        )
        _announce({"dagster": url, **supervisor.urls}, home, as_json=as_json)
        received = supervisor.wait()
        progress(f"{received.name} received: stopping")


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
