"""A server of this machine answers its own clients and its own pages, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from mangaassist_assets.core.request_guard import AllowedHostsError, RequestGuard, allowed_names, signed_for

PORT = 3000
HERE = f"127.0.0.1:{PORT}"
WITH_CORS = [(b"Access-Control-Allow-Origin", b"*"), (b"access-control-allow-headers", b"*"), (b"etag", b"1")]
KEY = "MANGAASSIST0123456789"


async def application(scope: Any, _receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept", "headers": []})
        return
    await send({"type": "http.response.start", "status": 200, "headers": WITH_CORS})
    await send({"type": "http.response.body", "body": b"answered"})


def ask(*headers: tuple[str, str], method: str = "GET", kind: str = "http", **guard: Any) -> list[dict[str, Any]]:
    """Return what a server behind the guard sends to a request with these headers."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    scope: dict[str, Any] = {
        "type": kind,
        "path": "/",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
    }
    if kind == "http":
        scope["method"] = method
    guarded = RequestGuard(application, **{"port": PORT, "pages": True, **guard})
    asyncio.run(guarded(scope, receive, send))
    return sent


def is_answered(*headers: tuple[str, str], method: str = "GET", kind: str = "http", **guard: Any) -> bool:
    first = ask(*headers, method=method, kind=kind, **guard)[0]
    return first["type"] == "websocket.accept" or first.get("status") == 200


OWN = [HERE, f"localhost:{PORT}", f"[::1]:{PORT}", f"LOCALHOST:{PORT}"]
FOREIGN = [
    *(
        "evil.test",
        f"evil.test:{PORT}",
        f"127.0.0.1.evil.test:{PORT}",
        f"10.evil.test:{PORT}",
        "127.0.0.1:1",
        "127.0.0.1",
    ),
    *(f"localhost.evil.test:{PORT}", f"localhost.:{PORT}", f"user@{HERE}", f"{HERE}, evil.test", "", f"0.0.0.0:{PORT}"),
    *(f"2130706433:{PORT}", f"127.1:{PORT}", f"{HERE}/", f" {HERE}x"),
]


@pytest.mark.parametrize("host", OWN)
def test_its_own_names_with_its_port_are_answered(host: str) -> None:
    assert is_answered(("Host", host))


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_any_other_host_is_refused(host: str, kind: str) -> None:
    assert not is_answered(("Host", host), kind=kind)


def test_a_request_without_a_host_or_with_two_is_refused() -> None:
    assert not is_answered()
    assert not is_answered(("Host", HERE), ("Host", "evil.test"))


@pytest.mark.parametrize("origin", [f"http://{HERE}", f"http://localhost:{PORT}", f"http://[::1]:{PORT}"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_page_of_its_own_may_ask(origin: str, kind: str) -> None:
    assert is_answered(("Host", HERE), ("Origin", origin), method="POST", kind=kind)


@pytest.mark.parametrize(
    "origin",
    [
        *("http://evil.test", "null", "http://127.0.0.1:5000", "http://localhost", "file://", "", "http://127.0.0.1"),
        *(f"http://{HERE}.evil.test", f"http://{HERE}@evil.test", f"chrome-extension://{HERE}", f"ftp://{HERE}"),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_page_of_another_origin_may_not(origin: str, kind: str, method: str) -> None:
    assert not is_answered(("Host", HERE), ("Origin", origin), method=method, kind=kind)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_another_site_embeds_is_refused_and_what_a_person_follows_is_not(site: str) -> None:
    came = ("Sec-Fetch-Site", site)
    assert not is_answered(("Host", HERE), came, ("Sec-Fetch-Mode", "no-cors"))
    assert not is_answered(("Host", HERE), came)
    assert is_answered(("Host", HERE), came, ("Sec-Fetch-Mode", "navigate"))
    assert not is_answered(("Host", HERE), came, ("Sec-Fetch-Mode", "navigate"), method="POST")
    assert is_answered(("Host", HERE), ("Sec-Fetch-Site", "same-origin"), method="POST")


def test_a_server_without_pages_answers_no_page_not_even_one_of_its_own_address() -> None:
    assert is_answered(("Host", HERE), method="POST", pages=False)
    assert not is_answered(("Host", HERE), ("Origin", f"http://{HERE}"), method="POST", pages=False)
    assert not is_answered(
        ("Host", HERE), ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), pages=False
    )


def headers_of(*headers: tuple[str, str], **guard: Any) -> list[tuple[bytes, bytes]]:
    found: Iterable[tuple[bytes, bytes]] = ask(("Host", HERE), *headers, **guard)[0]["headers"]
    return list(found)


def test_no_answer_lets_another_origin_read_it() -> None:
    names = [name.lower() for name, _value in headers_of(pages=False)]
    assert b"etag" in names
    assert not [name for name in names if name.startswith(b"access-control")]


def test_pages_are_not_framed_and_have_the_policy() -> None:
    assert (b"x-frame-options", b"DENY") in headers_of(policy="img-src 'self'")
    assert (b"content-security-policy", b"img-src 'self'") in headers_of(policy="img-src 'self'")
    assert b"x-frame-options" not in dict(headers_of(framed=True))


def test_a_refusal_says_why_and_what_to_do() -> None:
    start, body = ask(("Host", "dagster.example.org"))
    assert start["status"] == 403
    assert b"'dagster.example.org' is none of 127.0.0.1:3000" in body["body"]
    assert b"MANGAASSIST_ALLOWED_HOSTS" in body["body"]


def test_a_name_of_a_reverse_proxy_is_answered_and_may_be_an_origin() -> None:
    names = allowed_names("Dagster.example.org, mlflow.example.org:8443")
    assert names == ("dagster.example.org", "mlflow.example.org:8443")
    for host in names:
        assert is_answered(("Host", host), ("Origin", f"https://{host}"), method="POST", names=names)
        # A proxy that asks by this machine's own name, for a page of the other.
        assert is_answered(("Host", HERE), ("Origin", f"https://{host}"), method="POST", names=names)
    assert not is_answered(("Host", "evil.example.org"), names=names)


@pytest.mark.parametrize("setting", ["*", "*.example.org", "https://example.org", "a b", "example.org/path"])
def test_a_pattern_or_an_address_is_no_name(setting: str) -> None:
    with pytest.raises(AllowedHostsError, match="MANGAASSIST_ALLOWED_HOSTS has"):
        allowed_names(setting)


def test_no_setting_is_no_name() -> None:
    assert allowed_names(None) == allowed_names("") == ()


@pytest.mark.parametrize(
    ("authorization", "service"),
    [
        (
            f"AWS4-HMAC-SHA256 Credential={KEY}/20260324/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0",
            "s3",
        ),
        (f"AWS4-HMAC-SHA256 Credential={KEY}/20260324/us-east-1/kinesis/aws4_request,SignedHeaders=host", "kinesis"),
        (f"AWS4-HMAC-SHA256 Credential={KEY}0/20260324/us-east-1/s3/aws4_request, SignedHeaders=host", None),
        ("AWS4-HMAC-SHA256 Credential=test/20260324/us-east-1/s3/aws4_request, SignedHeaders=host", None),
        (f"AWS4-HMAC-SHA256 Credential=x/Credential={KEY}/20260324/us-east-1/s3/aws4_request, a", None),
        (f"Bearer {KEY}", None),
        ("", None),
        ("ü", None),
    ],
)
def test_a_request_is_signed_with_the_key_or_it_is_not(authorization: str, service: str | None) -> None:
    headers = [(b"authorization", authorization.encode())] if authorization else []
    assert signed_for({"type": "http", "headers": headers}, KEY) == service
