"""The trace sink against a real HTTP server: batches, repeats, and no trace that disappears."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mangaassist_assets.tracing.contract.records import SpanRecord, TraceRecord
from mangaassist_assets.tracing.otlp import otlp_request
from resources.mlflow.traces.sink import OtlpTraceSink, TraceExportError


def trace(number: int, **root: Any) -> TraceRecord:
    fields = {"attributes": {"n": number}, "inputs": {"message": "こんにちは"}, **root}
    return TraceRecord(
        trace_id=f"tr-{number:032x}",
        timestamp_ms=1,
        duration_ms=1,
        state="OK",
        tags={"session_id": "s", "release_bundle": "b"},
        user_key="u-1",
        spans=(
            SpanRecord(span_id=f"{number:016x}", parent_id=None, name="chat_turn", start_ns=10, end_ns=20, **fields),
        ),
    )


class Server:
    """Keeps what it was sent; `answers` are the status codes to give, then 200; `poison` is refused always."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[int] = []
        self.poison: str | None = None
        self.gate = threading.Event()
        self.gate.set()

    def handle(self, headers: dict[str, str], body: bytes) -> int:
        self.gate.wait()
        spans = json.loads(body)["resourceSpans"][0]["scopeSpans"][0]["spans"]
        ids = [span["traceId"] for span in spans]
        if self.poison is not None and self.poison in ids:
            return 422
        status = self.answers.pop(0) if self.answers else 200
        if status == 200:
            self.requests.append(ids)
            self.headers.append(headers)
        return status

    @property
    def stored(self) -> list[str]:
        return [one for ids in self.requests for one in ids]


@pytest.fixture
def server() -> Iterator[tuple[Server, str]]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = state.handle({name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield state, f"http://127.0.0.1:{http.server_port}"
    state.gate.set()
    http.shutdown()
    thread.join()
    http.server_close()


def test_all_traces_arrive_in_order_and_in_batches(server):
    state, url = server
    sink = OtlpTraceSink(url, "7", batch=10, headers={"Authorization": "Bearer x"})
    for number in range(95):
        sink.write(trace(number))
    assert sink.flush() == 95
    assert state.stored == [f"{number:032x}" for number in range(95)]
    assert len(state.requests) < 95
    assert max(len(ids) for ids in state.requests) <= 10
    assert state.headers[0]["x-mlflow-experiment-id"] == "7"
    assert state.headers[0]["authorization"] == "Bearer x"


def test_a_server_in_trouble_is_asked_again(server):
    state, url = server
    state.answers = [503, 500, 429]
    sink = OtlpTraceSink(url, "7")
    sink.write(trace(1))
    assert sink.flush() == 1
    assert len(state.stored) == 1


def test_a_trace_that_is_refused_takes_no_other_with_it(server):
    state, url = server
    state.poison = f"{3:032x}"
    sink = OtlpTraceSink(url, "7", batch=8)
    state.gate.clear()
    for number in range(8):
        sink.write(trace(number))
    state.gate.set()
    with pytest.raises(TraceExportError, match=r"1 traces could not be stored .* HTTP 422"):
        sink.flush()
    assert sorted(state.stored) == [f"{number:032x}" for number in range(8) if number != 3]
    sink.write(trace(9))
    assert sink.flush() == 8


def test_a_trace_that_cannot_be_written_as_json_is_counted_too(server):
    _, url = server
    sink = OtlpTraceSink(url, "7")
    sink.write(trace(1, attributes={"x": float("nan")}))
    sink.write(trace(2, attributes={"x": {"a": 1}}))
    with pytest.raises(TraceExportError, match="2 traces"):
        sink.flush()


def test_a_server_that_is_not_there_is_an_error_at_the_flush():
    sink = OtlpTraceSink("http://127.0.0.1:9", "7", attempts=1)
    sink.write(trace(1))
    with pytest.raises(TraceExportError, match=r"1 traces could not be stored at http://127\.0\.0\.1:9/v1/traces"):
        sink.flush()


def test_writing_waits_while_too_many_traces_wait(server):
    state, url = server
    state.gate.clear()
    sink = OtlpTraceSink(url, "7", batch=1, capacity=2)
    written = threading.Event()

    def write() -> None:
        for number in range(10):
            sink.write(trace(number))
        written.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert not written.wait(0.2)
    state.gate.set()
    assert written.wait(10)
    writer.join()
    assert sink.flush() == 10


def test_the_wire_form_carries_tags_session_user_and_text_as_it_is():
    body = json.loads(otlp_request([trace(5, attributes={"ok": True, "i": 3, "f": 0.5, "l": ["a", "b"]})]))
    span = body["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    attributes = {one["key"]: one["value"] for one in span["attributes"]}
    assert span["traceId"] == f"{5:032x}"
    assert attributes["mlflow.traceTag.session_id"] == {"stringValue": "s"}
    assert attributes["session.id"] == {"stringValue": "s"}
    assert attributes["user.id"] == {"stringValue": "u-1"}
    assert attributes["ok"] == {"boolValue": True}
    assert attributes["i"] == {"intValue": "3"}
    assert attributes["f"] == {"doubleValue": 0.5}
    assert attributes["l"] == {"arrayValue": {"values": [{"stringValue": "a"}, {"stringValue": "b"}]}}
    assert json.loads(attributes["mlflow.spanInputs"]["stringValue"]) == {"message": "こんにちは"}
    assert span["status"] == {"code": 1, "message": ""}
