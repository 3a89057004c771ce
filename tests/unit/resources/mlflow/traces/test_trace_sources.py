"""What two readers must agree on: spans decoded from store, wire and by MLflow; stores that are refused."""

from __future__ import annotations

import base64
import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mangaassist_assets.tracing.contract.records import SpanRecord
from mangaassist_assets.tracing.ingestion.trace_sources import TracePosition
from resources.mlflow.traces.records import METADATA_LIMIT, TAG_VALUE_LIMIT, assessment_record, span_record
from resources.mlflow.traces.span_json import SpanContentError, stored_span, wire_span
from resources.mlflow.traces.span_locations import SpansUnavailableError, gather, has_spans_elsewhere
from resources.mlflow.traces.sql_source import SqlTraceSource
from resources.mlflow.traces.store import TrackingStore, TrackingStoreError
from resources.mlflow.traces.wire import TraceApi, TraceServerError, assessments_of, duration_of, timestamp_of
from resources.mlflow.tracking import MlflowResource, TrackingUriError
from tests.support.examples import examples

SPAN_ID, PARENT_ID = "00000000000003e8", "00000000000003e9"
REQUEST_ID = "tr-" + "1" * 32


def encoded(identifier: str) -> str:
    return base64.b64encode(bytes.fromhex(identifier)).decode()


def content(**changes: Any) -> dict[str, Any]:
    """A span as MLflow 3.17 stores it."""
    return {
        "trace_id": encoded("1" * 32),
        "span_id": encoded(SPAN_ID),
        "parent_span_id": encoded(PARENT_ID),
        "name": "chat_turn",
        "start_time_unix_nano": 1_774_000_000_000_000_000,
        "end_time_unix_nano": 1_774_000_000_030_000_000,
        "events": [],
        "status": {"code": "STATUS_CODE_OK", "message": ""},
        "attributes": {"mlflow.traceRequestId": json.dumps(REQUEST_ID), "mlflow.spanType": '"CHAIN"'},
        "links": [],
    } | changes


def by_mlflow(data: dict[str, Any]) -> SpanRecord:
    from mlflow.entities import Span

    return span_record(Span.from_dict(data))


def by_wire(data: dict[str, Any]) -> SpanRecord:
    """Decode what the REST interface would send of a stored span."""
    from mlflow.entities import Span
    from mlflow.protos.service_pb2 import Trace
    from mlflow.utils.proto_json_utils import message_to_json

    sent = json.loads(message_to_json(Trace(spans=[Span.from_dict(data).to_otel_proto()]), pretty=False))
    return wire_span(sent["spans"][0])


texts = st.text(st.characters(codec="utf-8"), max_size=12)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
plain = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
# What MLflow stores is JSON; instrumentation of others may put text and values of its own there.
stored_values = values.map(json.dumps) | texts | st.booleans() | st.integers(-9, 9) | st.just("[1") | st.just("2]")


