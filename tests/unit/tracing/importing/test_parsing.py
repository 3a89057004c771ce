"""Files of traces: every form is read the same, nothing hostile costs more than its line, nothing of it is repeated."""

from __future__ import annotations

import base64
import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.tracing.importing.imported_trace import ImportedTrace, trace_id_of
from mangaassist_assets.tracing.importing.parsing import ImportFileError, ImportReject, Limits, Part, read_parts
from tests.support.examples import examples

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
CHILD = "00f067aa0ba902b7"
START = 1_774_000_000_000_000_000


def b64(digits: str) -> str:
    return base64.b64encode(bytes.fromhex(digits)).decode()


def info(**more: Any) -> dict[str, Any]:
    return {
        "trace_id": f"tr-{TRACE}",
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "7"}},
        "request_time": "2026-03-20T09:46:40.123Z",
        "execution_duration_ms": 1500,
        "state": "OK",
        "trace_metadata": {"m": "1", "mlflow.trace.infoFinalized": "true"},
        "tags": {"release_bundle": "b", "mlflow.artifactLocation": "file:///elsewhere"},
        **more,
    }


def v3(**more: Any) -> dict[str, Any]:
    span = {
        "trace_id": b64(TRACE),
        "span_id": b64(SPAN),
        "parent_span_id": None,
        "name": "root",
        "start_time_unix_nano": START,
        "end_time_unix_nano": START + 1_000,
        "status": {"code": "STATUS_CODE_OK", "message": ""},
        "attributes": {"mlflow.spanInputs": '{"message": "hi"}', "n": "3", "mlflow.traceRequestId": f'"tr-{TRACE}"'},
        "events": [{"name": "e", "time_unix_nano": START, "attributes": {"k": 1}}],
        "links": [{"trace_id": "tr-" + "ab" * 16, "span_id": "cd" * 8, "attributes": None}],
        **more,
    }
    return {"info": info(), "data": {"spans": [span]}}


def v350() -> dict[str, Any]:
    said = v3()
    said["data"]["spans"][0] |= {"trace_id": f"tr-{TRACE}", "span_id": SPAN, "status": {"code": "OK", "message": ""}}
    return said


def v2() -> dict[str, Any]:
    span = {
        "name": "root",
        "context": {"trace_id": f"0x{TRACE}", "span_id": f"0x{SPAN}"},
        "parent_id": None,
        "start_time": START,
        "end_time": START + 1_000,
        "status_code": "OK",
        "status_message": "",
        "attributes": {"mlflow.spanInputs": '{"message": "hi"}', "n": "3"},
        "events": [{"name": "e", "timestamp": START, "attributes": {"k": 1}}],
        "links": [{"trace_id": "ab" * 16, "span_id": "cd" * 8}],
    }
    told = {
        "request_id": f"tr-{TRACE}",
        "experiment_id": "7",
        "timestamp_ms": 1_774_000_000_123,
        "execution_time_ms": 1500,
        "status": "OK",
        "request_metadata": {"m": "1"},
        "tags": {"release_bundle": "b"},
    }
    return {"info": told, "data": {"spans": [span], "request": "{}", "response": None}}


