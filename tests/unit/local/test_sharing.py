"""Services of a home by name: what another command's supervisor offers is used, and waited for where it is less."""

from __future__ import annotations

import os
import threading

import pytest
from filelock import FileLock

from mangaassist_assets.local.home import Home
from mangaassist_assets.local.processes import ProcessIdentity
from mangaassist_assets.local.services import SupervisorState, client_environment, now
from mangaassist_assets.local.sharing import services
from mangaassist_assets.local.supervisor import AlreadyRunningError, Supervisor


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


def test_a_service_that_was_not_started_has_an_address_that_says_so(home):
    variables = client_environment(home, {"mlflow": "http://127.0.0.1:1"}, {})
    assert variables["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:1"
    assert variables["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9/ministack-was-not-started"
    assert variables["AWS_ENDPOINT_URL_SAGEMAKER"] == "http://127.0.0.1:9/sagemaker-was-not-started"