class TestSpans:
    """One span, three ways to it, one record."""

    @settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        attributes=st.dictionaries(texts, stored_values, max_size=5),
        inputs=values,
        event=st.dictionaries(texts, plain | st.lists(texts, max_size=3), max_size=3),
        status=st.sampled_from(["STATUS_CODE_OK", "STATUS_CODE_ERROR", "STATUS_CODE_UNSET"]),
        message=texts,
        parent=st.sampled_from([None, encoded(PARENT_ID)]),
        end=st.sampled_from([None, 1_774_000_000_000_000_001]),
    )
    def test_store_wire_and_mlflow_give_one_record(self, attributes, inputs, event, status, message, parent, end):
        data = content(
            attributes=content()["attributes"] | attributes | {"mlflow.spanInputs": json.dumps(inputs)},
            events=[{"name": "exception", "time_unix_nano": 17, "attributes": event}],
            status={"code": status, "message": message},
            parent_span_id=parent,
            end_time_unix_nano=end,
        )
        expected = by_mlflow(data)
        assert stored_span(json.dumps(data, ensure_ascii=False)) == expected
        assert stored_span(json.dumps(data)) == expected
        assert by_wire(data) == expected

    def test_fields_are_taken_out_of_the_attributes_and_mlflows_other_ones_stay(self):
        kept = {"mlflow.chat.tokenUsage": {"input_tokens": 3}, "n": 1.5}
        attributes = content()["attributes"] | {key: json.dumps(value) for key, value in kept.items()}
        span = stored_span(json.dumps(content(attributes=attributes | {"mlflow.spanOutputs": '{"answer": "hi"}'})))
        assert (span.span_id, span.parent_id, span.span_type) == (SPAN_ID, PARENT_ID, "CHAIN")
        assert (span.attributes, span.inputs, span.outputs) == (kept, None, {"answer": "hi"})

    def test_text_that_is_no_json_never_melts_with_its_neighbour(self):
        for odd in ({"a": "[1", "b": "2]", "c": "3,4,5"}, {"a": "", "b": '"}', "c": "openai", "d": "1,2"}):
            span = stored_span(json.dumps(content(attributes=content()["attributes"] | odd)))
            assert span.attributes == {key: value or None for key, value in odd.items()}

    def test_numbers_and_text_that_orjson_refuses_are_read_as_mlflow_reads_them(self):
        attributes = content()["attributes"] | {"score": "Infinity", "text": '"\\ud83d half"'}
        span = stored_span(json.dumps(content(attributes=attributes)))
        assert span.attributes == {"score": float("inf"), "text": "? half"}
        assert by_wire(content(attributes=attributes)).attributes == span.attributes

    @pytest.mark.parametrize("stored_type", [None, '"UNKNOWN"'])
    def test_the_type_of_other_conventions_is_named_as_mlflow_names_it(self, stored_type):
        attributes = content()["attributes"] | {"mlflow.spanType": stored_type, "gen_ai.operation.name": '"chat"'}
        assert stored_span(json.dumps(content(attributes=attributes))).span_type == "CHAT_MODEL"

    def test_forms_of_older_servers_are_read(self):
        mlflow_3_5 = content(
            trace_id=REQUEST_ID, span_id=SPAN_ID, parent_span_id=None, status={"code": "OK", "message": ""}
        )
        mlflow_2 = {
            "context": {"trace_id": "0x" + "1" * 32, "span_id": "0x" + SPAN_ID},
            "parent_id": None,
            "name": "chat_turn",
            "start_time": 1_774_000_000_000_000_000,
            "end_time": 1_774_000_000_030_000_000,
            "status_code": "OK",
            "status_message": "",
            "attributes": content()["attributes"],
            "events": [],
        }
        newest = stored_span(json.dumps(content(parent_span_id=None)))
        assert [stored_span(json.dumps(one)) for one in (mlflow_3_5, mlflow_2)] == [newest, newest]

    @pytest.mark.parametrize(
        "damaged",
        [
            '{"name":',
            "7",
            "[]",
            "null",
            json.dumps(content(attributes={})),
            json.dumps(content(span_id=None)),
            json.dumps(content(start_time_unix_nano="soon")),
            json.dumps(content(status="OK")),
            "[" * 100_000,
        ],
    )
    def test_what_is_no_span_is_one_error(self, damaged):
        with pytest.raises(SpanContentError):
            stored_span(damaged)

    @pytest.mark.parametrize("damaged", [{}, {"span_id": "%"}, {"span_id": encoded(SPAN_ID), "attributes": [7]}])
    def test_what_is_no_span_on_the_wire_is_one_error(self, damaged):
        with pytest.raises(SpanContentError):
            wire_span(damaged)

    def test_the_limits_are_those_of_mlflow(self):
        from mlflow.tracing import constant

        assert TAG_VALUE_LIMIT == constant.MAX_CHARS_IN_TRACE_INFO_TAGS_VALUE
        assert METADATA_LIMIT == constant.MAX_CHARS_IN_TRACE_INFO_METADATA


class TestLocations:
    """Where spans lie, and what happens when they do not."""

    def test_a_trace_just_begun_has_spans_nowhere(self):
        assert not has_spans_elsewhere({}, "IN_PROGRESS")
        assert has_spans_elsewhere({}, "OK")
        assert has_spans_elsewhere({"mlflow.trace.spansLocation": "ARCHIVE_REPO"}, "OK")
        assert not has_spans_elsewhere({"mlflow.trace.spansLocation": "TRACKING_STORE"}, "OK")

    def test_one_trace_without_spans_is_logged_and_stops_no_other(self, caplog):
        span = stored_span(json.dumps(content()))

        def load(trace_id: str) -> tuple[SpanRecord, ...]:
            if trace_id == "gone":
                raise SpansUnavailableError("the file is missing")
            return (span,)

        assert gather(["a", "gone", "b"], load) == {"a": (span,), "gone": (), "b": (span,)}
        assert [record.getMessage() for record in caplog.records] == [
            "trace gone is read without spans: the file is missing"
        ]


