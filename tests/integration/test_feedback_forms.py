"""Feedback as MangaAssist sends it, over a real Kinesis onto real traces."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from mangaassist_assets.privacy import pseudonym
from mangaassist_assets.tracing.contract.names import Tag
from resources.feedback.feedback_stream import KinesisFeedbackResource
from resources.mlflow.tracking import MlflowResource
from resources.store import StoreResource
from tests.support.feedback_events import BUNDLE, KEY, chat_turn, materialize, new_stream, store_traces

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("stand_ins_environment")]

EMAIL = "jane.doe@example.invalid"


@pytest.fixture
def mlflow() -> MlflowResource:
    return MlflowResource(traces_experiment=f"traces-{uuid4().hex[:8]}")


@pytest.fixture
def stream() -> KinesisFeedbackResource:
    return new_stream()


@pytest.fixture
def store(tmp_path: Path) -> StoreResource:
    return StoreResource(root=str(tmp_path / "store"), cache_folder=str(tmp_path / "cache"))


def put(stream: KinesisFeedbackResource, **said: Any) -> None:
    """Publish as MangaAssist's own handler does: plain JSON, no schema of ours."""
    stream.aws.client("kinesis").put_record(
        StreamName=stream.stream_name, Data=json.dumps(said).encode(), PartitionKey="any"
    )


def new_ids(count: int) -> list[str]:
    return [uuid4().hex for _ in range(count)]


class TestMinimalForm:
    """Response id, trace id, thumb: what is missing comes from the trace, the stream and the content."""

    def test_response_id_bare_trace_id_and_thumb_reach_the_trace(self, stream, store, mlflow):
        ids = new_ids(6)
        store_traces(mlflow, *(chat_turn(f"tr-{one}", user=EMAIL) for one in ids[:5]))
        forms = (
            ids[0],
            ids[1].upper(),
            f"1-{ids[2][:8]}-{ids[2][8:]}",
            f"00-{ids[3]}-b7ad6b7169203331-01",
            base64.b64encode(bytes.fromhex(ids[4])).decode(),
            ids[5],
        )
        for number, form in enumerate(forms):
            put(stream, response_id=f"resp-{number}", trace_id=form, thumb="down")
            # The same bytes again, as a producer does that heard no answer.
            put(stream, response_id=f"resp-{number}", trace_id=form, thumb="down")
        put(stream, response_id="resp-9", trace_id=ids[0], thumb="perhaps")
        said = materialize(stream, store, mlflow)
        events, recorded = said["feedback_events"], said["recorded_feedback"]
        assert (events["dagster/row_count"], events["newly_rejected"], events["duplicates_dropped"]) == (5, 1, 5)
        assert (events["newly_joined"], events["waiting_for_a_trace"]) == (10, 2)
        put(stream, response_id="resp-0", trace_id=ids[0], thumb="up")
        put(stream, response_id="resp-0", trace_id=ids[0], thumb="down")
        assert materialize(stream, store, mlflow)["recorded_feedback"]["newly_recorded"] == 2
        assert (recorded["recorded"], recorded["tags_set"]) == (5, 5)
        traces = {trace.trace_id: trace for trace in mlflow.read_traces(BUNDLE)}
        assert {trace.tags[Tag.USER_FEEDBACK] for trace in traces.values()} == {"thumbs_down"}
        assert [len(traces[f"tr-{one}"].assessments) for one in ids[:5]] == [3, 1, 1, 1, 1]
        assert {one.source_id for trace in traces.values() for one in trace.assessments} == {pseudonym(EMAIL, KEY)}
        # The trace of the sixth comes late.
        store_traces(mlflow, chat_turn(f"tr-{ids[5]}"))
        assert materialize(stream, store, mlflow)["recorded_feedback"]["newly_recorded"] == 1

    def test_a_response_id_alone_leads_to_its_trace(self, stream, store, mlflow):
        ids = new_ids(4)
        named = [{}, {"response_id": "resp.1+a"}, {"request_id": "req/2"}, {"response_id": "twice"}]
        turns = [chat_turn(f"tr-{one}") for one in ids]
        store_traces(
            mlflow, *(replace(turn, tags={**turn.tags, **tags}) for turn, tags in zip(turns, named, strict=True))
        )
        mlflow.client().set_trace_tag(f"tr-{ids[0]}", "response_id", "twice")
        for response in ("resp.1+a", "respx1+a", "req/2", "twice", "it's none"):
            put(stream, response_id=response, thumbs_up=True)
        said = materialize(stream, store, mlflow)
        assert said["feedback_events"]["waiting_for_a_trace"] == 3
        traces = {trace.trace_id: trace.tags.get(Tag.USER_FEEDBACK) for trace in mlflow.read_traces(BUNDLE)}
        assert traces == {
            f"tr-{ids[0]}": None,
            f"tr-{ids[1]}": "thumbs_up",
            f"tr-{ids[2]}": "thumbs_up",
            f"tr-{ids[3]}": None,
        }

    def test_a_thumb_of_the_future_does_not_beat_a_later_one_and_no_address_is_kept(self, stream, store, mlflow):
        (one,) = new_ids(1)
        store_traces(mlflow, chat_turn(f"tr-{one}"))
        put(stream, trace_id=one, thumb="down", timestamp="2099-01-01T00:00:00Z", session_id=EMAIL)
        put(stream, trace_id=one, thumb="up", timestamp="nonsense")
        said = materialize(stream, store, mlflow)["feedback_events"]
        assert (said["times_clipped_to_arrival"], said["times_unreadable"]) == (1, 1)
        (trace,) = mlflow.read_traces(BUNDLE)
        assert trace.tags[Tag.USER_FEEDBACK] == "thumbs_up"
        kept = [path.read_bytes() for path in Path(store.root).rglob("*") if path.is_file()]
        assert not any(b"example.invalid" in content for content in kept)
