"""Live metrics cost training nothing, and what a server misses it gets later, once."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resources.mlflow.live_metrics import LiveMetrics, MetricPoint, MetricsRefusedError

PATIENCE = 20


class Server:
    """Stores points under MLflow's key; does with each batch what the test tells it to."""

    def __init__(self) -> None:
        self.batches: list[list[MetricPoint]] = []
        self.away = False
        self.refuses = False
        self.loses_answers = False
        self.stored: list[MetricPoint] = []
        self.tries = threading.Semaphore(0)
        self.open = threading.Event()
        self.open.set()

    def send(self, points: Sequence[MetricPoint]) -> None:
        self.open.wait(PATIENCE)
        self.tries.release()
        if self.away:
            raise ConnectionError("nobody listens")
        if self.refuses:
            raise MetricsRefusedError("HTTP 400")
        self.batches.append(list(points))
        self.stored += [point for point in points if point not in self.stored]
        if self.loses_answers:
            raise TimeoutError("the answer was lost")


class Watch:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def metrics(server: Server, *, reports: list[str] | None = None, clock: Watch | None = None, **options) -> LiveMetrics:
    report = (reports if reports is not None else []).append
    return LiveMetrics(server.send, report=report, clock=clock or Watch(), now_ms=lambda: 1, **options)


def test_a_server_that_hangs_does_not_make_training_wait():
    server = Server()
    server.open.clear()
    live = metrics(server)
    for step in range(5_000):
        live.log({"loss": 1.0}, step=step)
    assert server.batches == []
    server.open.set()
    assert live.drain(timeout_s=PATIENCE) == 0
    assert [point.step for point in server.stored] == list(range(5_000))
    assert live.close() == 0


def test_figures_are_sent_together_not_one_by_one():
    server, clock = Server(), Watch()
    live = metrics(server, clock=clock, interval_s=5)
    live.log({"loss": 1.0}, step=0)
    assert server.tries.acquire(timeout=PATIENCE)
    for step in range(1, 101):
        live.log({"loss": 1.0}, step=step)
    clock.seconds = 5.0
    live.log({"loss": 1.0}, step=101)
    assert server.tries.acquire(timeout=PATIENCE)
    live.drain(timeout_s=PATIENCE)
    live.close()
    assert [len(batch) for batch in server.batches] == [1, 101]


def test_what_a_server_missed_is_sent_when_it_is_back_and_reported_once():
    server, reports = Server(), []
    live = metrics(server, reports=reports)
    server.away = True
    live.log({"loss": 3.0}, step=1)
    assert live.drain(timeout_s=PATIENCE) == 1
    live.log({"loss": 2.0}, step=2)
    assert live.drain(timeout_s=PATIENCE) == 2
    server.away = False
    assert live.drain(timeout_s=PATIENCE) == 0
    assert [(point.step, point.value) for point in server.stored] == [(1, 3.0), (2, 2.0)]
    assert len(reports) == 1
    assert "nobody listens" in reports[0]
    assert "training goes on" in reports[0]
    assert live.close() == 0


def test_a_batch_whose_answer_was_lost_is_sent_again_as_it_was():
    server = Server()
    live = metrics(server)
    server.loses_answers = True
    live.log({"loss": 3.0}, step=1)
    assert live.drain(timeout_s=PATIENCE) == 1
    server.loses_answers = False
    assert live.drain(timeout_s=PATIENCE) == 0
    live.close()
    assert server.batches[0] == server.batches[1]
    assert len(server.stored) == 1


def test_what_a_server_refuses_does_not_hold_up_the_rest():
    server, reports = Server(), []
    live = metrics(server, reports=reports)
    server.refuses = True
    live.log({"bad": 1.0}, step=1)
    live.drain(timeout_s=PATIENCE)
    server.refuses = False
    live.log({"good": 1.0}, step=2)
    assert live.drain(timeout_s=PATIENCE) == 0
    assert [point.name for point in server.stored] == ["good"]
    assert live.close() == 1
    assert "1 live metrics are lost: HTTP 400" in reports[0]


def test_a_full_queue_drops_the_oldest_and_says_how_many():
    server = Server()
    server.away = True
    live = metrics(server, capacity=10)
    for step in range(25):
        live.log({"loss": 1.0}, step=step)
        live.drain(timeout_s=PATIENCE)
    server.away = False
    assert live.drain(timeout_s=PATIENCE) == 0
    assert [point.step for point in server.stored] == list(range(15, 25))
    assert live.close() == 15


def test_nothing_logged_starts_no_thread_and_loses_nothing():
    live = metrics(Server())
    assert live.drain(timeout_s=0) == 0
    assert live.close() == 0


def test_trouble_is_told_by_the_thread_that_trains():
    server, threads = Server(), []
    server.away = True
    live = LiveMetrics(server.send, report=lambda _: threads.append(threading.current_thread()), clock=Watch())
    live.log({"loss": 1.0}, step=1)
    live.drain(timeout_s=PATIENCE)
    live.close()
    assert threads == [threading.current_thread()]


@given(st.lists(st.sampled_from(["log", "log", "log", "away", "back", "lossy", "drain"]), max_size=30))
@example(["away", "log", "drain", "log", "log", "drain", "back"])
def test_whatever_happens_each_figure_arrives_once_and_in_order(events):
    server = Server()
    live = metrics(server, interval_s=0)
    step = 0
    for event in events:
        if event == "log":
            step += 1
            live.log({"loss": 1.0 / step}, step=step)
        elif event == "drain":
            live.drain(timeout_s=PATIENCE)
        else:
            server.away, server.loses_answers = event == "away", event == "lossy"
    server.away = server.loses_answers = False
    live.drain(timeout_s=PATIENCE)
    assert live.drain(timeout_s=PATIENCE) == 0
    assert live.close() == 0
    assert [point.step for point in server.stored] == list(range(1, step + 1))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_is_a_word_on_the_wire(value):
    from resources.mlflow.live_metrics import _wire

    wire = _wire(MetricPoint("loss", value, 1, 2))
    assert wire["value"] in {"NaN", "Infinity", "-Infinity"}
