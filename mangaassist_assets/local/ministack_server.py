"""MiniStack on a socket that the supervisor hands over, with its state written while it runs.

MiniStack writes its state when it is asked to stop, so a killed one forgets everything. Here a service's state is
written right after a request that changed it; when that becomes expensive (a full Kinesis stream), less often, so that
it never takes more than a twentieth of the time. What a kill can lose is the last moment.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from mangaassist_assets.core.request_guard import Application, Receive, RequestGuard, Rule, Scope, Send, signed_for

SERVICES = ("appconfig", "appconfigdata", "bedrock-runtime", "firehose", "kinesis", "s3")
"""What is offered of MiniStack's seventy services: those our clients use, and Firehose, whose deliveries they read."""
_SIGNED_AS = {"appconfigdata": "appconfig", "bedrock-runtime": "bedrock"}
_SIGNED_NAMES = frozenset(_SIGNED_AS.get(name, name) for name in SERVICES)
HEALTH_PATH = "/_ministack/health"
PAUSE_SECONDS = 0.1
SHARE_OF_TIME = 0.05
# Authorization: AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, ...
_SIGNED_FOR = re.compile(rb"Credential=[^/]*/[^/]*/[^/]*/([a-z0-9-]+)/")
_READING = re.compile(rb"\.(Get|List|Describe|Search|BatchGet|Query|Scan)\w*$")


def changed_service(scope: Scope) -> str | None:
    """Return the service a request may change, "" where the request does not name it, None for a reading request."""
    if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
        return None
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if _READING.search(headers.get(b"x-amz-target", b"")):
        return None
    signed = _SIGNED_FOR.search(headers.get(b"authorization", b""))
    if signed is None:
        return ""
    return signed.group(1).decode("ascii")


class StateWriter:
    """Remembers which services changed and has their state written."""

    def __init__(self, application: Application, write: Callable[[set[str]], None]) -> None:
        self._application = application
        self._write = write
        self._changed: set[str] = set()
        self._wake = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, then note what it may have changed."""
        try:
            await self._application(scope, receive, send)
        finally:
            service = changed_service(scope)
            if service is not None:
                self._changed.add(service)
                self._wake.set()

    async def run(self) -> None:
        """Write changed state until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            changed, self._changed = self._changed, set()
            started = time.monotonic()
            # In the event loop's thread, as MiniStack's handlers are: nothing changes while it is copied.
            self._write(changed)
            elapsed = time.monotonic() - started
            await asyncio.sleep(max(PAUSE_SECONDS, elapsed / SHARE_OF_TIME))


def services_to_write(changed: Iterable[str], known: Iterable[str]) -> set[str]:
    """Return which of the `known` states to write; all of them where the changed service is not known."""
    wanted, names = set(changed), set(known)
    if not wanted <= names:
        return names
    return wanted


def only_signed(access_key: str) -> Rule:
    """Return the rule that requests are signed with the home's access key, for a service that is offered."""

    def rule(scope: Scope) -> str | None:
        if scope["type"] != "http":
            return "no websocket is offered"
        path: str = scope["path"]
        if path == HEALTH_PATH and scope["method"] == "GET":
            return None
        service = signed_for(scope, access_key)
        if service is None:
            return "it is not signed with this home's access key (its access.key; commands of mangaassist set it)"
        if service not in _SIGNED_NAMES:
            return f"{service} is not offered, but {', '.join(SERVICES)}"
        # What MiniStack answers beside the services: its own administration, and the data planes of others.
        return f"the path {path[:80]} is not a service's" if path.startswith("/_") else None

    return rule


def offer_only(ministack: Any, services: Collection[str]) -> None:  # noqa: ANN401 - the module ministack.app
    """Take the other services out of MiniStack, which finds a service by path and by header, too.

    Raises:
        LookupError: MiniStack has no service of such a name.
    """
    missing = set(services) - set(ministack.SERVICE_HANDLERS)
    if missing:
        raise LookupError(f"this MiniStack has no service {', '.join(sorted(missing))}")
    modules = {ministack.SERVICE_REGISTRY[name]["module"] for name in services}
    for name in set(ministack.SERVICE_HANDLERS) - set(services):
        del ministack.SERVICE_HANDLERS[name]
    get_module = ministack._get_module  # noqa: SLF001 - what its handlers by path go through

    def offered(name: str) -> object:
        return get_module(name) if name in modules else ministack._ErrorModule(name, "not offered")  # noqa: SLF001

    ministack._get_module = offered  # noqa: SLF001


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="MiniStack of the local stand-ins")
    parser.add_argument("--fd", type=int, required=True, help="the inherited listening socket")
    parser.add_argument("--port", type=int, required=True, help="its port, for the addresses MiniStack hands out")
    parser.add_argument("--folder", type=Path, required=True, help="where its state is kept")
    parser.add_argument("--key-file", type=Path, required=True, help="holds the access key that clients sign with")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    # MiniStack reads these when it is imported.
    os.environ.update(
        BIND_HOST="127.0.0.1",
        MINISTACK_HOST="127.0.0.1",
        GATEWAY_PORT=str(arguments.port),
        PERSIST_STATE="1",
        STATE_DIR=str(folder / "state"),
        S3_PERSIST="1",
        S3_DATA_DIR=str(folder / "s3"),
        # Listeners on fixed ports, for services nobody uses here.
        SFTP_ENABLED="0",
        IOT_MTLS_ENABLED="0",
    )
    os.environ.setdefault("LOG_LEVEL", "WARNING")
    asyncio.run(_serve(arguments.fd, arguments.port, arguments.key_file.read_text(encoding="ascii").strip()))


async def _serve(descriptor: int, port: int, access_key: str) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack import app as ministack
    from ministack.core import persistence

    offer_only(ministack, SERVICES)

    def write(changed: set[str]) -> None:
        states = ministack._build_persistence_save_dict()  # noqa: SLF001 - its only way to write while it runs
        persistence.save_all({name: states[name] for name in services_to_write(changed, states)})

    state_writer = StateWriter(ministack.app, write)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    config = Config()
    config.bind = [f"fd://{descriptor}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 3
    config.loglevel = os.environ["LOG_LEVEL"]
    writing = asyncio.create_task(state_writer.run())

    async def stopped() -> None:
        waiting = asyncio.create_task(stop.wait())
        # A failure to write ends the server: going on would lose what was acknowledged to clients.
        await asyncio.wait({waiting, writing}, return_when=asyncio.FIRST_COMPLETED)

    guarded = RequestGuard(state_writer, port=port, pages=False, rules=[only_signed(access_key)])
    await serve(guarded, config, shutdown_trigger=stopped)  # type: ignore[arg-type]
    if writing.done():
        writing.result()
    writing.cancel()


if __name__ == "__main__":
    main()
