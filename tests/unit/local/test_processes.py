from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mangaassist_assets.local.processes import (
    ROTATE_BYTES,
    ProcessIdentity,
    end_leftovers,
    exit_status,
    log_tail,
    start_tethered,
    stop_processes,
    wait_until,
)

SLEEP = "import time; time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('set', flush=True); time.sleep(60)"
)


def start(code: str, log: Path, **options: bool) -> subprocess.Popen[bytes]:
    return start_tethered(
        [sys.executable, "-c", code], environment=os.environ, log=log, own_group=options.get("own_group", True)
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "service.log"


@pytest.fixture
def sleeper(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    child = start(SLEEP, log)
    yield child
    stop_processes([child], grace_seconds=5)


def test_a_process_is_recognised_by_its_start_time_not_by_its_id_alone(sleeper: subprocess.Popen[bytes]) -> None:
    identity = ProcessIdentity.of(sleeper.pid)
    assert identity is not None
    assert identity.is_alive()
    assert not ProcessIdentity(sleeper.pid, identity.created - 60).is_alive()


def test_a_stranger_with_a_recorded_id_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    identity = ProcessIdentity.of(sleeper.pid)
    assert identity is not None
    assert end_leftovers([ProcessIdentity(sleeper.pid, identity.created - 60)], grace_seconds=1) == []
    assert exit_status(sleeper) is None


def test_a_leftover_is_ended_even_when_it_ignores_sigterm(log: Path) -> None:
    child = start(STUBBORN, log)
    assert wait_until(lambda: "set" in log_tail(log), seconds=10)
    identity = ProcessIdentity.of(child.pid)
    assert identity is not None
    assert end_leftovers([identity], grace_seconds=0.3) == [child.pid]
    assert child.wait(timeout=5) == -signal.SIGKILL


def test_stopping_ends_what_a_process_started_as_well(log: Path) -> None:
    code = (
        "import subprocess, sys;"
        f"c = subprocess.Popen([sys.executable, '-c', {STUBBORN!r}]); print(c.pid, flush=True); c.wait()"
    )
    child = start(code, log)
    assert wait_until(lambda: "set" in log_tail(log), seconds=10)
    grandchild = ProcessIdentity.of(int(log_tail(log).splitlines()[0]))
    assert grandchild is not None
    stop_processes([child], grace_seconds=0.3)
    assert wait_until(lambda: not grandchild.is_alive(), seconds=5)


def test_exit_status_tells_codes_and_signals_and_does_not_use_them_up(log: Path) -> None:
    child = start("import sys; sys.exit(7)", log)
    assert wait_until(lambda: exit_status(child) is not None, seconds=10)
    assert exit_status(child) == 7
    assert child.returncode is None
    stop_processes([child], grace_seconds=1)
    assert exit_status(child) == 7

    killed = start(SLEEP, log)
    killed.send_signal(signal.SIGKILL)
    assert wait_until(lambda: exit_status(killed) is not None, seconds=10)
    assert exit_status(killed) == -signal.SIGKILL
    killed.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
@pytest.mark.parametrize("moment", ["at once", "when the child runs"])
def test_a_killed_starter_takes_its_children_along(log: Path, moment: str) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from mangaassist_assets.local.processes import start_tethered;"
        f"c = start_tethered([sys.executable, '-u', '-c', {'print(1);' + SLEEP!r}], environment=os.environ,"
        f" log=Path({str(log)!r}), own_group=True); print(c.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        child = ProcessIdentity.of(int(starter.stdout.readline()))
        assert child is not None
        if moment != "at once":
            assert wait_until(lambda: log_tail(log) == "1", seconds=10)
            assert child.is_alive()
        starter.kill()
    assert wait_until(lambda: not child.is_alive(), seconds=10)


def test_the_log_tail_begins_at_the_latest_start_and_is_safe_to_print(log: Path) -> None:
    log.write_text("--- 2026-01-01T00:00:00Z starting\nold\n--- 2026-01-02T00:00:00Z starting\nnew \x1b[31mred\n")
    assert log_tail(log) == "new  [31mred"
    assert log_tail(log.with_name("missing.log")) == "(no log was written)"


def test_a_large_log_is_set_aside_at_the_next_start(log: Path) -> None:
    log.write_bytes(b"x" * (ROTATE_BYTES + 1))
    child = start("print('hello')", log)
    child.wait(timeout=10)
    assert log_tail(log) == "hello"
    assert log.with_name("service.log.1").stat().st_size == ROTATE_BYTES + 1


def test_waiting_gives_up_at_its_deadline() -> None:
    assert not wait_until(lambda: False, seconds=0.1)
