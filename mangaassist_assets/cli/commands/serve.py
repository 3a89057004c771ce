"""`mangaassist up` and `mangaassist dev`: the stand-ins in the foreground, with or without Dagster."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mangaassist_assets.cli.options import Command, json_option
from mangaassist_assets.cli.output import say
from mangaassist_assets.cli.session import home_of, require_local_packages

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
    require_local_packages()
    from mangaassist_assets.local.supervisor import Supervisor

    ports = {"mlflow": mlflow_port, "ministack": ministack_port, "sagemaker": sagemaker_port}
    opened = home_of(home)
    with Supervisor(opened, progress=say, ports={name: port for name, port in ports.items() if port}) as supervisor:
        _announce(supervisor.urls, opened, as_json=as_json)
        say(f"{supervisor.wait().name} received: stopping")


@click.command(cls=Command, local_only=True)
@click.option("--dagster-port", type=click.IntRange(1, 65535), help="Port of the Dagster page; a free one by default.")
@json_option
@click.pass_obj
def dev(home: str | None, dagster_port: int | None, *, as_json: bool) -> None:
    """Start everything, with Dagster's page, sensors and schedules, in the foreground; Ctrl-C stops it."""
    require_local_packages()
    from mangaassist_assets.local import dagster_instance, dagster_page
    from mangaassist_assets.local.ports import port_of, preferred_listener
    from mangaassist_assets.local.supervisor import Supervisor

    opened = home_of(home)
    dagster_instance.prepare_dagster_home(opened)
    with Supervisor(opened, progress=say) as supervisor:
        left = dagster_instance.end_left_behind(opened)
        if left:
            say(f"ended what a killed Dagster left behind: processes {', '.join(map(str, left))}")
        ended = dagster_instance.end_abandoned_runs(opened)
        if ended:
            say(f"{ended} runs of a Dagster that was stopped in their midst are marked as failed")
        with preferred_listener(dagster_port or DEFAULT_DAGSTER_PORT, service="Dagster", home=opened.root) as listener:
            port = dagster_port or port_of(listener)
        url = f"http://{LOOPBACK}:{port}"
        supervisor.start_process(
            "dagster",
            [
                *(sys.executable, "-m", dagster_page.MODULE, "dev", "--workspace", str(WORKSPACE)),
                *("--host", LOOPBACK, "--port", str(port), "--log-level", "warning"),
            ],
            health_url=f"{url}/server_info",
            start_seconds=180,
            environment={
                dagster_instance.HOME_VARIABLE: str(opened.root),
                dagster_page.PORT_VARIABLE: str(port),
            },
        )
        _announce({"dagster": url, **supervisor.urls}, opened, as_json=as_json)
        say(f"{supervisor.wait().name} received: stopping")


def _announce(urls: Mapping[str, str], home: Home, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"home": str(home.root), "logs": str(home.logs), "urls": dict(urls)}))
    else:
        for name, url in urls.items():
            click.echo(f"{name:10} {url}")
        click.echo(f"{'logs':10} {home.logs}\nCtrl-C stops everything.")
    sys.stdout.flush()