class TestAssessments:
    """Values that came as JSON text, or as doubles on the wire, are one value."""

    @given(value=values)
    def test_whole_numbers_are_integers_wherever_they_came_from(self, value):
        def on_the_wire(one: Any) -> Any:
            if isinstance(one, list):
                return [on_the_wire(item) for item in one]
            if isinstance(one, dict):
                return {key: on_the_wire(item) for key, item in one.items()}
            return float(one) if isinstance(one, int) and not isinstance(one, bool) else one

        def made(held: object) -> str:
            record = assessment_record(
                name="n", kind="feedback", value=held, source_type="HUMAN", source_id=None, timestamp_ms=1
            )
            assert record is not None
            return json.dumps(record.value)

        assert made(value) == made(on_the_wire(value))

    def test_the_wire_is_read_without_what_was_overridden_and_without_issues(self):
        def one(identifier: str, moment: str, **more: Any) -> dict[str, Any]:
            source = {"source_type": "AI_JUDGE", "source_id": "judge"}
            return {
                "assessment_id": identifier, "assessment_name": identifier, "source": source, "last_update_time": moment
            } | more  # fmt: skip

        listed = {"serialized_format": "JSON_FORMAT", "value": "[1.0, 2]"}
        read = assessments_of(
            {
                "assessments": [
                    one("late", "2026-03-20T09:46:41Z", expectation={"serialized_value": listed}),
                    one("early", "2026-03-20T09:46:40.250Z", feedback={"value": None}),
                    one("old", "2026-03-20T09:46:40Z", feedback={"value": 1.0}, valid=False),
                    one("issue", "2026-03-20T09:46:40Z", issue={"issue_name": "slow"}),
                    one("bad", "2026-03-20T09:46:40Z", expectation={"serialized_value": {"value": "[1"}}),
                ]
            }
        )
        assert [(item.name, item.kind, item.value, item.timestamp_ms) for item in read] == [
            ("early", "feedback", None, 1_774_000_000_250),
            ("late", "expectation", [1, 2], 1_774_000_001_000),
        ]
        assert {item.source_type for item in read} == {"LLM_JUDGE"}

    @given(milliseconds=st.integers(0, 4_102_444_800_000))
    def test_times_keep_every_millisecond(self, milliseconds):
        from mlflow.utils.proto_json_utils import milliseconds_to_proto_duration, milliseconds_to_proto_timestamp

        sent = {
            "request_time": milliseconds_to_proto_timestamp(milliseconds),
            "execution_duration": milliseconds_to_proto_duration(milliseconds),
        }
        assert (timestamp_of(sent), duration_of(sent)) == (milliseconds, milliseconds)
        assert duration_of({}) == 0


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of an SQLite file with MLflow's tables and one experiment, `chat`, of id 7."""
    from mlflow.store.tracking.dbmodels.models import Base

    folder = tmp_path_factory.mktemp("store # of 100% ?")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    engine = sa.create_engine(uri)
    with engine.begin() as connection:
        for table in Base.metadata.tables.values():
            connection.execute(sa.schema.CreateTable(table))
        connection.execute(sa.text("INSERT INTO experiments (experiment_id, name) VALUES (7, 'chat')"))
    engine.dispose()
    return uri


