"""What stands before every server on this machine: it answers its own clients and its own pages, and nothing else.

A server on 127.0.0.1 is reached by every page in the developer's browser: by a name of the page's that resolves to
127.0.0.1 (DNS rebinding, which CORS does not see), by requests that need no permission (an image, a form, a
websocket), and by what another server of this machine wrote. So the Host must be one of ours, an Origin must be one
of ours, and what another site embeds is refused by the fetch metadata that every browser of today sends (W3C, Fetch
Metadata Request Headers). No answer carries CORS headers. It is plain ASGI, so that one guard fits every server.
"""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Rule = Callable[[Scope], str | None]
"""Says why a request is refused, or None."""

ALLOWED_HOSTS_VARIABLE = "MANGAASSIST_ALLOWED_HOSTS"
OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")
_HOST = re.compile(r"[a-z0-9_.-]{1,253}(:[0-9]{1,5})?|\[[0-9a-f:.]{2,45}\](:[0-9]{1,5})?")
_CREDENTIAL = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=([^/,\s]+)/[^/,\s]*/[^/,\s]*/([a-z0-9-]+)/aws4_request\s*(?:,|$)"
)
_READING = frozenset({"GET", "HEAD"})


class AllowedHostsError(ValueError):
    """The setting of further host names cannot be understood."""


def allowed_names(setting: str | None) -> tuple[str, ...]:
    """Return the host names, each with or without a port, that `MANGAASSIST_ALLOWED_HOSTS` adds to this machine's own.

    Raises:
        AllowedHostsError: one is no name; a pattern is none either, for it would let in what nobody thought of.
    """
    names = tuple(name.strip().lower() for name in (setting or "").split(",") if name.strip())
    for name in names:
        if not _HOST.fullmatch(name):
            msg = (
                f"{ALLOWED_HOSTS_VARIABLE} has {name[:80]!r}: write the names a reverse proxy passes on, with commas "
                "between them, as in dagster.example.org,mlflow.example.org:8443"
            )
            raise AllowedHostsError(msg)
    return names


def header(scope: Scope, name: bytes) -> str | None:
    """Return a request's header; a header that came twice is joined, so that it is like no expected value."""
    found = [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]
    return ", ".join(found) if found else None


def signed_for(scope: Scope, access_key: str) -> str | None:
    """Return the service whose request is signed (AWS Signature Version 4) with an access key, None where it is not.

    The access key is the secret here and not the signature: who may read it may sign.
    """
    found = _CREDENTIAL.match(header(scope, b"authorization") or "")
    if found is None or not hmac.compare_digest(found.group(1).encode(), access_key.encode()):
        return None
    return found.group(2)


class RequestGuard:
    """An ASGI application in front of another one.

    Args:
        application: Gets the requests that are let through.
        port: Where it is reached on this machine.
        pages: Whether it has pages for a browser. Where it has none, everything that a browser's page sends is refused.
        names: Further names it is reached by, of a reverse proxy: see `allowed_names`.
        rules: What else may refuse a request.
        policy: A Content-Security-Policy for every answer, beside the application's own: a browser obeys both.
        framed: Whether pages of other sites may show its pages in a frame, as far as the application lets them.
    """

    def __init__(
        self,
        application: Application,
        *,
        port: int,
        pages: bool,
        names: Iterable[str] = (),
        rules: Iterable[Rule] = (),
        policy: str | None = None,
        framed: bool = False,
    ) -> None:
        self._application = application
        self._hosts = frozenset({*(f"{name}:{port}" for name in OWN_NAMES), *names})
        self._pages = pages
        self._rules = tuple(rules)
        self._headers = [(b"content-security-policy", policy.encode())] if policy else []
        if not framed:
            self._headers.append((b"x-frame-options", b"DENY"))
        self._log = logging.getLogger(__name__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on or refuse it."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        reason = self._reason(scope)
        if reason is None:
            await self._application(scope, receive, self._sending(send))
            return
        self._log.warning("refused %s %s: %s", scope.get("method", "websocket"), scope["path"][:200], reason)
        await _refuse(scope, receive, send, reason)

    def _reason(self, scope: Scope) -> str | None:
        host = (header(scope, b"host") or "").lower()
        if host not in self._hosts:
            return (
                f"the Host {host[:100]!r} is none of {', '.join(sorted(self._hosts))}; a name that a reverse proxy "
                f"uses belongs into {ALLOWED_HOSTS_VARIABLE}"
            )
        return self._of_another_site(scope) or next(filter(None, (rule(scope) for rule in self._rules)), None)

    def _of_another_site(self, scope: Scope) -> str | None:
        origin = header(scope, b"origin")
        if origin is not None and not (self._pages and self._is_own(origin)):
            return f"the Origin {origin[:100]!r} is not this server's"
        site = header(scope, b"sec-fetch-site")
        if site in {None, "none", "same-origin"}:
            return None
        goes_there = header(scope, b"sec-fetch-mode") == "navigate" and scope.get("method") in _READING
        if self._pages and goes_there:
            return None  # a person followed a link
        return f"it comes from a page of another site (Sec-Fetch-Site: {site})"

    def _is_own(self, origin: str) -> bool:
        parts = urlsplit(origin.lower())
        return parts.scheme in {"http", "https"} and parts.netloc in self._hosts

    def _sending(self, send: Send) -> Send:
        async def without_cors(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.accept"}:
                kept = [
                    (bytes(name), bytes(value))
                    for name, value in message.get("headers", ())
                    if not bytes(name).lower().startswith(b"access-control-")
                ]
                message = {**message, "headers": [*kept, *self._headers]}
            await send(message)

        return without_cors


async def _refuse(scope: Scope, receive: Receive, send: Send, reason: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": "refused"})  # before accepting: status 403
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]
    body = f"Refused: {reason}.\n".encode()
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
