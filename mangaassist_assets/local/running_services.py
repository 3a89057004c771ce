"""What a supervisor writes down about itself, for the commands that come to use its services."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mangaassist_assets.core.files import write_whole
from mangaassist_assets.local.home import Home, HomeError
from mangaassist_assets.local.processes import ProcessIdentity
from mangaassist_assets.local.services import client_environment

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServices:
    """The services of one home, as a client sees them.

    `urls` has the base URL by service name (`mlflow`, `ministack`, `sagemaker`); `environment` is what a client process
    needs; `logs` is the folder of their log files; `pid` is the supervisor's.
    """

    pid: int
    started_at: datetime
    urls: Mapping[str, str]
    environment: Mapping[str, str]
    logs: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorState:
    """The content of `run/services.json`."""

    supervisor: ProcessIdentity
    started_at: datetime
    ready: bool
    urls: Mapping[str, str]
    children: Mapping[str, ProcessIdentity]

    def write(self, home: Home) -> None:
        """Write it for others to read."""
        content = {
            "schema": SCHEMA,
            "supervisor": {"pid": self.supervisor.pid, "created": self.supervisor.created},
            "started_at": self.started_at.isoformat(),
            "ready": self.ready,
            "urls": dict(self.urls),
            "children": {name: {"pid": child.pid, "created": child.created} for name, child in self.children.items()},
        }
        write_whole(state_file(home), json.dumps(content, indent=2).encode(), durable=True)

    @staticmethod
    def read(home: Home) -> SupervisorState | None:
        """Return what the latest supervisor of `home` wrote, or None where there is nothing.

        Raises:
            HomeError: the file cannot be understood.
        """
        path = state_file(home)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["schema"] != SCHEMA:
                raise HomeError(f"{path} was written by another version. Stop the services with that version first.")
            return SupervisorState(
                supervisor=_identity(content["supervisor"]),
                started_at=datetime.fromisoformat(content["started_at"]),
                ready=bool(content["ready"]),
                urls={str(name): str(url) for name, url in content["urls"].items()},
                children={str(name): _identity(child) for name, child in content["children"].items()},
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise HomeError(
                f"{path} cannot be understood ({type(error).__name__}: {error}). "
                "Delete it if no service of this home runs."
            ) from error

    def services(self, home: Home, inherited: Mapping[str, str]) -> RunningServices:
        """Return the client's view."""
        return RunningServices(
            pid=self.supervisor.pid,
            started_at=self.started_at,
            urls=self.urls,
            environment=client_environment(home, self.urls, inherited),
            logs=home.logs,
        )


def state_file(home: Home) -> Path:
    """Return where the state is kept."""
    return home.run / "services.json"


def now() -> datetime:
    """Return the present time in UTC, in whole seconds."""
    return datetime.now(tz=UTC).replace(microsecond=0)


def _identity(content: Mapping[str, float]) -> ProcessIdentity:
    return ProcessIdentity(pid=int(content["pid"]), created=float(content["created"]))
