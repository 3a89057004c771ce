"""A tracking store with one trace of every kind in it, written through a real MLflow server."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests
import sqlalchemy as sa

from mangaassist_assets.local.ports import listen_on
from mangaassist_assets.tracing.contract.records import SpanRecord, TraceRecord
from mangaassist_assets.tracing.ingestion.trace_sources import TraceSource
from resources.mlflow.traces.rest_source import RestTraceSource
from resources.mlflow.traces.sql_source import SqlTraceSource
from resources.mlflow.traces.store import TrackingStore
from resources.mlflow.tracking import MlflowResource

START_MS = 1_774_000_000_000
BUSY_MS = START_MS + 5_000
BUSY = 130
"""Traces in one millisecond: more than a search for one trace returns."""


def trace_id(number: int) -> str:
    return f"tr-{number:032x}"


def chat(number: int, timestamp_ms: int, *, state: str = "OK", bundle: str = "b1", **changes: Any) -> TraceRecord:
    start = timestamp_ms * 1_000_000
    failed = state == "ERROR"
    root = SpanRecord(
        span_id=f"{number * 16 + 1:016x}",
        parent_id=None,
        name="chat_turn",
        start_ns=start,
        end_ns=start + 12_345_678,
        status="ERROR" if failed else "OK",
        status_message="endpoint is gone" if failed else "",
        attributes={"candidate_ids": ["a", "b"], "scores": [0.5, 1.0], "n": 3, "ok": True, "empty": ""},
        inputs={"message": "送料はいくらですか 📚", "limit": 8},
        outputs=None if failed else {"answer": "4 ユーロ"},
    )
    child = replace(root, span_id=f"{number * 16 + 2:016x}", parent_id=root.span_id, name="rerank_chunks")
    tags = {"session_id": f"s{number}", "release_bundle": bundle}
    made = TraceRecord(
        trace_id=trace_id(number),
        timestamp_ms=timestamp_ms,
        duration_ms=12,
        state="OK",
        tags=tags,
        user_key=f"u-{number:020x}",
        spans=(root, child),
    )
    return replace(made, **changes)


@dataclass(frozen=True, kw_only=True)
class Filled:
    """A server, its store and an experiment with one trace of every kind; `ids` by kind."""

    url: str
    store_uri: str
    experiment_id: str
    experiment: str
    sql: SqlTraceSource
    rest: RestTraceSource
    ids: dict[str, str] = field(default_factory=dict)

    def sources(self) -> tuple[TraceSource, TraceSource]:
        return self.sql, self.rest

    def one(self, kind: str) -> TraceRecord:
        """Return the trace of a kind, after both sources have agreed on it."""
        by_sql, by_rest = (source.traces_by_id([self.ids[kind]]) for source in self.sources())
        assert list(by_sql) == list(by_rest)
        return by_sql[0]


def use(url: str) -> Any:
    import mlflow

    mlflow.set_tracking_uri(url)
    return mlflow.MlflowClient(url)


def write_by_tracer(client: Any, experiment_id: str, ids: dict[str, str]) -> None:
    """Write traces with MLflow's own tracer: finished, failed with an exception, still open."""
    import mlflow
    from mlflow.entities import SpanEvent as MlflowSpanEvent

    first_ns = START_MS * 1_000_000
    for kind, offset in (("tracer", 0), ("exception", 1), ("open", 2)):
        start = first_ns + offset * 1_000_000
        root = client.start_trace(
            "chat_turn",
            experiment_id=experiment_id,
            inputs={"q": "ü"},
            tags={"release_bundle": "b2"},
            start_time_ns=start,
        )
        ids[kind] = root.trace_id
        child = client.start_span(
            "generate", root.trace_id, root.span_id, span_type="LLM", attributes={"deep": {"a": [1, {"b": None}]}},
            start_time_ns=start + 10,
        )  # fmt: skip
        if kind == "exception":
            event = MlflowSpanEvent.from_exception(ValueError("no stock"))
            child.add_event(MlflowSpanEvent(name=event.name, timestamp=start + 11, attributes=event.attributes))
        client.end_span(
            root.trace_id, child.span_id, outputs=[1.5, 2], status="ERROR" if kind == "exception" else "OK",
            end_time_ns=start + 2_000_000,
        )  # fmt: skip
        if kind != "open":
            status = "ERROR" if kind == "exception" else "OK"
            client.end_trace(root.trace_id, outputs="hi", status=status, end_time_ns=start + 3_456_789)
    mlflow.flush_trace_async_logging()


