"""Both trace sources over real MLflow servers, on SQLite and on PostgreSQL, filled with all kinds of traces."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest
import requests

from mangaassist_assets.tracing.contract.records import SpanEvent
from mangaassist_assets.tracing.ingestion.trace_sources import (
    AssessmentPosition,
    TracePosition,
    TraceSource,
    bundle_traces,
    fingerprint,
)
from resources.mlflow.traces.rest_source import RestTraceSource
from resources.mlflow.traces.sql_source import SqlTraceSource
from resources.mlflow.tracking import MlflowResource
from tests.support.filled_tracking import BUSY, BUSY_MS, START_MS, Filled, chat, fill, tracking_server, use

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    folder = tmp_path_factory.mktemp("tracking")
    import mlflow

    before = mlflow.get_tracking_uri()
    with contextlib.ExitStack() as running:
        if request.param == "sqlite":
            stand_ins = request.getfixturevalue("stand_ins")
            url, store_uri = stand_ins.urls["mlflow"], f"sqlite:///{stand_ins.home.mlflow / 'mlflow.db'}"
        else:
            store_uri = request.getfixturevalue("postgres_server").create_database()
            url = running.enter_context(tracking_server(store_uri, folder))
        yield fill(url, store_uri, folder)
    mlflow.set_tracking_uri(before)


def pages(source: TraceSource, size: int, *, headers: bool = False) -> list[Any]:
    """Read everything in pages of a size."""
    read = source.headers_after if headers else source.traces_after
    position: TracePosition | None = None
    found: list[Any] = []
    while True:
        page = read(position, limit=size)
        assert len(page) <= size
        found += page
        if len(page) < size:
            return found
        reached = TracePosition(timestamp_ms=page[-1].timestamp_ms, trace_id=page[-1].trace_id)
        assert position is None or reached > position
        position = reached


class TestBothSources:
    """One store, two ways, the same answers."""

    def test_all_kinds_of_traces_are_equal_and_in_order(self, filled):
        by_sql, by_rest = (source.traces_after(None, limit=10_000) for source in filled.sources())
        assert by_sql == by_rest
        keys = [(trace.timestamp_ms, trace.trace_id) for trace in by_sql]
        assert keys == sorted(set(keys))
        assert {trace.trace_id for trace in by_sql} >= set(filled.ids.values()) - {filled.ids["deleted"]}
        assert len(by_sql) == BUSY + 20 + len(filled.ids) - 1
        assert {trace.state for trace in by_sql} == {"OK", "ERROR", "IN_PROGRESS"}

    @pytest.mark.parametrize(("sql_size", "rest_size"), [(1, 9), (7, 64)])
    def test_pages_of_any_size_join_to_the_whole(self, filled, sql_size, rest_size):
        whole = [trace.trace_id for trace in filled.sql.traces_after(None, limit=10_000)]
        assert [trace.trace_id for trace in pages(filled.sql, sql_size)] == whole
        assert [header.trace_id for header in pages(filled.rest, rest_size, headers=True)] == whole

    def test_pages_with_spans_by_rest_join_to_the_whole(self, filled):
        assert pages(filled.rest, 40) == filled.sql.traces_after(None, limit=10_000)

    def test_headers_are_those_of_the_traces(self, filled):
        traces = filled.sql.traces_after(None, limit=10_000)
        expected = [(one.trace_id, one.timestamp_ms, one.state, fingerprint(one)) for one in traces]
        for source in filled.sources():
            headers = source.headers_after(None, limit=10_000)
            assert [(one.trace_id, one.timestamp_ms, one.state, one.fingerprint) for one in headers] == expected
            assert source.headers_by_id([one.trace_id for one in reversed(traces)]) == headers

    def test_headers_of_one_bundle_are_those_with_its_tag(self, filled):
        traces = filled.sql.traces_after(None, limit=10_000)
        wanted = [one.trace_id for one in traces if one.tags.get("release_bundle") == "b3"]
        after = TracePosition(timestamp_ms=BUSY_MS, trace_id=wanted[10])
        for source in filled.sources():
            assert [one.trace_id for one in source.headers_after(None, limit=500, release_bundle="b3")] == wanted
            part = source.headers_after(after, limit=20, release_bundle="b3")
            assert [one.trace_id for one in part] == wanted[11:31]
            assert source.headers_after(None, limit=5, release_bundle="b") == []

    def test_ids_that_are_no_traces_of_the_experiment_are_left_out(self, filled):
        client = use(filled.url)
        other = MlflowResource(tracking_uri=filled.url, traces_experiment=f"other-{uuid4().hex[:8]}")
        sink = other.trace_sink()
        stranger = chat(int(uuid4().hex[:8], 16) + 0x100000, START_MS)
        sink.write(stranger)
        sink.flush()
        asked = [stranger.trace_id, filled.ids["deleted"], "tr-nobody", "x' OR '1'='1", filled.ids["ok"]]
        for source in filled.sources():
            assert [trace.trace_id for trace in source.traces_by_id(asked)] == [filled.ids["ok"]]
            assert [header.trace_id for header in source.headers_by_id(asked)] == [filled.ids["ok"]]
        client.delete_traces(other.ensure_experiment(other.traces_experiment), trace_ids=[stranger.trace_id])


class TestKinds:
    """What each kind of trace says."""

    def test_a_trace_of_ours_comes_back_as_it_was_written(self, filled):
        read, written = filled.one("event"), chat(0x17, START_MS + 57)
        spans = [replace(span, attributes={}, span_type=None) for span in read.spans]
        assert spans == [replace(span, attributes={}) for span in written.spans]
        assert read.spans[1].attributes == written.spans[1].attributes
        assert (read.tags, read.user_key, read.duration_ms) == (written.tags, written.user_key, 12)
        assert read.metadata["mlflow.trace.session"] == "s23"
        assert [span.span_type for span in read.spans] == ["CHAIN", "RERANKER"]

    def test_changed_tags_are_read(self, filled):
        assert filled.one("ok").tags == {"release_bundle": "b1", "user_feedback": "thumbs_down"}

    def test_an_exception_is_an_event_of_its_span(self, filled):
        (_, child) = filled.one("exception").spans
        (event,) = child.events
        assert isinstance(event, SpanEvent)
        assert (event.name, event.attributes["exception.message"]) == ("exception", "no stock")
        assert (child.status, child.outputs, child.span_type) == ("ERROR", [1.5, 2], "LLM")
        assert child.attributes["deep"] == {"a": [1, {"b": None}]}

    @pytest.mark.parametrize(("kind", "spans"), [("open", 1), ("unfinished", 1), ("just begun", 0)])
    def test_what_is_there_of_a_trace_in_progress_is_read(self, filled, kind, spans):
        trace = filled.one(kind)
        assert (trace.state, len(trace.spans)) == ("IN_PROGRESS", spans)

    def test_spans_in_artifacts_are_those_of_the_store(self, filled):
        assert filled.one("artifacts").spans == filled.one("exception").spans
        assert [span.inputs for span in filled.one("older artifacts").spans] == [{"message": "hi"}]
        assert json.loads(filled.one("artifacts").metadata["mlflow.trace.tokenUsage"]) == {"total_tokens": 5}

    def test_archived_spans_are_those_that_were_stored(self, filled):
        archived, stored = filled.one("archived"), filled.one("event")
        assert [span.attributes["scores"] for span in archived.spans] == [[0.5, 1.0], [0.5, 1.0]]
        assert [span.inputs for span in archived.spans] == [span.inputs for span in stored.spans]

    @pytest.mark.parametrize(
        "kind", ["damaged", "missing artifacts", "damaged artifacts", "no spans in artifacts", "lost archive"]
    )
    def test_a_trace_whose_spans_cannot_be_read_is_whole_but_for_them(self, filled, kind, caplog):
        trace = filled.one(kind)
        assert (trace.spans, trace.state) == ((), "OK")
        assert trace.tags["release_bundle"]
        said = [record.getMessage() for record in caplog.records if filled.ids[kind] in record.getMessage()]
        assert any("is read without spans" in line for line in said)
        assert not any("ユーロ" in line for line in said)

    def test_assessments_are_those_that_are_valid_in_the_order_of_their_change(self, filled):
        read = {one.name: one for one in filled.one("ok").assessments}
        assert {name: one.value for name, one in read.items()} == {
            "whole": 1, "half": 0.5, "float": 2, "yes": True, "text": "良い", "list": ["a", 1, 2], "map": {"a": 1},
            "failed": None, "expected_intent": "shipping_cost", "relevant_documents": ["a.md", "b.md"],
            "deep": {"a": [1, 2.5, {"b": None}]}, "overridden": "right",
        }  # fmt: skip
        assert (read["deep"].kind, read["overridden"].kind) == ("expectation", "feedback")
        assert (read["overridden"].source_type, read["overridden"].source_id) == ("HUMAN", "reviewer-1")
        moments = [one.timestamp_ms for one in filled.one("ok").assessments]
        assert moments == sorted(moments)


class TestAssessed:
    """What was assessed is found without looking at what was not."""

    def test_what_is_assessed_later_comes_after_the_position(self, filled):
        import mlflow

        use(filled.url)
        position: AssessmentPosition | None = None
        seen: set[str] = set()
        at_end = False
        while not at_end:
            found = filled.sql.assessed_after(position, limit=3)
            assert position is None or found.position is None or found.position >= position
            seen |= set(found.trace_ids)
            position, at_end = found.position, found.at_end
        assert seen == {filled.ids["ok"]}
        mlflow.log_feedback(trace_id=filled.ids["event"], name="user_feedback", value="thumbs_up")
        later = filled.sql.assessed_after(position, limit=3)
        assert (later.trace_ids, later.at_end) == ((filled.ids["event"],), True)
        assert filled.sql.assessed_after(later.position, limit=3).trace_ids == ()
        assert filled.rest.assessed_after(None, limit=3) is None

    def test_a_late_tag_or_assessment_changes_the_fingerprint_in_both(self, filled):
        import mlflow

        client = use(filled.url)
        target = filled.ids["error"]

        def digests() -> set[str]:
            return {source.headers_by_id([target])[0].fingerprint for source in filled.sources()}

        before = digests()
        client.set_trace_tag(target, "user_feedback", "thumbs_up")
        tagged = digests()
        mlflow.log_feedback(trace_id=target, name="score", value=[1, 2.5])
        assessed = digests()
        assert [len(one) for one in (before, tagged, assessed)] == [1, 1, 1]
        assert len(before | tagged | assessed) == 3


class TestBundles:
    """Release bundles, found by both readers."""

    def test_both_readers_see_the_same_bundles(self, filled):
        rest = MlflowResource(tracking_uri=filled.url, traces_experiment=filled.experiment)
        sql = MlflowResource(
            tracking_uri=filled.url,
            traces_experiment=filled.experiment,
            trace_reader="sql",
            tracking_store_uri=filled.store_uri.replace("postgresql+psycopg2://", "postgresql://"),
        )
        for since, known in ((0, ()), (BUSY_MS, ()), (BUSY_MS - 1, ("b1",)), (BUSY_MS + 9, ("b3", "b'4"))):
            assert sql.release_bundles_since(since, known=known) == rest.release_bundles_since(since, known=known)
        assert sql.release_bundles_since(BUSY_MS - 1, known=["b1"]).bundles == ("b'4", "b1", "b2", "b3")
        many = [f"known-{number}" for number in range(2_000)]
        assert sql.release_bundles_since(BUSY_MS + 9, known=[*many, "b1", "b3", "b'4"]).bundles == ("b2",)
        headers = {
            bundle: filled.sql.headers_after(None, limit=1, release_bundle=bundle) for bundle in ("b1", "b2", "b")
        }
        first = {bundle: found[0].timestamp_ms if found else None for bundle, found in headers.items()}
        assert {bundle: sql.bundle_start_ms(bundle) for bundle in first} == first
        assert first["b1"] is not None
        assert first["b"] is None
        assert isinstance(sql.trace_source(), SqlTraceSource)
        assert isinstance(rest.trace_source(), RestTraceSource)
        assert sql.trace_source().headers_after(None, limit=3) == rest.trace_source().headers_after(None, limit=3)

    def test_a_bundle_is_read_alike_by_both_readers_page_by_page(self, filled):
        every = filled.sql.traces_after(None, limit=10_000)
        expected = [one for one in every if one.tags.get("release_bundle") == "b3"]
        assert len(expected) > 7
        for source in (filled.sql, filled.rest):
            assert list(bundle_traces(source, "b3", page=7)) == expected


class OlderServer(BaseHTTPRequestHandler):
    """Hands requests on to a real server, but knows no batches, as servers before them."""

    def _hand_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "/batchGet" in self.path:
            answer, status = b'{"error_code": "ENDPOINT_NOT_FOUND"}', 404
        else:
            got = requests.request(
                self.command,
                f"{self.server.behind}{self.path}",
                data=body or None,
                headers={"Content-Type": "application/json"},
                timeout=30,
            )
            answer, status = got.content, got.status_code
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = _hand_on  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""


def test_a_server_that_knows_no_batches_is_read_trace_by_trace(filled):
    with ThreadingHTTPServer(("127.0.0.1", 0), OlderServer) as server:
        server.behind = filled.url
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            older = RestTraceSource(use(f"http://127.0.0.1:{server.server_port}"), filled.experiment_id)
            asked = [filled.ids[kind] for kind in ("event", "exception", "artifacts", "archived")]
            assert older.traces_by_id(asked) == filled.sql.traces_by_id(asked)
        finally:
            server.shutdown()
            thread.join()
            use(filled.url)
