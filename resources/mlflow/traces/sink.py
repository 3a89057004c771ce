"""Storing traces: whole traces in batches over OTLP/HTTP, counted, repeated where that is safe, never dropped."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.tracing.otlp import EXPERIMENT_HEADER, TRACES_PATH, otlp_request

if TYPE_CHECKING:
    import requests

    from mangaassist_assets.tracing.contract.records import TraceRecord


_CLOSED = "closed"
_MORE = "more"


class TraceExportError(OperatorError, RuntimeError):
    """Traces could not be stored."""


class OtlpTraceSink:
    """Sends traces from a thread of its own until it is closed; `write` blocks while `capacity` traces wait.

    Sending a trace twice stores it once (spans are upserted by id), so a request without an answer is repeated.
    """

    def __init__(
        self,
        tracking_uri: str,
        experiment_id: str,
        *,
        headers: Mapping[str, str] | None = None,
        batch: int = 32,
        capacity: int = 1_000,
        timeout_s: float = 60.0,
        attempts: int = 6,
    ) -> None:
        self._url = tracking_uri.rstrip("/") + TRACES_PATH
        self._headers = {**(headers or {}), "Content-Type": "application/json", EXPERIMENT_HEADER: experiment_id}
        self._batch = batch
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._waiting: queue.Queue[TraceRecord | threading.Event | None] = queue.Queue(capacity)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stored = 0
        self._failed = 0
        self._reason = ""

    def write(self, trace: TraceRecord) -> None:
        """Take a trace; blocks while too many wait."""
        self._start()
        self._waiting.put(trace)

    def flush(self) -> int:
        """Wait until every trace taken so far is sent; returns how many are stored in all.

        Raises:
            TraceExportError: Some could not be stored; says how many and why.
        """
        self._start()
        done = threading.Event()
        self._waiting.put(done)
        done.wait()
        with self._lock:
            failed, reason, self._failed = self._failed, self._reason, 0
            stored = self._stored
        if failed:
            raise TraceExportError(f"{failed} traces could not be stored at {self._url}: {reason}")
        return stored

    def close(self) -> None:
        """Send what waits and end the thread; a later `write` starts another. `flush` first to hear of failures."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._waiting.put(None)
            thread.join()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="trace-sink", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        with retrying_session(self._attempts) as session:
            while True:
                traces, end = self._take()
                if traces:
                    self._send(session, traces)
                if end is _CLOSED:
                    return
                if isinstance(end, threading.Event):
                    end.set()

    def _take(self) -> tuple[list[TraceRecord], threading.Event | str]:
        """Wait for one trace, then take what is there up to a batch, ending at a flush or at the close."""
        traces: list[TraceRecord] = []
        item = self._waiting.get()
        while True:
            if item is None:
                return traces, _CLOSED
            if isinstance(item, threading.Event):
                return traces, item
            traces.append(item)
            if len(traces) >= self._batch:
                return traces, _MORE
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                return traces, _MORE

    def _send(self, session: requests.Session, traces: list[TraceRecord]) -> None:
        import requests

        try:
            answer = session.post(self._url, data=otlp_request(traces), headers=self._headers, timeout=self._timeout_s)
            reason = "" if answer.ok else f"HTTP {answer.status_code}: {answer.text[:300]}"
        except (requests.RequestException, TypeError, ValueError) as error:
            reason = str(error)[:500]
        if reason and len(traces) > 1:
            # One trace that cannot be stored must not take the others with it.
            for trace in traces:
                self._send(session, [trace])
            return
        with self._lock:
            if reason:
                self._failed += len(traces)
                self._reason = reason
            else:
                self._stored += len(traces)


def retrying_session(attempts: int) -> requests.Session:
    """Return a session that repeats what a server in trouble did not answer; only for what may come twice."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    session = requests.Session()
    retry = Retry(
        total=attempts,
        backoff_factor=0.2,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=None,
        raise_on_status=False,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session
