"""Starts, watches and stops the local stand-ins of one home.

One supervisor holds a home at a time, by a file lock that the system gives back when it dies in whatever way. Its
services die with it: they are tied to it by the kernel where that is possible, and what is left over otherwise is ended
by the next supervisor, which knows it by process id and start time.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from filelock import FileLock, Timeout

from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.files import write_whole
from mangaassist_assets.local.home import Home, HomeError
from mangaassist_assets.local.ports import (
    HOST,
    answers,
    keep_ports,
    kept_ports,
    listen_on,
    port_of,
    preferred_listener,
)
from mangaassist_assets.local.processes import (
    ProcessIdentity,
    end_leftovers,
    exit_status,
    log_tail,
    start_tethered,
    stop_processes,
    wait_until,
)
from mangaassist_assets.local.services import (
    SERVICE_NAMES,
    RunningServices,
    ServiceSpec,
    SupervisorState,
    now,
    service_environment,
    service_specs,
    state_file,
)

STOP_SECONDS = 15.0
WATCH_SECONDS = 0.3

Progress = Callable[[str], None]


class SupervisorError(OperatorError):
    """The services could not be started or did not stay up."""


class AlreadyRunningError(SupervisorError):
    """Another supervisor holds the home."""


class ServiceError(SupervisorError):
    """One service failed; the message has its exit code, the end of its log and the log's path."""

    def __init__(self, service: str, reason: str, log: Path) -> None:
        self.service = service
        self.log = log
        super().__init__(f"{service} {reason}. The end of its log, {log}:\n{log_tail(log)}")


