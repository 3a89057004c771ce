"""Fixtures that any test may use: the repository, the shared data sets, the local stand-ins."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from mangaassist_assets.local.home import Home
from mangaassist_assets.local.supervisor import Supervisor
from tests.support.dagster_dev import bootstrapped_dev, dagster_dev
from tests.support.postgres import postgres_server

# Of the two packaged encoders the smaller one: a bootstrap would choose the other for the demo's two languages.
os.environ.setdefault("MANGAASSIST_BASE_MODEL", "packaged-minilm")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Processes that share the cores and compute with as many threads as there are cores wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# `make check` looks at fewer examples; `make test` at all of them. How long one takes depends on the machine's load.
settings.register_profile("whole", deadline=None)
settings.register_profile("quick", max_examples=25, deadline=None)
settings.load_profile("whole")

# Files that look at one story, which is driven once a process.
STORIES = {
    "test_dagster_page": "dagster-dev",
    "test_automation": "dagster-dev",
    "test_command_line": "looped-store",
    "test_loop_end_to_end": "looped-store",
}

__all__ = ["bootstrapped_dev", "dagster_dev", "postgres_server"]


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data(repository_root: Path) -> Path:
    """The folder of public data sets beside the repository; skips the test where it is missing."""
    folder = repository_root.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the data sets beside the repository, ../shared/data, are missing")
    return folder


@pytest.fixture(scope="session")
def container_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for entry points and packages of tests, on the path of every serving process of `stand_ins`."""
    return tmp_path_factory.mktemp("container-code")


@pytest.fixture(scope="session")
def stand_ins(
    tmp_path_factory: pytest.TempPathFactory, container_code: Path, repository_root: Path
) -> Iterator[Supervisor]:
    """MLflow, MiniStack and SageMaker on a temporary home, started once and shared by all tests of the session."""
    supervisor = Supervisor(Home.open(tmp_path_factory.mktemp("stand-ins") / "home"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{container_code}{os.pathsep}{repository_root}")
        supervisor.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()


@pytest.fixture(autouse=True)
def keys_of_the_environment() -> None:
    """Let boto3 look for its keys again: its default session keeps those of the home of a test before."""
    if (boto3 := sys.modules.get("boto3")) is not None:
        boto3.DEFAULT_SESSION = None  # type: ignore[attr-defined]


@pytest.fixture
def stand_ins_environment(stand_ins: Supervisor, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The clients' environment, set for the duration of the test."""
    for name, value in stand_ins.environment.items():
        monkeypatch.setenv(name, value)
    return stand_ins.environment


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread, as the processes do that a test starts: the last bits depend on it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_configure() -> None:
    """Collect garbage seldom until all tests are collected, and let SIGINT interrupt.

    A shell that started the tests in the background ignores SIGINT. Dagster gives SIGTERM the handler of SIGINT when a
    run ends, and child processes inherit what is ignored.
    """
    gc.set_threshold(200_000, 10, 10)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Leave what was imported and collected out of every later collection of garbage.

    A million objects of Dagster, pydantic and the tests are looked through again and again otherwise: that takes a
    third of the unit tests' CPU time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


class ByStory(LoadScopeScheduling):  # type: ignore[misc]
    """Gives the tests of a file, and of files that share a story, to one process.

    pytest-xdist 3.8 has marks for that, which pytest 9.2 loses on the way: a node's id does not change any more.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return STORIES.get(Path(path).stem, path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByStory:
    """Share the files among processes, in their order."""
    return ByStory(config, log)
