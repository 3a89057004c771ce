"""Listening sockets for the local services.

The supervisor binds them itself and hands them over, so that no other program can take a port between its choice and
the service's start. A home keeps its ports: links recorded in metadata stay valid from one start to the next.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.files import write_whole

HOST = "127.0.0.1"
# Below the range the kernel takes outgoing ports from (32768 and up on Linux), so that a port is still free next time.
FIRST_PORT, LAST_PORT = 20_000, 29_999
PROBE_SECONDS = 2.0
_FILE = "ports.json"


class PortInUseError(OperatorError):
    """A port that was asked for is taken; the message names it and, where it can be found, its holder."""


def listen_on(port: int, *, service: str) -> socket.socket:
    """Return a socket that listens on 127.0.0.1:`port`; 0 takes any free one.

    Raises:
        PortInUseError: it is taken, or this user may not listen there.
        ValueError: it is no port number.
    """
    if not 0 <= port <= 65_535:
        raise ValueError(f"port {port} for {service} is not between 0 and 65535")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Without it a port stays blocked for a minute after its last connection; a listening holder still blocks it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        raise PortInUseError(
            f"Port {port} for {service} cannot be used: {error.strerror} ({port_holder(port)}). "
            "Stop that program, or choose another port."
        ) from error
    return listener


def preferred_listener(preferred: int | None, *, service: str, home: Path) -> socket.socket:
    """Return a listening socket on the port of last time, else on one derived from the home, else on any free one."""
    seed = int.from_bytes(hashlib.sha256(f"{home}\0{service}".encode()).digest()[:4], "big")
    span = LAST_PORT - FIRST_PORT + 1
    derived = [FIRST_PORT + (seed + step) % span for step in range(50)]
    for port in ([preferred] if preferred else []) + derived:
        try:
            return listen_on(port, service=service)
        except PortInUseError:
            continue
    return listen_on(0, service=service)


def port_of(listener: socket.socket) -> int:
    """Return the port a socket is bound to."""
    port = listener.getsockname()[1]
    assert isinstance(port, int)  # noqa: S101 - narrows the tuple that typeshed leaves open
    return port


def port_holder(port: int) -> str:
    """Say which process listens on a TCP port, as far as this user may know."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return "its holder cannot be seen by this user"
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            if connection.pid is None:
                return "held by a process of another user"
            try:
                return f"held by process {connection.pid}, {psutil.Process(connection.pid).name()}"
            except psutil.NoSuchProcess:
                return f"held by process {connection.pid}, which just ended"
    return "its holder could not be found"


def kept_ports(folder: Path) -> dict[str, int]:
    """Return the ports of last time by service name; none where they are not known: they are chosen anew then."""
    try:
        content = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return {k: v for k, v in content.items() if isinstance(v, int)} if isinstance(content, dict) else {}


def keep_ports(folder: Path, ports: Mapping[str, int]) -> None:
    """Keep the ports of services for the next time, beside those of services that are not among them."""
    write_whole(folder / _FILE, json.dumps({**kept_ports(folder), **ports}).encode())


def answers(url: str, *, seconds: float = PROBE_SECONDS) -> bool:
    """Return whether a GET of a local `url` is answered with 200 within `seconds`."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or HOST, parts.port, timeout=seconds)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False  # not yet: that is what is asked
    finally:
        connection.close()
