"""Imports into a real MLflow server: nothing lost, nothing twice, nothing personal, at any rate."""

from __future__ import annotations

import gzip
import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest

from mangaassist_assets.cli.commands.traces import render_import, run_import
from mangaassist_assets.cli.session import CommandError, Session
from mangaassist_assets.tracing.contract.records import SpanRecord, TraceRecord
from mangaassist_assets.tracing.contract.turns import ChatTurn
from mangaassist_assets.tracing.importing.imported_trace import DIGEST_TAG, to_record
from mangaassist_assets.tracing.importing.mlflow_json import SERVER_TAGS, read_trace
from resources.mlflow.traces.importer import MlflowTraceStore
from resources.mlflow.tracking import MlflowResource
from resources.settings.privacy import PrivacyResource
from resources.settings.trace_mapping import TraceMappingResource
from tests.data.shapes.record_bedrock_autolog import record
from tests.support.bedrock_wire import bedrock_wire
from tests.support.secrets import ISSUED, SAID
from tests.support.turn_reading import parse_turn

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("stand_ins_environment")]

SHAPES = Path(__file__).parents[1] / "data" / "shapes"
MAIL = "of.an.import@example.invalid"  # other tests store other addresses in the same MLflow
BURST = 2_000
START = 1_774_000_000_000_000_000


@pytest.fixture
def mlflow_resource() -> MlflowResource:
    return MlflowResource(traces_experiment=f"imported-{uuid4().hex[:8]}")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def session(tmp_path, mlflow_resource, said, stand_ins_environment) -> Session:
    return Session(
        instance=dg.DagsterInstance.ephemeral(),
        definitions=dg.Definitions(),
        resources=SimpleNamespace(
            mlflow=mlflow_resource,
            trace_mapping=TraceMappingResource(),
            privacy=PrivacyResource(key_file=stand_ins_environment["MANGAASSIST_PSEUDONYM_KEY_FILE"]),
        ),
        progress=said.append,
        logs=tmp_path,
    )


@pytest.fixture
def store(mlflow_resource, stand_ins_environment) -> MlflowTraceStore:
    experiment = mlflow_resource.ensure_experiment(mlflow_resource.traces_experiment)
    return MlflowTraceStore(stand_ins_environment["MLFLOW_TRACKING_URI"], experiment)


def write(path: Path, documents: list[Any]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in documents), encoding="utf-8")
    return path


def otlp_span(trace: int, number: int, **more: Any) -> dict[str, Any]:
    span = {
        "traceId": f"{trace:032x}",
        "spanId": f"{number:016x}",
        "name": "chat_turn" if number == 1 else "bedrock_generate",
        "startTimeUnixNano": str(START + number),
        "endTimeUnixNano": str(START + number + 5_000_000),
        "status": {"code": 1},
        **more,
    }
    return span if number == 1 else span | {"parentSpanId": f"{1:016x}"}


