"""Feedback as MangaAssist sends it, over a real Kinesis onto real traces, and thumbs that only the traces carry."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest

from mangaassist_assets.privacy import pseudonym
from mangaassist_assets.tracing.contract.names import Tag
from mangaassist_assets.triggers.thumbs import PressedThumb
from resources.feedback.feedback_stream import KinesisFeedbackResource
from resources.mlflow.tracking import MlflowResource
from resources.store import StoreResource
from sensors.feedback_threshold import feedback_threshold
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


class Sensor:
    """Ticks the sensor as the daemon does."""

    def __init__(self, **resources: object) -> None:
        self.resources = resources
        self.cursor: str | None = None

    def tick(self) -> dg.SensorResult:
        with (
            dg.DagsterInstance.ephemeral() as instance,
            dg.build_sensor_context(instance=instance, cursor=self.cursor, resources=self.resources) as context,
        ):
            result: dg.SensorResult = feedback_threshold(context)  # type: ignore[assignment]
        self.cursor = result.cursor
        return result

    def reason(self) -> str:
        result = self.tick()
        assert not result.run_requests
        assert result.skip_reason is not None
        return str(result.skip_reason.skip_message)


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


@pytest.mark.parametrize("reader", ["rest", "sql"])
class TestTagOnlyThumbs:
    """What only the traces carry counts as events do."""

    def test_thirty_tags_start_retraining_once_whatever_else_says_the_same(self, stream, store, reader):
        mlflow = MlflowResource(traces_experiment=f"traces-{uuid4().hex[:8]}", trace_reader=reader)
        ids = [f"tr-{one}" for one in new_ids(32)]
        store_traces(mlflow, *(chat_turn(one) for one in ids))
        sensor = Sensor(feedback_stream=stream, store=store, mlflow=mlflow)
        assert "no thumb" in sensor.reason()
        for one in ids[:19]:
            mlflow.client().set_trace_tag(one, Tag.USER_FEEDBACK, "thumbs_down")
            put(stream, trace_id=one.removeprefix("tr-"), thumb="down")
        for one in ids[:5]:
            mlflow.reviewer().record_feedback(one, "thumbs_down", user_key=None, timestamp_ms=1)
        assert f"{BUNDLE}: 19 thumbs-down of 19 (100%)" in sensor.reason()
        # One by an assessment alone, one by an event alone, one whose shopper thought better of it.
        import mlflow as library

        library.log_feedback(trace_id=ids[19], name="user_feedback", value=False)
        put(stream, trace_id=ids[20], thumb="down")
        put(stream, trace_id=ids[0], thumb="up")
        (request,) = sensor.tick().run_requests or []
        assert (request.partition_key, request.tags["mangaassist/thumbs_down"]) == (BUNDLE, "20")
        materialize(stream, store, mlflow)
        assert "no thumb since the last firing" in sensor.reason()

    def test_what_traces_say_is_the_same_by_both_readers(self, stream, store, reader):
        assert stream
        assert store
        mlflow = MlflowResource(traces_experiment=f"traces-{uuid4().hex[:8]}", trace_reader=reader)
        ids = [f"tr-{one}" for one in new_ids(6)]
        tags: list[Mapping[str, str]] = [
            {"user_feedback": "thumbs_up"},
            {"user_feedback": "👎"},
            {"user_feedback": "meh"},
        ]
        tags += [{}, {}, {"user_feedback": "down", "release_bundle": ""}]
        turns = [chat_turn(one) for one in ids]
        store_traces(
            mlflow, *(replace(turn, tags={**turn.tags, **more}) for turn, more in zip(turns, tags, strict=True))
        )
        import mlflow as library

        for value in (True, False):
            library.log_feedback(trace_id=ids[3], name="user_feedback", value=value)
        library.log_feedback(trace_id=ids[0], name="user_feedback", value=False)
        library.log_feedback(trace_id=ids[4], name="correctness", value=False)
        thumbs = mlflow.thumbs()
        found = sorted((one.release_bundle, one.feedback) for one in thumbs.after(0))
        assert found == [(BUNDLE, "thumbs_down"), (BUNDLE, "thumbs_down"), (BUNDLE, "thumbs_up")]
        assert thumbs.after(chat_turn(ids[0]).timestamp_ms) == []
        asked = [PressedThumb(event_id=one, trace_id=one, feedback="thumbs_up", time_ms=1) for one in [*ids, "tr-none"]]
        said = thumbs.said_on(asked)
        words = ["thumbs_up", "thumbs_down", None, "thumbs_down", None, "thumbs_down"]
        assert [said[one].feedback for one in ids] == words
        assert [said[one].release_bundle for one in ids] == [*[BUNDLE] * 5, None]
        assert "tr-none" not in said
