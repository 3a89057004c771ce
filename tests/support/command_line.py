"""Running `mangaassist` as people do, in this process or in one of its own, and looking at what it left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from mangaassist_assets.local.supervisor import Supervisor
from mangaassist_assets.models.pipelines import OWN_PIPELINES


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a command ended. `code` is negative for a signal."""

    code: int
    stdout: str
    stderr: str


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Put everything back that is done to the environment inside; commands point it at their home."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        # Only what differs: a native thread may read the environment just now, and an emptied one moves in memory.
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        for name, value in before.items():
            if os.environ.get(name) != value:
                os.environ[name] = value


def run_here(home: Path, *arguments: str | Path) -> Ran:
    """Run a command in this process; an exception that the command line does not explain is raised."""
    from mangaassist_assets.cli.main import main

    with environment():
        result = CliRunner().invoke(main, ["--home", str(home), *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(code=result.exit_code, stdout=result.stdout, stderr=result.stderr)


def start(
    home: Path,
    *arguments: str | Path,
    program: Sequence[str] = ("-c", "from mangaassist_assets.cli.main import main; main()"),
    variables: dict[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start a command in a process of its own, with pipes for what it prints."""
    return subprocess.Popen(
        [sys.executable, *program, "--home", str(home), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(variables or {})},
    )


def run_apart(home: Path, *arguments: str | Path, seconds: float = 240) -> Ran:
    """Run a command in a process of its own, to its end."""
    with start(home, *arguments) as process:
        try:
            stdout, stderr = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return Ran(code=process.returncode, stdout=stdout, stderr=stderr)


def kill_when_it_says(sentence: str, home: Path, *arguments: str | Path) -> str:
    """Start a command, send SIGKILL as soon as a line of its progress contains `sentence`; returns what it said."""
    said: list[str] = []
    with start(home, *arguments) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if sentence in line:
                process.kill()
        process.wait()
    assert process.returncode == -9, f"it ended before it said {sentence!r}:\n{''.join(said)}"
    return "".join(said)


@dataclass(frozen=True, slots=True, kw_only=True)
class Production:
    """What a command may change and what it must not: by registered model and by endpoint."""

    versions: dict[str, list[str]]
    champions: dict[str, str | None]
    challengers: dict[str, str | None]
    endpoints: dict[str, dict[str, Any]]
    live_generation: str | None


def resources_of(supervisor: Supervisor) -> dict[str, Any]:
    """Return the resources of the local environment; use them inside `environment(**supervisor.environment)`."""
    import dagster as dg

    from mangaassist_assets.definitions import build_definitions

    resources = build_definitions("local").resources or {}
    with environment(**supervisor.environment), dg.build_resources(dict(resources)) as opened:
        return {name: getattr(opened, name) for name in resources}


def production(supervisor: Supervisor) -> Production:
    """Read the registry, the endpoints and the live index themselves."""
    with environment(**supervisor.environment):
        resources = resources_of(supervisor)
        mlflow = resources["mlflow"]
        sagemaker = resources["endpoints"].aws.client("sagemaker")
        aliases = {
            alias: {
                pipeline.model_name: mlflow.version_by_alias(pipeline.model_name, alias) for pipeline in OWN_PIPELINES
            }
            for alias in ("champion", "challenger")
        }
        named = {
            alias: {name: version.version if version else None for name, version in versions.items()}
            for alias, versions in aliases.items()
        }
        endpoints = {
            one["EndpointName"]: sagemaker.describe_endpoint(EndpointName=one["EndpointName"])
            for one in sagemaker.list_endpoints()["Endpoints"]
        }
        return Production(
            versions={
                pipeline.model_name: [one.version for one in mlflow.registry().versions(pipeline.model_name)]
                for pipeline in OWN_PIPELINES
            },
            champions=named["champion"],
            challengers=named["challenger"],
            endpoints={
                name: {key: str(value) for key, value in endpoint.items() if key != "ResponseMetadata"}
                for name, endpoint in endpoints.items()
            },
            live_generation=resources["search"].index().live_generation(),
        )