def otlp(encode: Any = str, **more: Any) -> dict[str, Any]:
    span = {
        "traceId": encode(TRACE),
        "spanId": encode(SPAN),
        "name": "chat",
        "kind": 3,
        "startTimeUnixNano": str(START),
        "endTimeUnixNano": str(START + 1_000),
        "status": {"code": 2, "message": "late"},
        "attributes": [
            {"key": "s", "value": {"stringValue": "x"}},
            {"key": "i", "value": {"intValue": "3"}},
            {"key": "d", "value": {"doubleValue": "NaN"}},
            {"key": "l", "value": {"arrayValue": {"values": [{"boolValue": True}, {}]}}},
            {"key": "o", "value": {"kvlistValue": {"values": [{"key": "a", "value": {"doubleValue": 0.5}}]}}},
        ],
        "events": [{"name": "e", "timeUnixNano": str(START), "attributes": []}],
        "links": [{"traceId": encode("ab" * 16), "spanId": encode("cd" * 8)}],
        **more,
    }
    scope = {"scope": {"name": "lib", "version": "1"}, "spans": [span]}
    resource = {"attributes": [{"key": "release_bundle", "value": {"stringValue": "b"}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}


def read(path: Path, **limits: int) -> tuple[list[ImportedTrace], list[ImportReject]]:
    found = list(read_parts(path, Limits(**limits) if limits else None))
    return [one.trace for one in found if isinstance(one, Part)], [
        one for one in found if isinstance(one, ImportReject)
    ]


def write(folder: Path, *documents: object, name: str = "x.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in documents), encoding="utf-8")
    return path


def test_all_versions_of_mlflows_json_say_the_same(tmp_path):
    traces, rejects = read(write(tmp_path, v3(), v350(), v2()))
    assert rejects == []
    assert traces[0] == traces[1] == traces[2]
    trace = traces[0]
    assert (trace.trace_id, trace.timestamp_ms, trace.duration_ms) == (f"tr-{TRACE}", 1_774_000_000_123, 1500)
    assert (trace.tags, trace.metadata) == ({"release_bundle": "b"}, {"m": "1"})
    assert trace.spans[0].attributes == {"mlflow.spanInputs": {"message": "hi"}, "n": 3}


def test_ids_in_hexadecimal_and_base64_are_the_same(tmp_path):
    traces, rejects = read(write(tmp_path, otlp(), otlp(b64)))
    assert rejects == []
    assert traces[0] == traces[1]
    span = traces[0].spans[0]
    assert (span.span_id, span.status, span.status_message, span.end_ns) == (SPAN, "ERROR", "late", START + 1_000)
    expected = {"s": "x", "i": 3, "d": "NaN", "l": [True, None], "o": {"a": 0.5}, "resource.release_bundle": "b"}
    assert span.attributes == expected | {"span.kind": "client", "otel.scope.name": "lib", "otel.scope.version": "1"}


def test_json_lines_one_document_a_list_and_gzip_are_told_apart(tmp_path):
    lines = read(write(tmp_path, v3(), otlp()))[0]
    document = tmp_path / "document.json"
    document.write_text(json.dumps([v3(), otlp()], indent=2), encoding="utf-8")
    packed = tmp_path / "packed.bin"
    packed.write_bytes(gzip.compress((tmp_path / "x.jsonl").read_bytes()))
    single = tmp_path / "single.json"
    single.write_text("\ufeff" + json.dumps(otlp(), indent=2), encoding="utf-8")
    assert read(document)[0] == read(packed)[0] == lines
    assert read(single)[0] == lines[1:]


def test_a_row_of_a_table_of_traces_is_the_trace_in_it(tmp_path):
    row = {"trace_id": f"tr-{TRACE}", "trace": json.dumps(v3()), "state": "OK"}
    assert read(write(tmp_path, row)) == read(write(tmp_path, v3()))


HOSTILE: dict[str, tuple[object, str]] = {
    "no JSON": ("{nope", "not JSON"),
    "a number": ("5", "neither an MLflow trace nor an OTLP request"),
    "another object": ({"hello": 1}, "neither an MLflow trace nor an OTLP request"),
    "deep": ("[" * 100_000, "the JSON is nested too deep"),
    "no id": ({"info": {}, "data": {}}, "trace_id is not a text"),
    "spans are a text": ({"info": info(), "data": {"spans": "x"}}, "spans is not a list"),
    "odd span id": (v3(span_id="zz"), "span_id is not an id of 8 bytes in hexadecimal or base64"),
    "zero span id": (v3(span_id=b64("0" * 16)), "span_id is zero"),
    "negative time": (v3(start_time_unix_nano=-1), "start of a span is not a time since the epoch"),
    "time beyond 64 bits": (v3(end_time_unix_nano=2**63), "end of a span is not a time since the epoch"),
    "time is true": (v3(start_time_unix_nano=True), "start of a span is not a time since the epoch"),
    "huge tag": ({"info": info(tags={"x": "y" * 8_001}), "data": {}}, "a value of tags is longer than 8000 characters"),
    "unknown state": ({"info": info(state="GREAT"), "data": {}}, "state is none that MLflow knows"),
    "bad OTLP": ({"resourceSpans": 3}, "resourceSpans is not a list"),
    "bad OTLP value": (
        otlp(attributes=[{"key": "a", "value": {"intValue": "x"}}]),
        "an intValue of a span is not an integer",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_bad_line_is_rejected_with_its_number_and_reason_and_stops_no_other(tmp_path, kind):
    line, reason = HOSTILE[kind]
    traces, rejects = read(write(tmp_path, v3(), line, otlp()))
    assert len(traces) == 2
    assert rejects == [ImportReject(line_number=2, reason=reason)]


def test_one_bad_span_of_a_request_is_rejected_alone(tmp_path):
    request = otlp()
    spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"]
    spans.append({**spans[0], "spanId": "short"})
    traces, rejects = read(write(tmp_path, request))
    assert len(traces[0].spans) == 1
    assert [one.reason for one in rejects] == ["spanId is not an id of 8 bytes in hexadecimal or base64"]


def test_a_reason_repeats_nothing_of_the_line(tmp_path):
    secret = "jane@example.invalid"
    lines = [{"info": {"trace_id": secret, "state": secret}, "data": {}}, v3(span_id=secret), f"{{{secret}"]
    _, rejects = read(write(tmp_path, *lines))
    assert len(rejects) == 3
    assert not any(secret in one.reason for one in rejects)


def test_a_line_over_the_limit_is_passed_over_without_being_held(tmp_path):
    path = tmp_path / "x.jsonl"
    with path.open("w") as file:
        file.write(json.dumps(v3()) + "\n")
        for _ in range(32):
            file.write("x" * (1 << 20))
        file.write("\n" + json.dumps(otlp()) + "\n")
    tracemalloc.start()
    traces, rejects = read(path, line=64_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(traces) == 2
    assert rejects == [ImportReject(line_number=2, reason="the line is longer than 64,000 bytes")]
    assert peak < 12 << 20


def test_memory_does_not_grow_with_the_file(tmp_path):
    line = json.dumps(v3(name="n" * 2_000)) + "\n"
    peaks = []
    for count in (200, 2_000):
        path = tmp_path / "x.jsonl"
        path.write_text(line * count)
        tracemalloc.start()
        assert sum(isinstance(one, Part) for one in read_parts(path)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + (1 << 20)


def test_a_zip_bomb_is_refused(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"\n" * (32 << 20)))
    with pytest.raises(ImportFileError, match=r"bomb\.gz grows to more than"):
        read(path, harmless=1 << 20)


def test_a_cut_gzip_file_gives_what_came_before_the_cut(tmp_path):
    path = tmp_path / "cut.gz"
    lines = "".join(
        json.dumps(v3(name=f"{number}-{base64.b64encode(bytes([number]) * 9).decode()}")) + "\n"
        for number in range(200)
    )
    path.write_bytes(gzip.compress(lines.encode())[:-2_00])
    traces, rejects = read(path)
    assert 0 < len(traces) <= 200
    assert "damaged or cut" in rejects[-1].reason


@pytest.mark.parametrize("indent", [2, None])
def test_a_document_over_the_limit_says_what_to_do(tmp_path, indent):
    path = tmp_path / "big.json"
    path.write_text(json.dumps(otlp(), indent=indent))
    with pytest.raises(ImportFileError, match=r"one JSON document of more than 100 bytes.*write it as JSON lines"):
        read(path, document=100, line=100)
    assert len(read(path, document=10_000, line=100)[0]) == 1


def test_an_empty_file_holds_nothing(tmp_path):
    assert read(write(tmp_path, "", " ")) == ([], [])


def test_ids_of_another_form_always_give_the_same_trace_id():
    assert trace_id_of(TRACE.upper()) == (f"tr-{TRACE}", None)
    first, original = trace_id_of("trace:/catalog.schema/42")
    assert (first, original) == (trace_id_of("trace:/catalog.schema/42")[0], "trace:/catalog.schema/42")
    assert len(first) == 35
    assert trace_id_of("other")[0] != first


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=6), children, max_size=3),
    max_leaves=6,
)


@settings(max_examples=examples(150), deadline=None)
@given(st.sampled_from(["v3", "v2", "otlp", "info", "assessment"]), st.data())
def test_any_field_may_be_any_json(tmp_path_factory, form, data):
    document = {"v3": v3, "v2": v2, "otlp": otlp, "info": v3, "assessment": v3}[form]()
    if form == "info":
        target = document["info"]
    elif form == "otlp":
        target = document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    elif form == "assessment":
        target = {
            "assessment_name": "a",
            "source": {"source_type": "HUMAN"},
            "create_time": 5,
            "feedback": {"value": 1},
        }
        document["info"]["assessments"] = [target]
    else:
        target = document["data"]["spans"][0]
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(JSON)
    path = tmp_path_factory.mktemp("any") / "x.jsonl"
    path.write_text(json.dumps(document))
    traces, rejects = read(path)
    assert len(traces) + len(rejects) >= 1
    for trace in traces:
        assert from_json(ImportedTrace, canonical_json(trace)) == trace
