from __future__ import annotations

import os
from pathlib import Path

import pytest

from mangaassist_assets.local.ports import FIRST_PORT, LAST_PORT, PortInUseError, listen_on, port_of, preferred_listener


def test_a_taken_port_is_named_with_its_holder() -> None:
    with listen_on(0, service="first") as holder:
        port = port_of(holder)
        with pytest.raises(PortInUseError, match=rf"Port {port} for second .*held by process {os.getpid()}"):
            listen_on(port, service="second")


def test_a_number_that_is_no_port_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 65535"):
        listen_on(70_000, service="x")


def test_a_home_gets_the_same_ports_each_time_and_services_get_different_ones(tmp_path: Path) -> None:
    def port(service: str) -> int:
        with preferred_listener(None, service=service, home=tmp_path) as listener:
            return port_of(listener)

    first = port("mlflow")
    assert FIRST_PORT <= first <= LAST_PORT
    assert port("mlflow") == first
    assert port("ministack") != first


def test_the_port_of_last_time_is_taken_again_when_it_is_free(tmp_path: Path) -> None:
    with listen_on(0, service="x") as probe:
        last = port_of(probe)
        with preferred_listener(last, service="x", home=tmp_path) as other:
            assert port_of(other) != last
    with preferred_listener(last, service="x", home=tmp_path) as again:
        assert port_of(again) == last
