"""Metrics of a running training, sent from a thread of their own so that no server makes training wait.

MLflow keeps one row for equal (run, name, step, timestamp, value), so a batch whose answer was lost is simply sent
again: what arrives twice is stored once.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resources.mlflow.rest import request_sender

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOG_BATCH = "/api/2.0/mlflow/runs/log-batch"
# MLflow takes at most 1,000 metrics in one request.
_BATCH = 500
_REQUEST_SECONDS = 5
_TRY_AGAIN = frozenset({408, 425, 429})


class MetricsRefusedError(RuntimeError):
    """The server answered, and will never take these metrics: sending them again is useless."""


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One figure at one step; `timestamp_ms` is when it was measured and stays the same however often it is sent."""

    name: str
    value: float
    step: int
    timestamp_ms: int


Send = Callable[[Sequence[MetricPoint]], None]
Report = Callable[[str], None]


class LiveMetrics:
    """A bounded queue of metrics with the one thread that empties it.

    `log` never waits for the server. What fails stays in the queue for the next round; the first failure is reported
    once, by the thread that logs. Where the queue is full the oldest figures are dropped and counted.
    """

    def __init__(
        self,
        send: Send,
        *,
        report: Report,
        interval_s: float = 5.0,
        capacity: int = 20_000,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Take what sends.

        Args:
            send: Stores a batch; raises `MetricsRefusedError` for what will never be stored, anything else for later.
            report: Told of trouble, always in the thread that called `log` or `drain`.
            interval_s: Seconds from one batch to the next, and from a failure to the next try.
            capacity: Figures kept while the server is away.
            clock: Seconds that only grow.
            now_ms: Milliseconds since the epoch.
        """
        self._send = send
        self._report = report
        self._interval_s = interval_s
        self._capacity = capacity
        self._clock = clock
        self._now_ms = now_ms
        self._changed = threading.Condition()
        self._waiting: deque[MetricPoint] = deque()
        self._sending: Sequence[MetricPoint] = ()
        self._next_send = -math.inf
        self._draining = False
        self._stopping = False
        self._failed = False
        self._lost = 0
        self._thread: threading.Thread | None = None
        self._news: str | None = None
        self._reported = False

    def log(self, figures: Mapping[str, float], *, step: int) -> None:
        """Queue the figures of one step."""
        moment = self._now_ms()
        with self._changed:
            self._waiting.extend(MetricPoint(name, float(value), step, moment) for name, value in figures.items())
            self._drop_oldest()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="mlflow-live-metrics", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        self._report_trouble()

    def drain(self, *, timeout_s: float) -> int:
        """Send all that waits, now; return how many figures are not stored because a try failed or time ran out."""
        with self._changed:
            if self._thread is not None:
                self._draining, self._failed = True, False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._failed or not self._unsent(), timeout=timeout_s)
                self._draining = False
            unsent = self._unsent()
        self._report_trouble()
        return unsent

    def close(self, *, timeout_s: float = 2 * _REQUEST_SECONDS) -> int:
        """End the thread and return how many figures were never stored, refused and dropped ones included."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)
        self._report_trouble()
        with self._changed:
            return self._unsent() + self._lost

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopping and not self._due():
                    # Without figures there is nothing to be late for; a new one wakes this up.
                    pause = max(0.0, self._next_send - self._clock()) if self._waiting else None
                    self._changed.wait(pause)
                if self._stopping:
                    return
                self._sending = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            trouble, kept = self._try(self._sending)
            with self._changed:
                if trouble is None:
                    if not self._waiting:
                        self._next_send = self._clock() + self._interval_s
                else:
                    self._note(trouble)
                    self._waiting.extendleft(reversed(kept))
                    self._lost += len(self._sending) - len(kept)
                    self._drop_oldest()
                    self._failed = True
                    self._draining = False
                    self._next_send = self._clock() + self._interval_s
                self._sending = ()
                self._changed.notify_all()

    def _try(self, points: Sequence[MetricPoint]) -> tuple[str | None, Sequence[MetricPoint]]:
        """Return what went wrong, or None, and the figures to try again."""
        try:
            self._send(points)
        except MetricsRefusedError as error:
            return f"{len(points)} live metrics are lost: {error}", ()
        except Exception as error:  # noqa: BLE001 - whatever goes wrong here must not end the thread; it is reported
            trouble = f"live metrics cannot be stored at the moment ({type(error).__name__}: {_short(error)})"
            return f"{trouble}: training goes on, they are kept and sent again", points
        return None, ()

    def _due(self) -> bool:
        return bool(self._waiting) and (self._draining or self._clock() >= self._next_send)

    def _unsent(self) -> int:
        return len(self._waiting) + len(self._sending)

    def _drop_oldest(self) -> None:
        while len(self._waiting) > self._capacity:
            self._waiting.popleft()
            self._lost += 1

    def _note(self, trouble: str) -> None:
        if not self._reported:
            self._reported, self._news = True, trouble

    def _report_trouble(self) -> None:
        with self._changed:
            news, self._news = self._news, None
        if news is not None:
            self._report(news)


def metric_sender(client: MlflowClient, run_id: str) -> Send:
    """Return what stores a batch with a run: in one short request without retries, or directly without a server."""
    request = request_sender(client)
    if request is None:
        return lambda points: _log_directly(client, run_id, points)

    def send(points: Sequence[MetricPoint]) -> None:
        answer = request(
            _LOG_BATCH,
            "POST",
            json={"run_id": run_id, "metrics": [_wire(point) for point in points]},
            timeout=_REQUEST_SECONDS,
            max_retries=0,
        )
        if 400 <= answer.status_code < 500 and answer.status_code not in _TRY_AGAIN:
            raise MetricsRefusedError(
                f"the MLflow server refused them with HTTP {answer.status_code}: its log says why"
            )
        if answer.status_code != 200:
            raise ConnectionError(f"HTTP {answer.status_code}")

    return send


def _wire(point: MetricPoint) -> dict[str, str | float | int]:
    # JSON has no number for them; MLflow's protocol buffers read these words.
    value: str | float = point.value
    if math.isnan(point.value):
        value = "NaN"
    elif math.isinf(point.value):
        value = "Infinity" if point.value > 0 else "-Infinity"
    return {"key": point.name, "value": value, "timestamp": point.timestamp_ms, "step": point.step}


def _log_directly(client: MlflowClient, run_id: str, points: Sequence[MetricPoint]) -> None:
    from mlflow.entities import Metric

    client.log_batch(run_id, metrics=[Metric(one.name, one.value, one.timestamp_ms, one.step) for one in points])


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:199]}…"
