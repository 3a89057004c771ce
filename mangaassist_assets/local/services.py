"""Which services stand in for AWS and MLflow on one machine: how each is started, and found by commands."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.files import write_whole
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.local.home import Home, HomeError
from mangaassist_assets.local.ministack_server import HEALTH_PATH
from mangaassist_assets.local.processes import ProcessIdentity
from mangaassist_assets.models.encoders import BASE_MODEL_VARIABLE

REGION = "us-east-1"
NO_SECRET = "not-checked-by-the-stand-ins"  # noqa: S105
SERVICE_NAMES = ("mlflow", "ministack", "sagemaker")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """One service of the supervisor.

    `command(fd, port)` returns the arguments after the interpreter; `health_path` answers 200 once it is ready.
    """

    name: str
    title: str
    command: Callable[[int, int], list[str]]
    health_path: str
    start_seconds: float


def service_specs(home: Home) -> tuple[ServiceSpec, ...]:
    """Return the services of a home."""
    package = "mangaassist_assets.local"
    return (
        ServiceSpec(
            name="mlflow",
            title="MLflow",
            command=lambda fd, _port: ["-m", f"{package}.mlflow_server", "--fd", str(fd), "--folder", str(home.mlflow)],
            health_path="/health",
            start_seconds=120,
        ),
        ServiceSpec(
            name="ministack",
            title="MiniStack (Kinesis, Firehose, AppConfig, S3)",
            command=lambda fd, port: [
                *("-m", f"{package}.ministack_server", "--fd", str(fd), "--port", str(port)),
                *("--folder", str(home.ministack), "--key-file", str(home.access_key_file)),
            ],
            health_path=HEALTH_PATH,
            start_seconds=60,
        ),
        ServiceSpec(
            name="sagemaker",
            title="SageMaker",
            command=lambda fd, _port: ["-m", f"{package}.sagemaker.server", "--fd", str(fd), "--home", str(home.root)],
            # Answers only when the endpoints of the last time serve again.
            health_path="/ready",
            start_seconds=180,
        ),
    )


def client_environment(home: Home, urls: Mapping[str, str], inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that sends every client of this project to the services at `urls`.

    Nothing in it lets a client reach a real account: the access key is the home's own, the user's AWS files are set
    aside, and the address of a service that was not started refuses connections and says why in its path.

    Args:
        home: The home the services run on.
        urls: Base URL by service name.
        inherited: The present environment, whose proxy exceptions and pretrained encoder are kept.
    """
    aws_file = home.run / "aws-config"
    exceptions = inherited.get("NO_PROXY") or inherited.get("no_proxy") or ""
    urls = {name: urls.get(name, f"http://127.0.0.1:9/{name}-was-not-started") for name in SERVICE_NAMES}
    direct = ",".join(dict.fromkeys([*filter(None, exceptions.split(",")), "127.0.0.1", "localhost"]))
    base_model = inherited.get(BASE_MODEL_VARIABLE) or home.base_model()
    return {
        **({BASE_MODEL_VARIABLE: base_model} if base_model else {}),
        "MANGAASSIST_ENV": "local",
        "MANGAASSIST_HOME": str(home.root),
        "MANGAASSIST_STORE": str(home.store),
        "MANGAASSIST_CACHE": str(home.store / "cache"),
        "MANGAASSIST_SEARCH": str(home.search),
        "MANGAASSIST_KNOWLEDGE": str(home.knowledge),
        "MANGAASSIST_WAREHOUSE": str(home.warehouse),
        "MANGAASSIST_PSEUDONYM_KEY_FILE": str(home.pseudonym_key_file),
        "MANGAASSIST_TRACKING_STORE": f"sqlite:///{home.mlflow / 'mlflow.db'}",
        "DAGSTER_HOME": str(home.dagster),
        "MLFLOW_TRACKING_URI": urls["mlflow"],
        "AWS_ENDPOINT_URL": urls["ministack"],
        "AWS_ENDPOINT_URL_SAGEMAKER": urls["sagemaker"],
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": urls["sagemaker"],
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
        "AWS_ACCESS_KEY_ID": home.access_key(),
        "AWS_SECRET_ACCESS_KEY": NO_SECRET,
        "AWS_SESSION_TOKEN": "",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_PROFILE": "default",
        "AWS_CONFIG_FILE": str(aws_file),
        "AWS_SHARED_CREDENTIALS_FILE": str(aws_file),
        "AWS_EC2_METADATA_DISABLED": "true",
        "HF_HUB_OFFLINE": "1",
        # A server of this machine that refuses is gone: the command says so after seconds, not minutes.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "NO_PROXY": direct,
        "no_proxy": direct,
    }


def service_environment(home: Home, urls: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment a service runs with: this process's, with the clients' addresses in it."""
    return {
        **os.environ,
        **client_environment(home, urls, os.environ),
        "PYTHONUNBUFFERED": "1",
        # What a server logs should not depend on the developer's warning filters.
        "PYTHONWARNINGS": "ignore::DeprecationWarning",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServices:
    """The services of one home as a client sees them: base URL by name, and the environment that a client needs."""

    pid: int
    urls: Mapping[str, str]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorState:
    """What a supervisor writes down about itself in `run/services.json`."""

    supervisor: ProcessIdentity
    started_at: str
    ready: bool
    urls: Mapping[str, str]
    children: Mapping[str, ProcessIdentity]

    def write(self, home: Home) -> None:
        """Write it for others to read."""
        write_whole(state_file(home), canonical_json(self))

    @staticmethod
    def read(home: Home) -> SupervisorState | None:
        """Return what the latest supervisor of `home` wrote, or None where there is nothing.

        Raises:
            HomeError: the file cannot be understood.
        """
        path = state_file(home)
        try:
            return from_json(SupervisorState, path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise HomeError(
                f"{path} cannot be understood ({error}). Delete it if no service of this home runs."
            ) from error

    def services(self, home: Home) -> RunningServices:
        """Return the client's view."""
        environment = client_environment(home, self.urls, os.environ)
        return RunningServices(pid=self.supervisor.pid, urls=self.urls, environment=environment)


def state_file(home: Home) -> Path:
    """Return where the state is kept."""
    return home.run / "services.json"


def now() -> str:
    """Return the present time in UTC, ISO 8601, in whole seconds."""
    return datetime.now(tz=UTC).isoformat(timespec="seconds")