class TestStore:
    """Stores are read and never written, and wrong ones are named."""

    def test_nothing_can_be_written(self, empty_store):
        with (
            pytest.raises(TrackingStoreError, match="readonly"),
            TrackingStore(empty_store).transaction() as connection,
        ):
            connection.execute(sa.text("DELETE FROM trace_info"))

    def test_a_transaction_sees_one_state(self, empty_store):
        with TrackingStore(empty_store).transaction() as connection:
            before = connection.execute(sa.text("SELECT count(*) FROM experiment_tags")).scalar()
            with sqlite3.connect(sa.make_url(empty_store).database or "", timeout=0.1) as writer:
                writer.execute("INSERT INTO experiment_tags (key, value, experiment_id) VALUES ('k', 'v', 7)")
                # The reader keeps its snapshot by holding the writer up.
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    writer.commit()
                writer.rollback()
            assert connection.execute(sa.text("SELECT count(*) FROM experiment_tags")).scalar() == before

    def test_an_empty_experiment_has_nothing(self, empty_store):
        source = SqlTraceSource(TrackingStore(empty_store), "7", experiment_name="chat")
        assert source.traces_after(None, limit=5) == []
        assert source.headers_after(TracePosition(timestamp_ms=5), limit=5, release_bundle="b") == []
        assert source.traces_by_id(["tr-1"]) == source.headers_by_id([]) == []
        assert source.assessed_after(None, limit=5).at_end
        assert source.bundles_since(0, known=["b"]).bundles == ()

    @pytest.mark.parametrize(("experiment_id", "name"), [("8", "chat"), ("7", "other")])
    def test_the_store_of_another_server_is_found_out(self, empty_store, experiment_id, name):
        source = SqlTraceSource(TrackingStore(empty_store), experiment_id, experiment_name=name)
        with pytest.raises(TrackingStoreError, match="store of another server"):
            source.traces_after(None, limit=1)

    def test_an_experiment_id_is_a_number(self, empty_store):
        with pytest.raises(TrackingStoreError, match="not a number"):
            SqlTraceSource(TrackingStore(empty_store), "7 OR 1=1")

    def test_a_schema_of_another_mlflow_is_named(self, tmp_path):
        path = tmp_path / "old.db"
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
            connection.execute("INSERT INTO alembic_version VALUES ('0a8213491aaa')")
            connection.execute("CREATE TABLE trace_info (request_id TEXT, timestamp_ms INTEGER)")
        with (
            pytest.raises(TrackingStoreError, match=r"MLflow 3\.17: experiments, .*0a8213491aaa.*mlflow db upgrade"),
            TrackingStore(f"sqlite:///{path}").transaction(),
        ):
            pass

    def test_a_file_that_is_no_database_is_named(self, tmp_path):
        path: Path = tmp_path / "text.db"
        path.write_text("no database at all, only text")
        with (
            pytest.raises(TrackingStoreError, match="cannot be opened"),
            TrackingStore(f"sqlite:///{path}").transaction(),
        ):
            pass

    def test_a_missing_file_is_not_made(self, tmp_path):
        path = tmp_path / "none.db"
        with (
            pytest.raises(TrackingStoreError, match="does not exist"),
            TrackingStore(f"sqlite:///{path}").transaction(),
        ):
            pass
        assert not path.exists()

    def test_a_database_that_does_not_answer_is_named_without_its_password(self):
        store = TrackingStore("postgresql://reader:secret@127.0.0.1:9/mlflow", timeout_s=2)
        with pytest.raises(TrackingStoreError, match="cannot be opened") as raised, store.transaction():
            pass
        assert "secret" not in str(raised.value)

    @pytest.mark.parametrize(
        ("uri", "said"),
        [
            ("mysql://host/db", "not from mysql"),
            ("sqlite://", "in memory"),
            ("sqlite:///:memory:", "in memory"),
            ("not a url", "no SQLAlchemy URL"),
        ],
    )
    def test_a_url_that_cannot_be_read_is_refused(self, uri, said):
        with pytest.raises(TrackingStoreError, match=said):
            TrackingStore(uri)


class TestConfiguration:
    """Which reader is taken."""

    def test_importing_the_readers_imports_no_heavy_library(self):
        names = ["traces.rest_source", "traces.sql_source", "traces.wire", "traces.store", "tracking"]
        code = (
            "import sys, dagster; before = set(sys.modules)\n"
            + "".join(f"import resources.mlflow.{name}\n" for name in names)
            + "heavy = {'boto3', 'mlflow', 'numpy', 'polars', 'requests', 'sqlalchemy.orm', 'psycopg2'}\n"
            "sys.exit(', '.join(sorted(heavy & (set(sys.modules) - before))) or 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    def test_sql_without_a_store_says_what_to_set(self):
        resource = MlflowResource(tracking_uri="http://127.0.0.1:9", trace_reader="sql")
        with pytest.raises(TrackingUriError, match="tracking_store_uri names no store"):
            resource._tracking_store()

    def test_rest_needs_a_server(self, tmp_path):
        import mlflow

        with pytest.raises(TraceServerError, match="trace_reader to sql"):
            TraceApi(mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}"))
