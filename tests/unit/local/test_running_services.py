from __future__ import annotations

import os
from pathlib import Path

import pytest

from mangaassist_assets.local.home import Home, HomeError
from mangaassist_assets.local.processes import ProcessIdentity
from mangaassist_assets.local.services import SupervisorState, client_environment, now, state_file
from mangaassist_assets.local.sharing import running_services
from mangaassist_assets.local.supervisor import Supervisor

URLS = {"mlflow": "http://127.0.0.1:1", "ministack": "http://127.0.0.1:2", "sagemaker": "http://127.0.0.1:3"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path)


def state(*, ready: bool = True, created_shift: float = 0.0) -> SupervisorState:
    me = ProcessIdentity.of(os.getpid())
    assert me is not None
    supervisor = ProcessIdentity(me.pid, me.created + created_shift)
    return SupervisorState(
        supervisor=supervisor, started_at=now(), ready=ready, urls=URLS, children={"mlflow": ProcessIdentity(1, 2.0)}
    )


def test_a_written_state_reads_back(home: Home) -> None:
    written = state()
    written.write(home)
    assert SupervisorState.read(home) == written


def test_running_services_are_those_of_a_living_supervisor_that_is_ready(home: Home) -> None:
    assert running_services(home) is None
    state(ready=False).write(home)
    assert running_services(home) is None
    state(created_shift=-100).write(home)
    assert running_services(home) is None
    state().write(home)
    found = running_services(home)
    assert found is not None
    assert found.urls == URLS
    assert found.environment["AWS_ENDPOINT_URL"] == URLS["ministack"]


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": 1, "supervisor": {}}', '{"schema": 2}'])
def test_a_damaged_state_file_is_named(home: Home, content: str) -> None:
    state_file(home).write_text(content)
    with pytest.raises(HomeError, match=r"services\.json"):
        running_services(home)


def test_clients_never_see_real_keys_and_keep_their_proxy_exceptions(home: Home) -> None:
    environment = client_environment(home, URLS, {"NO_PROXY": "internal.example,127.0.0.1"})
    assert environment["NO_PROXY"] == "internal.example,127.0.0.1,localhost"
    assert environment["AWS_SHARED_CREDENTIALS_FILE"].startswith(str(home.root))
    assert environment["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"] == URLS["sagemaker"]


def test_a_port_for_a_service_that_does_not_exist_is_refused(home: Home) -> None:
    with pytest.raises(ValueError, match="no service is named 'redshift': mlflow, ministack, sagemaker"):
        Supervisor(home, ports={"redshift": 5439})