class Supervisor:
    """The local stand-ins of one home, for as long as the context lasts.

    Call `start` from a thread that lives as long as the services should (see `start_tethered`).

    Args:
        home: The home that keeps their state.
        progress: Called with one line of text per event, from any thread.
        ports: Fixed ports by service name; the others are free ones, the same as last time where possible.
        names: The services to start.
    """

    def __init__(
        self,
        home: Home,
        *,
        progress: Progress | None = None,
        ports: Mapping[str, int] | None = None,
        names: Sequence[str] = SERVICE_NAMES,
    ) -> None:
        self._home = home
        self._progress: Progress = progress or (lambda _line: None)
        self._fixed_ports = dict(ports or {})
        unknown = {*names, *self._fixed_ports} - set(SERVICE_NAMES)
        if unknown:
            raise ValueError(f"no service is named {min(unknown)!r}: {', '.join(SERVICE_NAMES)}")
        self._specs = tuple(spec for spec in service_specs(home) if spec.name in names)
        self._lock = FileLock(home.run / "supervisor.lock", mode=0o600, thread_local=False)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._identities: dict[str, ProcessIdentity] = {}
        self._urls: dict[str, str] = {}
        self._started_at: str | None = None
        self._ready = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def home(self) -> Home:
        """The home it holds."""
        return self._home

    @property
    def names(self) -> tuple[str, ...]:
        """The services it starts."""
        return tuple(spec.name for spec in self._specs)

    @property
    def urls(self) -> Mapping[str, str]:
        """Base URL by service name."""
        return dict(self._urls)

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variables that every client of the services needs."""
        return self.running.environment

    @property
    def running(self) -> RunningServices:
        """The client's view of the services."""
        return self._state().services(self._home)

    @property
    def processes(self) -> Mapping[str, int]:
        """Process id by service name."""
        return {name: child.pid for name, child in self._children.items()}

    def start(self) -> None:
        """Start the services in parallel and return when each is healthy.

        Raises:
            AlreadyRunningError: another supervisor holds the home; says which, since when, and its URLs.
            HomeError: the home's pseudonym key or a database of it cannot be used.
            PortInUseError: a fixed port is taken.
            ServiceError: a service ended or did not become healthy in time. All others are stopped.
        """
        if self._started_at is not None:
            raise SupervisorError(f"the services of {self._home.root} were started already")
        self._acquire()
        try:
            # The environment names its file, and whoever reads traces needs it, whichever chatbot wrote them.
            self._home.pseudonym_key()
            self._home.require_readable()
            self._end_leftovers()
            self._start_services()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all services and release the home; without effect where nothing runs."""
        if self._children:
            self._progress("stopping the services")
        # Those that were added last depend on those before them.
        added = [child for name, child in reversed(self._children.items()) if name not in self.names]
        stop_processes(added, grace_seconds=STOP_SECONDS)
        stop_processes(self._children.values(), grace_seconds=STOP_SECONDS)
        self._children.clear()
        self._identities.clear()
        self._started_at = None
        self._ready = False
        if self._lock.is_locked:
            state_file(self._home).unlink(missing_ok=True)
            self._lock.release()

    def start_process(
        self,
        name: str,
        argv: Sequence[str],
        *,
        health_url: str,
        start_seconds: float,
        environment: Mapping[str, str],
    ) -> None:
        """Start one more process beside the services and wait until it is healthy: it is watched and stopped with them.

        Args:
            name: Names it and its log file.
            argv: The command; the first element is an absolute path.
            health_url: Answers 200 when it is healthy.
            start_seconds: How long to wait for that.
            environment: Variables beside those of the services.

        Raises:
            ServiceError: it ended or did not become healthy in time. It is stopped then, the services go on.
        """
        child = self._spawn(name, argv, {**service_environment(self._home, self._urls), **environment}, inherited=())
        try:
            self._await_health(name, child, health_url, start_seconds)
        except ServiceError:
            stop_processes([self._children.pop(name)], grace_seconds=STOP_SECONDS)
            self._identities.pop(name, None)
            self._write_state()
            raise

    def wait(self) -> signal.Signals:
        """Block until SIGINT, SIGTERM or SIGHUP comes, and return which. Only for the main thread.

        Raises:
            ServiceError: a service ended by itself.
        """
        if threading.current_thread() is not threading.main_thread():
            raise SupervisorError("Supervisor.wait handles signals, which only the main thread can")
        self._require_started()
        received: list[signal.Signals] = []

        def note(number: int, _frame: FrameType | None) -> None:
            received.append(signal.Signals(number))

        with ExitStack() as stack:
            reading, writing = socket.socketpair()
            for end in (reading, writing):
                end.setblocking(False)  # noqa: FBT003 - the standard library's signature
                stack.enter_context(end)
            selector = stack.enter_context(selectors.DefaultSelector())
            selector.register(reading, selectors.EVENT_READ)
            stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writing.fileno()))
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                    continue  # started with nohup: it is to outlive its terminal
                stack.callback(signal.signal, number, signal.signal(number, note))
            while not received:
                self.check()
                selector.select(timeout=WATCH_SECONDS)
        return received[0]

    def check(self) -> None:
        """Raise `ServiceError` where a service has ended by itself."""
        for name, child in self._children.items():
            if exit_status(child) is not None:
                raise self._ended(name, child)

    def _acquire(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            state = SupervisorState.read(self._home)
            if state is None or not state.supervisor.is_alive():
                raise AlreadyRunningError(
                    f"The home {self._home.root} is held by another process that is just starting or stopping. "
                    "Try again in a moment."
                ) from error
            urls = "".join(f"\n  {name}: {url}" for name, url in state.urls.items())
            raise AlreadyRunningError(
                f"The services of {self._home.root} already run: process {state.supervisor.pid}, "
                f"since {state.started_at}.{urls}\n"
                f"Use them, stop them with `kill {state.supervisor.pid}`, or name another home with --home."
            ) from error
        except OSError as error:
            raise HomeError(f"{self._lock.lock_file} cannot be locked: {error.strerror or error}") from error

    def _end_leftovers(self) -> None:
        previous = SupervisorState.read(self._home)
        if previous is None:
            return
        ended = end_leftovers(previous.children.values(), grace_seconds=STOP_SECONDS)
        if ended:
            self._progress(f"ended what a killed supervisor left behind: processes {', '.join(map(str, ended))}")

    def _start_services(self) -> None:
        self._home.logs.mkdir(exist_ok=True)
        self._progress(f"starting {', '.join(spec.title for spec in self._specs)}")
        # A profile of its own, so that neither the user's keys nor their endpoints are ever mixed in.
        write_whole(self._home.run / "aws-config", b"[default]\nregion = us-east-1\n")
        with ExitStack() as stack:
            listeners = {spec.name: stack.enter_context(self._listen(spec)) for spec in self._specs}
            ports = {name: port_of(listener) for name, listener in listeners.items()}
            self._urls = {name: f"http://{HOST}:{port}" for name, port in ports.items()}
            self._started_at = now()
            keep_ports(self._home.run, ports)
            environment = service_environment(self._home, self._urls)
            for spec in self._specs:
                fd = listeners[spec.name].fileno()
                argv = [sys.executable, "-P", *spec.command(fd, ports[spec.name])]
                self._spawn(spec.name, argv, environment, inherited=(fd,))
        # Our copies of the sockets are closed by now: where a service dies, its port refuses at once.
        self._await_services()
        self._ready = True
        self._write_state()

    def _await_services(self) -> None:
        with ThreadPoolExecutor(max_workers=len(self._specs)) as pool:
            waiting = {
                pool.submit(
                    self._await_health,
                    spec.name,
                    self._children[spec.name],
                    self._urls[spec.name] + spec.health_path,
                    spec.start_seconds,
                ): spec
                for spec in self._specs
            }
            try:
                for done in as_completed(waiting):
                    done.result()
                    self._progress(f"{waiting[done].title} is up at {self._urls[waiting[done].name]}")
            except BaseException:
                # The other waits end when their processes do; without this, leaving the pool would wait for deadlines.
                for child in self._children.values():
                    if exit_status(child) is None:
                        os.kill(child.pid, signal.SIGTERM)
                raise

    def _listen(self, spec: ServiceSpec) -> socket.socket:
        fixed = self._fixed_ports.get(spec.name)
        if fixed is not None:
            return listen_on(fixed, service=spec.title)
        previous = kept_ports(self._home.run).get(spec.name)
        listener = preferred_listener(previous, service=spec.name, home=self._home.root)
        if previous and port_of(listener) != previous:
            self._progress(f"port {previous}, where {spec.title} was last time, is taken: now {port_of(listener)}")
        return listener

    def _spawn(
        self, name: str, argv: Sequence[str], environment: Mapping[str, str], *, inherited: tuple[int, ...]
    ) -> subprocess.Popen[bytes]:
        child = start_tethered(argv, environment=environment, log=self._log(name), inherited=inherited, own_group=True)
        self._children[name] = child
        identity = ProcessIdentity.of(child.pid)
        if identity is not None:
            self._identities[name] = identity
        # After each one: a supervisor killed during the start leaves a complete list.
        self._write_state()
        return child

    def _await_health(self, name: str, child: subprocess.Popen[bytes], url: str, seconds: float) -> None:
        came = wait_until(lambda: exit_status(child) is not None or answers(url), seconds=seconds)
        if exit_status(child) is not None:
            raise self._ended(name, child)
        if not came:
            raise ServiceError(name, f"did not answer 200 at {url} within {seconds:.0f} seconds", self._log(name))

    def _ended(self, name: str, child: subprocess.Popen[bytes]) -> ServiceError:
        status = exit_status(child) or 0
        how = f"with exit code {status}" if status >= 0 else f"by {signal.Signals(-status).name}"
        return ServiceError(name, f"(process {child.pid}) ended {how}", self._log(name))

    def _log(self, name: str) -> Path:
        return self._home.logs / f"{name}.log"

    def _state(self) -> SupervisorState:
        started_at = self._require_started()
        me = ProcessIdentity.of(os.getpid())
        assert me is not None  # noqa: S101 - this process runs
        return SupervisorState(
            supervisor=me, started_at=started_at, ready=self._ready, urls=self._urls, children=self._identities
        )

    def _write_state(self) -> None:
        self._state().write(self._home)

    def _require_started(self) -> str:
        if self._started_at is None:
            raise SupervisorError(f"the services of {self._home.root} are not started")
        return self._started_at
