from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mangaassist_assets.local.ministack_server import StateWriter, changed_service, services_to_write

CREDENTIAL = b"AWS4-HMAC-SHA256 Credential=mangaassist-local/20260101/us-east-1/%s/aws4_request, SignedHeaders=host"


def request(service: bytes, *, method: str = "POST", target: bytes | None = None) -> dict[str, Any]:
    headers = [(b"authorization", CREDENTIAL % service)]
    if target:
        headers.append((b"x-amz-target", target))
    return {"type": "http", "method": method, "headers": headers}


@pytest.mark.parametrize(
    ("scope", "service"),
    [
        (request(b"kinesis", target=b"Kinesis_20131202.PutRecords"), "kinesis"),
        (request(b"kinesis", target=b"Kinesis_20131202.GetRecords"), None),
        (request(b"kinesis", target=b"Kinesis_20131202.DescribeStreamSummary"), None),
        (request(b"appconfig", method="GET"), None),
        (request(b"appconfig"), "appconfig"),
        (request(b"s3", method="PUT"), "s3"),
        ({"type": "http", "method": "POST", "headers": []}, ""),
        ({"type": "lifespan"}, None),
    ],
)
def test_a_request_says_which_service_it_may_change(scope: dict[str, Any], service: str | None) -> None:
    assert changed_service(scope) == service


def test_all_states_are_written_when_a_change_cannot_be_assigned_to_one() -> None:
    known = {"kinesis", "appconfig", "s3"}
    assert services_to_write({"kinesis"}, known) == {"kinesis"}
    assert services_to_write({""}, known) == known
    assert services_to_write({"unheard-of", "s3"}, known) == known


def test_changes_are_written_after_the_request_and_only_once() -> None:
    written: list[set[str]] = []

    async def application(_scope: object, _receive: object, _send: object) -> None:
        assert written == []

    async def never(*_: object) -> dict[str, Any]:
        raise AssertionError("the application above neither reads nor sends")

    async def scenario() -> None:
        both_written = asyncio.Event()

        def write(changed: set[str]) -> None:
            written.append(changed)
            both_written.set()

        writer = StateWriter(application, write)
        for name in (b"kinesis", b"appconfig", b"kinesis"):
            await writer(request(name), never, never)  # type: ignore[arg-type]
        running = asyncio.create_task(writer.run())
        await asyncio.wait_for(both_written.wait(), timeout=5)
        running.cancel()

    asyncio.run(scenario())
    assert written == [{"kinesis", "appconfig"}]
