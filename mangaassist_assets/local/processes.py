"""Child processes: started tied to this one, recognised later, ended for certain.

A process id alone proves nothing, the system uses it again: a process is identified by its id and its start time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

ROTATE_BYTES = 5_000_000
# psutil derives the start time from the boot time, which moves when the clock is set.
SAME_START_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process id with the process's start time in seconds since the epoch."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """Return the identity of a running process, or None where there is none of that id."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    def is_alive(self) -> bool:
        """Return whether this very process still runs; a zombie does not."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) <= SAME_START_SECONDS
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def wait_until(condition: Callable[[], bool], *, seconds: float, every: float = 0.05) -> bool:
    """Return True as soon as `condition` holds, False where it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every)
    return True


def start_tethered(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: Path,
    inherited: Iterable[int] = (),
    own_group: bool,
) -> subprocess.Popen[bytes]:
    """Start a command whose output is appended to `log` and that gets SIGTERM when this process dies (Linux).

    The tie is to the *thread* that calls this, as the kernel defines it: call it from one that lives as long as the
    process should. `argv[0]` is an absolute path. `inherited` are file descriptors the command keeps.

    Args:
        argv: The command.
        environment: Its whole environment.
        log: The file that gets its output; rotated to `<name>.1` where it has grown large.
        inherited: Descriptors it inherits under the same numbers.
        own_group: Whether it leads a process group of its own, so that Ctrl-C in the terminal passes it by.
    """
    if log.exists() and log.stat().st_size > ROTATE_BYTES:
        log.replace(log.with_name(log.name + ".1"))
    tether = [sys.executable, "-I", "-S", str(Path(__file__).with_name("tethered.py")), str(os.getpid())]
    with log.open("ab") as output:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        output.write(f"--- {stamp} starting\n".encode())
        output.flush()
        return subprocess.Popen(
            [*tether, *argv],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=tuple(inherited),
            start_new_session=own_group,
        )


def exit_status(child: subprocess.Popen[bytes]) -> int | None:
    """Return a child's exit code, the negative signal number where one ended it, or None where it still runs.

    The system's record of it stays for `stop_processes`: until it is taken, the child's id goes to nobody else and its
    group may be signalled safely.
    """
    if child.returncode is not None:
        return child.returncode
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return child.poll()
    try:
        result = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # another thread is just taking the record
        return child.wait()
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status


def stop_processes(processes: Iterable[subprocess.Popen[bytes]], *, grace_seconds: float) -> None:
    """End children that lead their own process group: SIGTERM to each, then SIGKILL to what is left of the groups."""
    children = [child for child in processes if child.returncode is None]
    for child in children:
        os.kill(child.pid, signal.SIGTERM)  # not child.terminate(), which would take the record of one that ended
    wait_until(lambda: all(exit_status(child) is not None for child in children), seconds=grace_seconds)
    for child in children:
        if child.returncode is None:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                # It had not come to lead a group yet (its very first moments), or its group has only a zombie (macOS).
                child.kill()
        child.wait()


def end_leftovers(leftovers: Iterable[ProcessIdentity], *, grace_seconds: float) -> list[int]:
    """End processes that an earlier, killed supervisor left behind; return the ids of those that still ran."""
    found = [identity for identity in leftovers if identity.is_alive()]
    for identity in found:
        _signal(identity, signal.SIGTERM)
    if not wait_until(lambda: not any(identity.is_alive() for identity in found), seconds=grace_seconds):
        for identity in found:
            _signal(identity, signal.SIGKILL)
        wait_until(lambda: not any(identity.is_alive() for identity in found), seconds=grace_seconds)
    return [identity.pid for identity in found]


def _signal(identity: ProcessIdentity, number: signal.Signals) -> None:
    if identity.is_alive():
        try:
            os.kill(identity.pid, number)
        except ProcessLookupError:
            return


def log_tail(log: Path, *, lines: int = 15) -> str:
    """Return the last lines of a log since the latest start, made safe for a terminal."""
    if not log.exists():
        return "(no log was written)"
    tail: deque[str] = deque(maxlen=lines)
    with log.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("--- ") and line.endswith(" starting\n"):
                tail.clear()
                continue
            tail.append("".join(char if char.isprintable() else " " for char in line.rstrip()))
    return "\n".join(tail) or "(the log is empty)"
