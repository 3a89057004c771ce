"""A local HTTP server that speaks the wire format of Amazon Bedrock Runtime, so that real boto3 clients can call it.

It answers `converse`, `converse_stream`, `invoke_model` and `invoke_model_with_response_stream` with what a test
queued, or with what its function says; streams are encoded as `application/vnd.amazon.eventstream` (AWS documentation,
"Event stream encoding").
"""

from __future__ import annotations

import base64
import json
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_HEADER_STRING = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One queued answer: a JSON body, the events of a stream as (type, payload), or an error with its type."""

    body: Mapping[str, Any] | None = None
    events: Sequence[tuple[str, Mapping[str, Any]]] | None = None
    status: int = 200
    error_type: str | None = None


@dataclass(slots=True)
class BedrockWire:
    """The running server: `answers` are given in order, `requests` are the paths and bodies that came.

    `respond` answers what came by its path and body, instead of the queue.
    """

    url: str
    answers: list[Answer] = field(default_factory=list)
    respond: Callable[[str, dict[str, Any]], Answer] | None = None
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


def event_message(kind: str, payload: Mapping[str, Any]) -> bytes:
    """Return one event as its bytes: prelude, headers, payload, each with its checksum."""
    body = json.dumps(payload).encode()
    named = {":message-type": "event", ":event-type": kind, ":content-type": "application/json"}
    headers = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", _HEADER_STRING, len(value)) + value.encode()
        for name, value in named.items()
    )
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + body
    return message + struct.pack(">I", zlib.crc32(message))


def chunk(payload: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return one event of `invoke_model_with_response_stream`, whose payload is the model's own JSON."""
    return "chunk", {"bytes": base64.b64encode(json.dumps(payload).encode()).decode()}


@contextmanager
def bedrock_wire(respond: Callable[[str, dict[str, Any]], Answer] | None = None) -> Iterator[BedrockWire]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    wire = BedrockWire(url="", respond=respond)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            wire.requests.append((self.path, json.loads(sent or b"{}")))
            answer = wire.answers.pop(0) if wire.respond is None else wire.respond(*wire.requests[-1])
            if answer.events is not None:
                content = b"".join(event_message(kind, payload) for kind, payload in answer.events)
                content_type = "application/vnd.amazon.eventstream"
            else:
                content = json.dumps(answer.body or {}).encode()
                content_type = "application/json"
            self.send_response(answer.status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("x-amzn-RequestId", f"00000000-0000-0000-0000-{len(wire.requests):012d}")
            if answer.error_type is not None:
                self.send_header("x-amzn-ErrorType", answer.error_type)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    wire.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield wire
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
