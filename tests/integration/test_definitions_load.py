"""`dagster definitions validate` as an operator runs it, from an environment that holds nothing of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

PASSED_ON = ("PATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH")


def validate(repository_root: Path, home: Path, environment: str) -> subprocess.CompletedProcess[str]:
    variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"],
        cwd=repository_root,
        env={**variables, "MANGAASSIST_ENV": environment, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.parametrize("environment", ["local", "aws"])
def test_the_workspace_is_valid_without_any_variable_server_or_home(repository_root, tmp_path, environment):
    result = validate(repository_root, tmp_path, environment)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_a_wrong_environment_is_named(repository_root, tmp_path):
    result = validate(repository_root, tmp_path, "production")
    assert result.returncode != 0
    assert "'production'" in result.stdout + result.stderr
