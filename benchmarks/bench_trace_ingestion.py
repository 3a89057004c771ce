"""Ingestion traces: the first reading of a history, and then 100 new traces at a time.

The stores are those of `bench_trace_reading` (a real MLflow server, on SQLite and on PostgreSQL, read by SQL), spread
over days as traffic is. Everything counts: reading, the contract, redaction, the commit to the Delta table. One JSON
line a figure:

- `first`: traces a second of ingestion a whole history in a process of its own, and its peak memory;
- `advance`: milliseconds of ingestion 100 new traces after each history, medians, taken in turn; `ratio` is the longest
  history's to the shortest's, which is the baseline;
- `bundle`: seconds to compare one bundle with its source, header by header, and to make its table.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bench_trace_reading as reading
from bench_trace_reading import Tracked, peak_bytes, say, timed, tracked

from mangaassist_assets.core.ingestion_tables import IngestionTable
from mangaassist_assets.tracing.ingestion.ingested_traces import INGESTED_SCHEMA
from mangaassist_assets.tracing.ingestion.trace_ingestion import TraceIngestion
from resources.mlflow.traces.sql_source import SqlTraceSource
from resources.mlflow.traces.store import TrackingStore

NEW_TRACES = 100
REPETITIONS = 15
PAGE = 1_000
SPACING_MS = 10_000
KEY = b"benchmark".ljust(32, b"\0")


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """A store with an ingestion of its whole history."""

    store: Tracked
    folder: Path
    history: int


def ingestion_of(uri: str, experiment_id: str, folder: Path) -> TraceIngestion:
    """Return the ingestion in a folder, as `tagged_traces` makes it."""
    table = IngestionTable(str(folder), schema=INGESTED_SCHEMA, skipping=("timestamp_ms",))
    source = SqlTraceSource(TrackingStore(uri), experiment_id)
    return TraceIngestion(table, source, pseudonym_key=KEY, page=PAGE)


def ingest(uri: str, experiment_id: str, folder: Path) -> None:
    """Land everything in this process and print what it took."""
    seconds, ingested = timed(ingestion_of(uri, experiment_id, folder).advance)
    assert ingested.quarantined == 0, ingested
    say(traces=ingested.turns, seconds=round(seconds, 1), peak_mb=round(peak_bytes() / 1e6))


def first(kind: str, ingested: Ingested) -> None:
    """Print the rate and the memory of ingestion a history."""
    child = [
        *(sys.executable, __file__, "--ingest", ingested.store.uri, "--experiment", ingested.store.experiment_id),
        *("--folder", str(ingested.folder)),
    ]
    told = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
    assert told["traces"] == ingested.history, told
    say(part="first", store=kind, traces_per_s=round(told["traces"] / told["seconds"]), **told)


def advance(kind: str, ingestions: list[Ingested]) -> None:
    """Print what 100 new traces cost after each history."""
    spent: dict[int, list[float]] = {one.history: [] for one in ingestions}
    opened = [ingestion_of(one.store.uri, one.store.experiment_id, one.folder) for one in ingestions]
    for _ in range(REPETITIONS + 1):
        for one, ingestion in zip(ingestions, opened, strict=True):
            one.store.filler.grow_to(one.store.filler.count + NEW_TRACES)
            seconds, ingested = timed(ingestion.advance)
            assert ingested.turns == NEW_TRACES, ingested
            spent[one.history].append(seconds * 1_000)
    # The first reading opens connections and warms caches.
    medians = {history: statistics.median(times[1:]) for history, times in spent.items()}
    for history, median in medians.items():
        say(
            part="advance", store=kind, history=history, new_traces=NEW_TRACES, median_ms=round(median, 1),
            fastest_ms=round(min(spent[history]), 1), ratio=round(median / medians[min(medians)], 3),
        )  # fmt: skip
    for one, ingestion in zip(ingestions, opened, strict=True):
        compared, changed = timed(lambda ingestion=ingestion: ingestion.reconcile("2026.03.01"))
        made, found = timed(lambda ingestion=ingestion: ingestion.bundle("2026.03.01"))
        say(
            part="bundle", store=kind, history=one.history, traces=found.turns.height, read_again=changed.turns,
            compare_s=round(compared, 2), make_s=round(made, 2),
        )  # fmt: skip


def run(kind: str, folder: Path, arguments: Any) -> None:  # noqa: ANN401 - argparse's namespace
    """Land each history on one kind of store, then add to them in turn."""
    with contextlib.ExitStack() as running:
        ingestions = []
        for history in sorted(int(number) for number in arguments.history.split(",")):
            store = running.enter_context(tracked(kind, folder / str(history), arguments))
            store.filler.grow_to(history)
            ingestions.append(Ingested(store=store, folder=folder / f"ingestion-{history}", history=history))
            first(kind, ingestions[-1])
        advance(kind, ingestions)


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=8)
    parser.add_argument("--store", default="sqlite,postgresql", help="sqlite, postgresql or both")
    parser.add_argument("--history", default="1000,100000")
    parser.add_argument("--server-workers", type=int, default=1, help="processes of the MLflow server")
    parser.add_argument("--ingest", help=argparse.SUPPRESS)
    parser.add_argument("--experiment", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ingest:
        ingest(arguments.ingest, arguments.experiment, arguments.folder)
        return
    # Traces forty milliseconds apart would all lie in the overlap that every reading looks back over.
    reading.STEP_MS = SPACING_MS
    for kind in arguments.store.split(","):
        with tempfile.TemporaryDirectory() as folder:
            run(kind, Path(folder), arguments)


if __name__ == "__main__":
    main()
