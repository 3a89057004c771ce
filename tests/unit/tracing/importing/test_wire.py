"""The wire forms of imported and of traced records."""

from __future__ import annotations

import json

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from mangaassist_assets.tracing.contract.records import SpanEvent, SpanRecord, TraceRecord
from mangaassist_assets.tracing.importing.import_run import SpansToWrite
from mangaassist_assets.tracing.importing.imported_trace import ImportedLink, ImportedSpan
from mangaassist_assets.tracing.importing.wire import moment, spans_request
from mangaassist_assets.tracing.otlp import any_value, otlp_request

TRACE = "tr-" + "0af7651916cd43dd8448eb211c80319c"


def test_any_json_has_an_otlp_form():
    assert any_value({"a": [None, True, 3, 0.5, "x"], "b": {}}) == {
        "kvlistValue": {
            "values": [
                {
                    "key": "a",
                    "value": {
                        "arrayValue": {
                            "values": [
                                {},
                                {"boolValue": True},
                                {"intValue": "3"},
                                {"doubleValue": 0.5},
                                {"stringValue": "x"},
                            ]
                        }
                    },
                },
                {"key": "b", "value": {"kvlistValue": {"values": []}}},
            ]
        }
    }


def test_a_request_is_valid_otlp_with_an_open_end_as_zero():
    span = ImportedSpan(
        span_id="b7ad6b7169203331",
        parent_id=None,
        name="root",
        start_ns=5,
        end_ns=None,
        attributes={"mlflow.spanInputs": {"message": "注文"}},
        events=(SpanEvent(name="e", timestamp_ns=6, attributes={"k": [1]}),),
        links=(ImportedLink(trace_id="ab" * 16, span_id="cd" * 8, attributes={"why": None}),),
    )
    body = json.loads(spans_request([SpansToWrite(trace_id=TRACE, spans=[span], tags={"t": "v"})]))
    sent = body["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert (sent["endTimeUnixNano"], sent["traceId"]) == ("0", TRACE.removeprefix("tr-"))
    assert {"key": "mlflow.traceTag.t", "value": {"stringValue": "v"}} in sent["attributes"]
    parsed = ParseDict(body, ExportTraceServiceRequest()).resource_spans[0].scope_spans[0].spans[0]
    assert parsed.links[0].trace_id.hex() == "ab" * 16
    assert parsed.links[0].span_id.hex() == "cd" * 8
    assert parsed.events[0].time_unix_nano == 6


def test_a_traced_record_carries_its_events_type_and_mlflows_own_attributes():
    usage = {"input_tokens": 3, "output_tokens": 1}
    span = SpanRecord(
        span_id="b7ad6b7169203331",
        parent_id=None,
        name="BedrockRuntime.converse",
        start_ns=5,
        end_ns=6,
        span_type="CHAT_MODEL",
        attributes={"mlflow.chat.tokenUsage": usage},
        events=(SpanEvent(name="exception", timestamp_ns=6, attributes={"exception.message": "boom"}),),
    )
    trace = TraceRecord(trace_id=TRACE, timestamp_ms=1, duration_ms=1, state="OK", tags={}, spans=(span,))
    sent = json.loads(otlp_request([trace]))["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    attributes = {one["key"]: one["value"] for one in sent["attributes"]}
    assert attributes["mlflow.spanType"] == {"stringValue": "CHAT_MODEL"}
    assert attributes["mlflow.chat.tokenUsage"] == any_value(usage)
    assert sent["events"][0]["name"] == "exception"


@pytest.mark.parametrize(
    ("milliseconds", "text"), [(0, "1970-01-01T00:00:00.000Z"), (1_774_000_000_123, "2026-03-20T09:46:40.123Z")]
)
def test_times_are_written_as_the_server_reads_them(milliseconds, text):
    assert moment(milliseconds) == text
