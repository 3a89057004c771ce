"""The store over HTTP: what a server says of one trace is told from what it says of all."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mangaassist_assets.tracing.importing.import_run import RefusedTraceError
from mangaassist_assets.tracing.importing.imported_trace import ImportedTrace
from resources.mlflow.traces.importer import MlflowTraceStore
from resources.mlflow.traces.sink import TraceExportError

TRACE = ImportedTrace(trace_id="tr-" + "1" * 32, complete=True, state="OK", timestamp_ms=5, duration_ms=1_500)


@dataclass
class Server:
    """Answers with the given codes, then 200; keeps what it was sent."""

    url: str = ""
    answers: list[tuple[int, dict[str, object]]] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str], dict[str, object]]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            state.requests.append((self.command, self.path, dict(self.headers), json.loads(body or b"{}")))
            status, answer = state.answers.pop(0) if state.answers else (200, {})
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = handle_any  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}"
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def store(server: Server) -> MlflowTraceStore:
    return MlflowTraceStore(server.url, "7", headers={"Authorization": "Bearer x"}, attempts=0)


def test_a_refused_trace_is_named_by_its_code_and_nothing_else(server):
    server.answers = [(400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "jane@example.invalid"})]
    with pytest.raises(RefusedTraceError) as refused:
        store(server).write_info(TRACE)
    assert str(refused.value) == "the MLflow server refused it: HTTP 400, INVALID_PARAMETER_VALUE"
    method, path, headers, body = server.requests[0]
    assert (method, path, headers["Authorization"]) == ("POST", "/api/3.0/mlflow/traces", "Bearer x")
    info = body["trace"]["trace_info"]
    assert (info["request_time"], info["execution_duration"]) == ("1970-01-01T00:00:00.005Z", "1.500s")
    assert info["trace_location"]["mlflow_experiment"] == {"experiment_id": "7"}


def test_a_server_that_stumbles_over_one_trace_goes_on_and_one_that_only_fails_ends_the_import(server):
    one = store(server)
    server.answers = [(500, {}), (200, {})] * 20
    for _ in range(20):
        with pytest.raises(RefusedTraceError, match="failed on it: HTTP 500"):
            one.write_info(TRACE)
        one.write_info(TRACE)
    server.answers = [(500, {})] * 11
    for _ in range(10):
        with pytest.raises(RefusedTraceError):
            one.write_info(TRACE)
    with pytest.raises(TraceExportError, match="HTTP 500"):
        one.write_info(TRACE)


def test_a_server_that_is_busy_or_forbids_is_no_word_on_a_trace(server):
    server.answers = [(503, {}), (403, {})]
    for _ in range(2):
        with pytest.raises(TraceExportError, match=r"HTTP (503|403)"):
            store(server).write_info(TRACE)


def test_reading_that_is_refused_is_an_error_and_never_taken_for_nothing_there(server):
    server.answers = [(404, {"error_code": "ENDPOINT_NOT_FOUND"})]
    with pytest.raises(TraceExportError, match=r"needs the API of an MLflow 3\.17 server"):
        store(server).stored(["tr-1"])


def test_a_server_that_is_not_there_says_what_to_do():
    with pytest.raises(TraceExportError, match="see that it runs, then run the same import again"):
        MlflowTraceStore("http://127.0.0.1:9", "7", attempts=0).stored(["tr-1"])
