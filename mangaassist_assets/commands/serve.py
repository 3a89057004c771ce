"""`mangaassist up` and `mangaassist dev`: the stand-ins in the foreground, with or without Dagster."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from mangaassist_assets.commands.session import Progress, prepare_dagster_home
from mangaassist_assets.local.home import Home
from mangaassist_assets.local.supervisor import Supervisor

LOOPBACK = "127.0.0.1"
DEFAULT_DAGSTER_PORT = 3000


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
    workspace = Path(__file__).resolve().parents[2] / "workspace.yaml"
    with Supervisor(home, progress=progress) as supervisor:
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
