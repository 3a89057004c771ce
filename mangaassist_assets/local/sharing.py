"""The services of a home as a command uses them: those that run already, or ones of its own for as long as it lasts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from mangaassist_assets.local.home import Home
from mangaassist_assets.local.services import SERVICE_NAMES, RunningServices, SupervisorState
from mangaassist_assets.local.supervisor import AlreadyRunningError, ServiceError, Supervisor, SupervisorError


def running_services(home: Home) -> RunningServices | None:
    """Return the services that run on `home` under another or this process's supervisor, or None."""
    state = SupervisorState.read(home)
    if state is None or not state.ready or not state.supervisor.is_alive():
        return None
    return state.services(home)


@contextmanager
def services(
    home: Home,
    progress: Callable[[str], None] | None = None,
    *,
    names: Sequence[str] = SERVICE_NAMES,
    start_seconds: float = 180,
) -> Iterator[RunningServices]:
    """Use services of `home` by name: those that run already, or ones that run for the duration.

    Where another command holds the home with fewer services, this waits for its end. What fails while they are used
    may have failed because one of them ended: then that is the error, and what failed is its cause.

    Raises:
        SupervisorError: they could not be started, the process that holds the home does not offer them in time, or one
            has ended.
    """
    supervisor = Supervisor(home, progress=progress, names=names)
    found = _start_or_find(supervisor, progress or (lambda _line: None), time.monotonic() + start_seconds)
    if found is not None:
        try:
            yield found
        except Exception as error:
            now = running_services(home)
            if now is None or now.pid != found.pid:
                raise SupervisorError(
                    f"the services of {home.root}, which process {found.pid} held, have ended meanwhile: give the "
                    f"command again, it goes on where it stopped. Their logs are in {home.logs}"
                ) from error
            raise
        return
    try:
        yield supervisor.running
    except Exception as error:
        try:
            supervisor.check()
        except ServiceError as ended:
            raise ended from error
        raise
    finally:
        supervisor.stop()


def _start_or_find(supervisor: Supervisor, progress: Callable[[str], None], deadline: float) -> RunningServices | None:
    """Start the services and return None, or return those of another supervisor."""
    waits = False
    while True:
        try:
            supervisor.start()
        except AlreadyRunningError:
            found = running_services(supervisor.home)
            if found is not None and found.urls.keys() >= set(supervisor.names):
                return found
            if time.monotonic() >= deadline:
                raise
            if found is not None and not waits:
                progress(f"process {found.pid} holds the home with {', '.join(found.urls)} only: waiting for its end")
                waits = True
            time.sleep(0.2)
        else:
            return None