def request(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def written_with_mlflow(mlflow_resource: MlflowResource) -> dict[str, Any]:
    """Return the export of a trace that has everything, written by MLflow itself and deleted again."""
    import mlflow
    from mlflow.entities import AssessmentSource, Link, SpanEvent

    client = mlflow_resource.client()
    source = mlflow.set_experiment(f"source-{uuid4().hex[:8]}").experiment_id
    with mlflow.start_span(
        "root", span_type="CHAIN", attributes={"a": 1, "b": [1, 2.5, "x"], "c": {"d": None}}
    ) as root:
        trace_id = root.trace_id
        root.set_inputs({"message": "注文の件です"})
        root.add_event(SpanEvent("event", attributes={"k": "v", "n": 3}))
        root.add_link(Link(trace_id="tr-" + "ab" * 16, span_id="cd" * 8, attributes={"why": "x"}))
        mlflow.update_current_trace(
            tags={"release_bundle": "b1", "free": "text"},
            metadata={"m": "1", "mlflow.trace.session": "s1", "mlflow.trace.user": f"u-{'0' * 20}"},
            client_request_id="req-1",
        )
        with pytest.raises(ValueError, match="boom"), mlflow.start_span("failed"):
            raise ValueError("boom")
        root.set_outputs({"answer": "ok"})
    mlflow.flush_trace_async_logging()
    human = AssessmentSource("HUMAN", f"u-{'1' * 20}")
    first = mlflow.log_feedback(
        trace_id=trace_id, name="user_feedback", value=False, source=human, rationale="wrong", metadata={"at": "5"}
    )
    mlflow.override_feedback(
        trace_id=trace_id, assessment_id=first.assessment_id, value=True, rationale="right after all", source=human
    )
    mlflow.log_expectation(trace_id=trace_id, name="relevant_documents", value=["d1", "d2"], source=human)
    mlflow.log_expectation(trace_id=trace_id, name="expected_intent", value="order", source=human, metadata={"x": "y"})
    mlflow.log_feedback(
        trace_id=trace_id, name="judge", error=Exception("nope"), source=AssessmentSource("LLM_JUDGE", "m")
    )
    exported: dict[str, Any] = json.loads(client.get_trace(trace_id, display=False).to_json())
    assert client.delete_traces(source, trace_ids=[trace_id]) == 1
    return exported


def comparable(trace: dict[str, Any]) -> dict[str, Any]:
    """Return an export without what belongs to the server that keeps it."""
    info = trace["info"]
    for name in (*SERVER_TAGS, DIGEST_TAG):
        info["tags"].pop(name, None)
    # The name of the developer's account becomes a pseudonym, and the path of a clone may hold a name.
    for name in ("mlflow.user", "mlflow.source.git.repoURL"):
        info["trace_metadata"].pop(name, None)
    info.pop("trace_location")
    ids = {one["assessment_id"]: one["assessment_name"] for one in info["assessments"]}
    for one in info["assessments"]:
        del one["assessment_id"]
        if "overrides" in one:
            one["overrides"] = ids[one["overrides"]]
        # Only a feedback can be replaced, so only there it says something.
        if "expectation" in one:
            one.pop("valid", None)
    info["assessments"].sort(key=lambda one: (one["assessment_name"], one["create_time"], one.get("rationale", "")))
    return trace


def test_all_of_a_trace_arrives_and_a_second_import_adds_nothing(session, mlflow_resource, tmp_path):
    exported = written_with_mlflow(mlflow_resource)
    file = write(tmp_path / "traces.jsonl", [exported])
    report = run_import(session, file=file)
    assert (report["traces"], report["written"], report["spans"], report["assessments"]) == (1, 1, 2, 5)
    assert (report["rejected"], report["release_bundles"]) == (0, {"b1": 1})
    assert report["mining"]["b1"].startswith("mined by `mangaassist loop --release-bundle b1 --no-deploy`")
    trace_id = exported["info"]["trace_id"]
    stored = json.loads(mlflow_resource.client().get_trace(trace_id, display=False).to_json())
    again = write(tmp_path / "again.jsonl", [stored])
    assert comparable(stored) == comparable(exported)
    for same in (file, again):
        second = run_import(session, file=same)
        assert (second["written"], second["completed"], second["already_there"]) == (0, 0, 1)
    assert len(mlflow_resource.client().get_trace(trace_id, display=False).info.assessments) == 5
    render_import(report)


@pytest.mark.parametrize("tool", ["bedrock_autolog", "litellm"])
def test_traces_of_other_tools_are_read_as_turns_after_their_import(session, mlflow_resource, tmp_path, tool):
    traces = list(json.loads((SHAPES / f"{tool}.json").read_text(encoding="utf-8")).values())
    for trace in traces:
        # Trace ids are one server's; the fixtures are imported into several experiments of it.
        trace["info"]["trace_id"] = f"tr-{uuid4().hex}"
    file = tmp_path / "traces.jsonl.gz"
    file.write_bytes(gzip.compress("".join(json.dumps(one) + "\n" for one in traces).encode()))
    report = run_import(session, file=file)
    assert (report["written"], report["rejected"]) == (len(traces), 0)
    turns = [parse_turn(trace) for trace in mlflow_resource.read_traces("2026.03.24-rc2")]
    readable = [one for one in turns if isinstance(one, ChatTurn)]
    assert len(readable) >= len(turns) - 1
    assert {one.message for one in readable} == {"Where is volume 3 of Lantern Street Blues?"}
    assert all(one.generations for one in readable)
    if tool == "litellm":
        # LiteLLM writes null for a miss, which OTLP has no value for.
        assert {one.cache_hit for one in readable} == {False}


def forms(traces: dict[str, Any]) -> dict[str, list[tuple[str, list[str], list[str]]]]:
    """Return for each trace its spans' names, attributes and events."""
    return {
        name: [
            (span["name"], sorted(span["attributes"]), [event["name"] for event in span["events"]])
            for span in sorted(trace["data"]["spans"], key=lambda span: span["start_time_unix_nano"])
        ]
        for name, trace in traces.items()
    }


def test_the_installed_autologging_still_writes_what_the_recorded_traces_hold(stand_ins_environment):
    with bedrock_wire() as wire:
        traces = record(stand_ins_environment["MLFLOW_TRACKING_URI"], wire)
    recorded = json.loads((SHAPES / "bedrock_autolog.json").read_text(encoding="utf-8"))
    assert forms(traces) == forms(recorded)
    for name in ("converse", "converse_stream", "invoke_claude_stream", "invoke_titan", "inside_an_application"):
        turn = parse_turn(to_record(read_trace(traces[name])))
        assert isinstance(turn, ChatTurn)
        assert (turn.message, turn.answer) == ("Where is volume 3 of Lantern Street Blues?", "It is in stock.")


def test_a_trace_spread_over_lines_is_one_and_an_open_one_stays_in_progress(session, store, tmp_path):
    first, second = int(uuid4().hex, 16), int(uuid4().hex, 16)
    attributes = [{"key": "release_bundle", "value": {"stringValue": "b"}}]
    file = write(
        tmp_path / "spans.jsonl",
        [
            request(otlp_span(first, 2), otlp_span(second, 2, attributes=attributes)),
            request(otlp_span(second, 1, endTimeUnixNano="0")),
            request(otlp_span(first, 1), otlp_span(first, 2)),
        ],
    )
    report = run_import(session, file=file)
    assert (report["traces"], report["written"], report["in_progress"], report["spans"]) == (2, 2, 1, 4)
    stored = store.stored([f"tr-{first:032x}", f"tr-{second:032x}"])
    states = {name: one.state for name, one in stored.items()}
    assert states == {f"tr-{first:032x}": "OK", f"tr-{second:032x}": "IN_PROGRESS"}
    assert store.stored_spans(f"tr-{second:032x}") == {f"{1:016x}": False, f"{2:016x}": True}
    write(file, [request(otlp_span(second, 1))])
    assert run_import(session, file=file)["completed"] == 1
    assert store.stored([f"tr-{second:032x}"])[f"tr-{second:032x}"].state == "OK"


def test_bad_lines_are_rejected_with_a_report_and_nothing_personal_is_stored(session, said, stand_ins, tmp_path):
    trace = int(uuid4().hex, 16)
    text = {"stringValue": json.dumps({"message": f"write to {MAIL}, 電話090-1234-5678"})}
    span = otlp_span(
        trace,
        1,
        attributes=[{"key": "mlflow.spanInputs", "value": text}, {"key": "user.id", "value": {"stringValue": MAIL}}],
        events=[{"name": "x", "timeUnixNano": str(START), "attributes": [{"key": MAIL, "value": text}]}],
        status={"code": 2, "message": f"no order of {MAIL}"},
    )
    file = write(tmp_path / "spans.jsonl", [request(span), {"about": MAIL}, request(otlp_span(trace, 2, spanId="x"))])
    report = run_import(session, file=file)
    assert (report["written"], report["rejected"]) == (1, 2)
    rejects = [json.loads(line) for line in Path(report["rejects_file"]).read_text().splitlines()]
    assert [(one["line"], one["reason"]) for one in rejects] == [
        (2, "neither an MLflow trace nor an OTLP request"),
        (3, "spanId is not an id of 8 bytes in hexadecimal or base64"),
    ]
    assert MAIL not in Path(report["rejects_file"]).read_text() + " ".join(said) + json.dumps(report)
    with sqlite3.connect(stand_ins.home.mlflow / "mlflow.db") as database:
        dump = "\n".join(database.iterdump())
    assert f"{trace:032x}" in dump
    assert MAIL not in dump
    assert "090-1234-5678" not in dump


def test_secrets_of_every_form_are_in_no_store_and_no_turn(session, mlflow_resource, said, stand_ins, tmp_path):
    told = [*((f"my token is {one}", one) for one in ISSUED.values()), *SAID]
    spans = [
        otlp_span(
            int(uuid4().hex, 16),
            1,
            attributes=[
                {"key": "mlflow.spanInputs", "value": {"stringValue": json.dumps({"message": text})}},
                {"key": "release_bundle", "value": {"stringValue": "2026.03.24-rc2"}},
                {"key": "session_id", "value": {"stringValue": f"s-{number}"}},
                {"key": "http.request.header.authorization", "value": {"stringValue": f"Bearer {secret}"}},
                {"key": "note", "value": {"stringValue": text}},
            ],
            events=[
                {
                    "name": "said",
                    "timeUnixNano": str(START),
                    "attributes": [{"key": "x", "value": {"stringValue": text}}],
                }
            ],
            status={"code": 2, "message": text},
        )
        for number, (text, secret) in enumerate(told)
    ]
    report = run_import(session, file=write(tmp_path / "spans.jsonl", [request(one) for one in spans]))
    assert (report["written"], report["rejected"]) == (len(told), 0)
    with sqlite3.connect(stand_ins.home.mlflow / "mlflow.db") as database:
        dump = "\n".join(database.iterdump())
    turns = [
        read
        for trace in mlflow_resource.read_traces("2026.03.24-rc2")
        if isinstance(read := parse_turn(trace), ChatTurn)
    ]
    assert len(turns) == len(told)
    assert all("[SECRET" in one.message for one in turns)
    # A PIN of four digits may be part of a time.
    secrets = [line for _, secret in told for line in secret.split("\n") if len(line) > 5]
    everywhere = dump + "".join(str(one) for one in turns) + " ".join(said) + json.dumps(report)
    assert [one for one in secrets if one in everywhere or json.dumps(one)[1:-1] in everywhere] == []


def test_a_file_without_any_trace_is_an_error(session, tmp_path):
    with pytest.raises(CommandError, match="holds no trace that can be read"):
        run_import(session, file=write(tmp_path / "x.jsonl", [{"a": 1}]))


_CHILD = """
import sys
from pathlib import Path
from types import SimpleNamespace
import dagster as dg
from mangaassist_assets.cli.commands.traces import run_import
from mangaassist_assets.cli.session import Session
from resources.mlflow.tracking import MlflowResource
from resources.settings.privacy import PrivacyResource
from resources.settings.trace_mapping import TraceMappingResource
session = Session(
    instance=dg.DagsterInstance.ephemeral(), definitions=dg.Definitions(),
    resources=SimpleNamespace(
        mlflow=MlflowResource(traces_experiment=sys.argv[3]), trace_mapping=TraceMappingResource(),
        privacy=PrivacyResource(key="ab" * 32),
    ),
    progress=lambda line: None, logs=Path(sys.argv[1]),
)
run_import(session, file=Path(sys.argv[2]), progress=lambda done, total: print(done, flush=True))
"""


def test_an_import_that_was_killed_is_finished_by_the_next_one(session, store, mlflow_resource, tmp_path):
    ids = [int(uuid4().hex, 16) for _ in range(200)]
    exported = [
        {
            "info": {
                "trace_id": f"tr-{trace:032x}",
                "request_time": "2026-03-20T09:46:40.123Z",
                "execution_duration_ms": 5,
                "state": "OK",
                "tags": {"release_bundle": "b"},
                "trace_metadata": {"m": "1"},
                "assessments": [
                    {
                        "assessment_id": f"a-{trace:032x}",
                        "assessment_name": "user_feedback",
                        "source": {"source_type": "HUMAN", "source_id": "r"},
                        "create_time": "2026-03-20T09:47:00Z",
                        "feedback": {"value": "thumbs_down"},
                    }
                ],
            },
            "data": {
                "spans": [
                    {
                        "span_id": f"0x{number:016x}",
                        "parent_id": None if number == 1 else f"0x{1:016x}",
                        "context": {"trace_id": f"0x{trace:032x}", "span_id": f"0x{number:016x}"},
                        "name": "chat_turn",
                        "start_time": START,
                        "end_time": START + 5_000_000,
                        "status_code": "OK",
                        "status_message": "",
                        "attributes": {},
                        "events": [],
                    }
                    for number in (1, 2)
                ]
            },
        }
        for trace in ids
    ]
    file = write(tmp_path / "traces.jsonl", exported)
    command = [sys.executable, "-c", _CHILD, str(tmp_path), str(file), mlflow_resource.traces_experiment]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == "64"
        child.send_signal(signal.SIGKILL)
    names = [f"tr-{trace:032x}" for trace in ids]
    there = store.stored(names)
    assert 64 <= len(there) < 200
    report = run_import(session, file=file)
    assert report["written"] + report["completed"] + report["already_there"] == 200
    assert report["already_there"] >= 64
    stored = store.stored(names)
    assert len(stored) == 200
    assert all(len(one.assessment_ids) == 1 and one.metadata["m"] == "1" for one in stored.values())
    assert all(len(store.stored_spans(name)) == 2 for name in names[::10])
    assert run_import(session, file=file)["already_there"] == 200


def test_a_burst_of_imported_traces_arrives_whole(session, store, tmp_path):
    ids = [int(uuid4().hex, 16) for _ in range(BURST)]
    requests = [
        request(*(span for trace in ids[at : at + 50] for span in (otlp_span(trace, 1), otlp_span(trace, 2))))
        for at in range(0, BURST, 50)
    ]
    seen: list[tuple[int, int]] = []
    report = run_import(
        session, file=write(tmp_path / "burst.jsonl", requests), progress=lambda done, total: seen.append((done, total))
    )
    assert (report["written"], report["spans"], report["rejected"]) == (BURST, 2 * BURST, 0)
    assert len(store.stored([f"tr-{trace:032x}" for trace in ids])) == BURST
    assert len(seen) > 20
    assert seen[-1] == (BURST, BURST)


def in_threads(work: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_burst_of_traced_turns_from_several_threads_arrives_whole(mlflow_resource, store):
    sink = mlflow_resource.trace_sink()
    ids = [f"tr-{uuid4().hex}" for _ in range(BURST)]

    def turn(trace_id: str) -> TraceRecord:
        spans = (
            SpanRecord(
                span_id=f"{1:016x}",
                parent_id=None,
                name="chat_turn",
                start_ns=START,
                end_ns=START + 5,
                inputs={"message": "hi"},
            ),
            SpanRecord(
                span_id=f"{2:016x}", parent_id=f"{1:016x}", name="bedrock_generate", start_ns=START, end_ns=START + 4
            ),
        )
        tags = {"session_id": "s", "release_bundle": "burst"}
        return TraceRecord(
            trace_id=trace_id, timestamp_ms=START // 10**6, duration_ms=0, state="OK", tags=tags, spans=spans
        )

    def write_share(number: int) -> None:
        for trace_id in ids[number::4]:
            sink.write(turn(trace_id))

    in_threads(write_share, 4)
    assert sink.flush() == BURST
    assert len(store.stored(ids)) == BURST
