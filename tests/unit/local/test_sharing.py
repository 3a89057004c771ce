"""Services of a home by name: what another command's supervisor offers is used, and waited for where it is less."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

import pytest
from filelock import FileLock

from mangaassist_assets.local.home import Home
from mangaassist_assets.local.processes import ProcessIdentity, exit_status, start_tethered, wait_until
from mangaassist_assets.local.services import SupervisorState, client_environment, now, state_file
from mangaassist_assets.local.sharing import services
from mangaassist_assets.local.supervisor import AlreadyRunningError, Supervisor, SupervisorError


@pytest.fixture
def home(tmp_path):
    return Home.open(tmp_path / "home")


@pytest.fixture
def holder(home):
    """A supervisor of another command, which started MLflow alone."""
    lock = FileLock(home.run / "supervisor.lock", thread_local=False)
    lock.acquire()
    me = ProcessIdentity.of(os.getpid())
    assert me is not None
    urls = {"mlflow": "http://127.0.0.1:1"}
    SupervisorState(supervisor=me, started_at=now(), ready=True, urls=urls, children={}).write(home)
    yield lock
    lock.release()


def test_services_that_run_are_used(home, holder):  # noqa: ARG001 - it holds the home
    with services(home, names=("mlflow",)) as found:
        assert found.urls == {"mlflow": "http://127.0.0.1:1"}


def test_where_more_is_needed_the_holder_is_waited_for_and_named(home, holder):  # noqa: ARG001 - it holds the home
    said: list[str] = []
    with (
        pytest.raises(AlreadyRunningError, match=f"process {os.getpid()}"),
        services(home, said.append, names=("mlflow", "ministack"), start_seconds=0.5),
    ):
        pass
    assert said == [f"process {os.getpid()} holds the home with mlflow only: waiting for its end"]


def test_after_the_holder_ended_the_services_are_started(home, holder, monkeypatch):
    started: list[tuple[str, ...]] = []
    monkeypatch.setattr(Supervisor, "_start_services", lambda self: started.append(self.names))
    monkeypatch.setattr(Supervisor, "running", property(lambda self: self.names))
    threading.Timer(0.4, holder.release).start()
    with services(home, names=("ministack",), start_seconds=20) as found:
        assert found == ("ministack",)
    assert started == [("ministack",)]


def use(home: Home, meanwhile: Callable[[], object], error: Exception) -> None:
    with services(home, names=("mlflow",)):
        meanwhile()
        raise error


def test_what_fails_after_the_holder_ended_says_that_it_ended(home, holder):  # noqa: ARG001 - it holds the home
    refused = ConnectionError("Max retries exceeded with url: /api/2.0")
    with pytest.raises(SupervisorError, match=f"process {os.getpid()} held, have ended meanwhile") as told:
        use(home, state_file(home).unlink, refused)
    assert told.value.__cause__ is refused


def test_what_fails_for_another_reason_stays_what_it_is(home, holder):  # noqa: ARG001 - it holds the home
    with pytest.raises(ConnectionError, match="the model is gone"):
        use(home, lambda: None, ConnectionError("the model is gone"))


@pytest.fixture
def own_service(monkeypatch):
    """Let a supervisor start a Python program as its MLflow; returns what waits for its end."""

    def starting(program: str) -> Callable[[], None]:
        children = []

        def start(self: Supervisor) -> None:
            argv, log = [sys.executable, "-c", program], self.home.logs / "mlflow.log"
            child = start_tethered(argv, environment=os.environ, log=log, own_group=True)
            children.append(child)
            self._children["mlflow"] = child
            self._started_at = now()

        def wait_for_its_end() -> None:
            assert wait_until(lambda: exit_status(children[0]) is not None, seconds=20)

        monkeypatch.setattr(Supervisor, "_start_services", start)
        return wait_for_its_end

    return starting


def test_what_fails_after_an_own_service_ended_names_the_service_and_its_log(home, own_service):
    ended = own_service("print('no space left'); raise SystemExit(3)")
    with pytest.raises(SupervisorError, match=r"(?s)mlflow .* ended with exit code 3.*no space left"):
        use(home, ended, ConnectionError("refused"))


def test_what_fails_while_the_own_services_run_stays_what_it_is(home, own_service):
    own_service("import signal; signal.pause()")
    with pytest.raises(ConnectionError, match="refused"):
        use(home, lambda: None, ConnectionError("refused"))


def test_a_service_that_was_not_started_has_an_address_that_says_so(home):
    variables = client_environment(home, {"mlflow": "http://127.0.0.1:1"}, {})
    assert variables["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:1"
    assert variables["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9/ministack-was-not-started"
    assert variables["AWS_ENDPOINT_URL_SAGEMAKER"] == "http://127.0.0.1:9/sagemaker-was-not-started"