def write_elsewhere(url: str, store_uri: str, experiment_id: str, folder: Path, ids: dict[str, str]) -> None:
    """Write traces whose spans lie in artifacts, of an older form too, in an archive, or nowhere any more."""
    from mlflow.entities import Trace, TraceInfo, TraceLocation, TraceState
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    client = use(url)
    whole: Trace = client.get_trace(ids["exception"])
    older = {
        "spans": [
            {
                "context": {"trace_id": "0x" + "1" * 32, "span_id": "0x00000000000003e8"},
                "parent_id": None,
                "name": "chat_turn",
                "start_time": START_MS * 1_000_000,
                "end_time": START_MS * 1_000_000 + 5,
                "status_code": "OK",
                "status_message": "",
                "attributes": {"mlflow.traceRequestId": '"tr-1"', "mlflow.spanInputs": '{"message": "hi"}'},
                "events": [],
            }
        ],
    }
    contents = {
        "artifacts": json.dumps(whole.data.to_dict()),
        "older artifacts": json.dumps(older),
        "damaged artifacts": '{"spans": [',
        "no spans in artifacts": '{"spans": [7]}',
        "missing artifacts": None,
    }
    store = SqlAlchemyStore(store_uri, folder.as_uri())
    for offset, (kind, content) in enumerate(contents.items()):
        ids[kind] = trace_id(0xA0 + offset)
        tags = {"release_bundle": "b2"} | ({} if "older" in kind else {"mlflow.trace.spansLocation": "ARTIFACT_REPO"})
        made = store.start_trace(
            TraceInfo(
                trace_id=ids[kind],
                trace_location=TraceLocation.from_experiment_id(experiment_id),
                request_time=START_MS + 100 + offset,
                execution_duration=7,
                state=TraceState.OK,
                tags=tags,
                trace_metadata={"mlflow.trace.session": "s9", "mlflow.trace.tokenUsage": '{"total_tokens": 5}'},
            )
        )
        if content is not None:
            target = Path(made.tags["mlflow.artifactLocation"].removeprefix("file://"))
            target.mkdir(parents=True)
            (target / "traces.json").write_text(content)
    for name in ("tr-Z", "tr-a", "tr-_", "tr-é"):
        # In one millisecond: a database sorts them otherwise than Python, unless it is told.
        ids[name] = f"{name}-{uuid4().hex[:8]}"
        store.start_trace(
            TraceInfo(
                trace_id=ids[name],
                trace_location=TraceLocation.from_experiment_id(experiment_id),
                request_time=START_MS + 120,
                state=TraceState.IN_PROGRESS,
            )
        )
    ids["just begun"] = trace_id(0xAF)
    store.start_trace(
        TraceInfo(
            trace_id=ids["just begun"],
            trace_location=TraceLocation.from_experiment_id(experiment_id),
            request_time=START_MS + 110,
            state=TraceState.IN_PROGRESS,
        )
    )
    for kind in ("archived", "lost archive"):
        assert store._archive_trace_candidate(
            trace_id=ids[kind], resolved_trace_archival_location=(folder / "archive").as_uri()
        )
        if kind == "lost archive":
            (lost,) = (folder / "archive").rglob(f"{ids[kind]}/**/traces.pb")
            lost.unlink()


def assess(url: str, ids: dict[str, str]) -> None:
    """Put assessments of every kind of value on a trace, change, override and delete some."""
    import mlflow
    from mlflow.entities import AssessmentSource

    use(url)
    on = ids["ok"]
    people = AssessmentSource(source_type="HUMAN", source_id="reviewer-1")
    judge = AssessmentSource(source_type="LLM_JUDGE", source_id="judge")
    for name, value in (
        ("whole", 1), ("half", 0.5), ("float", 2.0), ("yes", True), ("text", "良い"), ("list", ["a", 1.0, 2]),
        ("map", {"a": 1.0}),
    ):  # fmt: skip
        mlflow.log_feedback(trace_id=on, name=name, value=value, source=judge)
    mlflow.log_feedback(trace_id=on, name="failed", error=ValueError("rate limit"), source=judge)
    mlflow.log_expectation(trace_id=on, name="expected_intent", value="shipping_cost", source=people)
    mlflow.log_expectation(trace_id=on, name="relevant_documents", value=["a.md", "b.md"], source=people)
    mlflow.log_expectation(trace_id=on, name="deep", value={"a": [1, 2.5, {"b": None}]}, source=people)
    wrong = mlflow.log_feedback(trace_id=on, name="overridden", value="wrong", source=judge)
    mlflow.override_feedback(trace_id=on, assessment_id=wrong.assessment_id, value="right", source=people)
    gone = mlflow.log_feedback(trace_id=on, name="deleted", value=1, source=judge)
    mlflow.delete_assessment(trace_id=on, assessment_id=gone.assessment_id)


def fill(url: str, store_uri: str, folder: Path) -> Filled:
    client = use(url)
    experiment = f"traces-{uuid4().hex[:8]}"
    experiment_id = client.create_experiment(experiment)
    sink = MlflowResource(tracking_uri=url, traces_experiment=experiment).trace_sink()
    ids = {kind: trace_id(0x10 + offset) for offset, kind in enumerate(
        ("ok", "error", "unfinished", "archived", "lost archive", "damaged", "deleted", "event"))}  # fmt: skip
    for offset, kind in enumerate(ids):
        trace = chat(0x10 + offset, START_MS + 50 + offset, state="ERROR" if kind == "error" else "OK")
        if kind == "unfinished":
            trace = replace(trace, spans=trace.spans[1:])
        sink.write(trace)
    for number in range(BUSY):
        sink.write(chat(0x1000 + number * 7 % BUSY, BUSY_MS, bundle="b3" if number % 2 else "b'4"))
    for number in range(20):
        sink.write(chat(0x2000 + 20 - number, BUSY_MS + 1 + number // 5))
    sink.flush()
    write_by_tracer(client, experiment_id, ids)
    write_elsewhere(url, store_uri, experiment_id, folder, ids)
    client.set_trace_tag(ids["ok"], "user_feedback", "thumbs_down")
    client.delete_trace_tag(ids["ok"], "session_id")
    assess(url, ids)
    client.delete_traces(experiment_id, trace_ids=[ids["deleted"]])
    engine = sa.create_engine(store_uri)
    with engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE spans SET content = '{\"name\":' WHERE trace_id = :id AND parent_span_id IS NULL"),
            {"id": ids["damaged"]},
        )
    engine.dispose()
    return Filled(
        url=url,
        store_uri=store_uri,
        experiment_id=experiment_id,
        experiment=experiment,
        sql=SqlTraceSource(TrackingStore(store_uri), experiment_id, experiment_name=experiment, tracking_uri=url),
        rest=RestTraceSource(client, experiment_id),
        ids=ids,
    )


@contextlib.contextmanager
def tracking_server(store_uri: str, folder: Path) -> Iterator[str]:
    """Run an MLflow server on a database; gives its URL."""
    listener = listen_on(0, service="MLflow")
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with (folder / "mlflow.log").open("wb") as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "mangaassist_assets.local.mlflow_server", "--fd", str(listener.fileno())),
                *("--folder", str(folder), "--store-uri", store_uri),
            ],
            pass_fds=[listener.fileno()],
            stdout=log,
            stderr=log,
        )
    listener.close()
    try:
        assert requests.get(f"{url}/health", timeout=120).ok
        yield url
    finally:
        server.terminate()
        server.wait(30)
