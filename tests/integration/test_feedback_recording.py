"""Feedback on MLflow traces, and its erasure, against the stand-ins."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from upath import UPath

from mangaassist_assets.chatbot.simulation import SimulationConfig, simulate
from mangaassist_assets.cli.commands.personal_data import run_erasure
from mangaassist_assets.cli.session import CommandError, Session
from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.privacy import pseudonym
from mangaassist_assets.tracing.contract.names import Tag
from mangaassist_assets.tracing.erasure import erased_users, record_erasure
from mangaassist_assets.tracing.feedback.events import latest_feedback
from mangaassist_assets.tracing.feedback.recording import TraceGoneError, record_events
from mangaassist_assets.tracing.person_marks import PersonMarks
from mangaassist_assets.tracing.purging import snapshots_holding
from resources.aws.clients import AwsResource
from resources.feedback.feedback_stream import KinesisFeedbackResource
from resources.mlflow.assessments.feedback import MlflowFeedbackRecorder
from resources.mlflow.tracking import MlflowResource
from resources.settings.privacy import PrivacyResource
from resources.settings.trace_mapping import TraceMappingResource
from resources.store import StoreResource
from resources.warehouse.warehouse import DuckDbWarehouseResource
from tests.support.erasure import erase_whole
from tests.support.feedback_events import (
    BUNDLE,
    OTHER,
    USER,
    chat_turn,
    event,
    materialize,
    new_stream,
    store_traces,
    trace_id,
)
from tests.support.store_chatbot import MemoryStream, store_chatbot
from tests.support.turn_reading import read_turns

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("stand_ins_environment")]


@pytest.fixture
def mlflow() -> MlflowResource:
    return MlflowResource(traces_experiment=f"traces-{uuid4().hex[:8]}")


@pytest.fixture
def stream() -> KinesisFeedbackResource:
    return new_stream()


@pytest.fixture
def store(tmp_path: Path) -> StoreResource:
    return StoreResource(root=str(tmp_path / "store"), cache_folder=str(tmp_path / "cache"))


class TestAssets:
    """Stream → table → traces, as Dagster runs it."""

    def test_thumbs_reach_their_traces_once_and_wait_for_those_that_come_late(self, stream, store, mlflow):
        store_traces(mlflow, *(chat_turn(trace_id(number)) for number in range(5)))
        store_traces(mlflow, chat_turn(trace_id(6), bundle="other"))
        events = [event(number) for number in range(7)]
        events += [event(7, trace=trace_id(0), up=True), event(8, trace="no-such-trace")]
        stream.publish(events + events[:3])
        said = materialize(stream, store, mlflow)
        assert said["feedback_events"]["duplicates_dropped"] == 3
        recorded = said["recorded_feedback"]
        assert (recorded["recorded"], recorded["pending"], recorded["of_another_bundle"]) == (6, 2, 1)
        store_traces(mlflow, chat_turn(trace_id(5)))
        again = materialize(stream, store, mlflow)["recorded_feedback"]
        assert (again["newly_recorded"], again["remembered"], again["pending"]) == (1, 6, 1)
        traces = {trace.trace_id: trace for name in (BUNDLE, "other") for trace in mlflow.read_traces(name)}
        thumbs = Counter(key for key, trace in traces.items() for _ in trace.assessments)
        assert thumbs == {trace_id(0): 2, **{trace_id(number): 1 for number in range(1, 6)}}
        tags = {key: trace.tags[Tag.USER_FEEDBACK] for key, trace in traces.items() if Tag.USER_FEEDBACK in trace.tags}
        expected = latest_feedback(one for one in events if one.trace_id in thumbs)
        assert tags == expected
        assert tags[trace_id(0)] == "thumbs_up"
        client = mlflow.client()
        assessment = client.get_trace(trace_id(1), display=False).info.assessments[0]
        assert assessment.metadata == {"event_id": "fb-1", "event_time_ms": str(event(1).timestamp_ms)}
        assert (assessment.source.source_type, assessment.source.source_id) == ("HUMAN", "anonymous")

    def test_published_thumbs_end_on_the_traces_as_if_they_had_been_put_there(self, stream, store, mlflow):
        utterances = [
            Utterance(text=f"how do i return book {number}?", intent="gift_card", line_number=number, user_id="u")
            for number in range(30)
        ]
        chatbot = store_chatbot(mlflow.trace_sink())
        published_only = SimulationConfig(seed=4, thumbs_on_traces=False)
        simulate(utterances, chatbot, stream, mlflow.reviewer(), release_bundle=BUNDLE, config=published_only)
        assert all(turn.user_feedback is None for turn in read_turns(mlflow.read_traces(BUNDLE)).turns)
        said = materialize(stream, store, mlflow)["recorded_feedback"]
        turns = {turn.trace_id: turn for turn in read_turns(mlflow.read_traces(BUNDLE)).turns}
        thumbs = {key: turn.user_feedback for key, turn in turns.items() if turn.user_feedback is not None}
        published = stream.read_new({}).events
        assert thumbs == {one.trace_id: one.feedback for one in published}
        assert said["newly_recorded"] == len(thumbs) > 10
        # The same simulation that puts thumbs on traces itself finds nothing left to say.
        silent = MemoryStream()
        put_on_traces = SimulationConfig(seed=4)
        options = {"release_bundle": BUNDLE, "config": put_on_traces, "earlier": turns}
        simulate(utterances, chatbot, silent, mlflow.reviewer(), **options)
        assert silent.events == []
        assert materialize(stream, store, mlflow)["recorded_feedback"]["newly_recorded"] == 0

    def test_thumbs_that_mlflow_lost_come_back_when_all_traces_are_looked_at(self, stream, store, mlflow):
        keys = [trace_id(60_000), trace_id(60_001)]
        store_traces(mlflow, *(chat_turn(key) for key in keys))
        stream.publish([event(number, trace=key) for number, key in enumerate(keys)])
        materialize(stream, store, mlflow)
        mlflow.user_traces(None).delete(keys[:1])
        store_traces(mlflow, chat_turn(keys[0]))
        assert materialize(stream, store, mlflow)["recorded_feedback"]["remembered"] == 2
        said = materialize(stream, store, mlflow, verify_all=True)["recorded_feedback"]
        assert (said["newly_recorded"], said["found_on_traces"], said["recorded"]) == (1, 1, 2)

    def test_a_thumb_the_reviewer_put_there_is_recognised(self, mlflow):
        said = event(1, trace=trace_id(50_001))
        store_traces(mlflow, chat_turn(said.trace_id))
        mlflow.reviewer().record_feedback(said.trace_id, said.feedback, user_key=None, timestamp_ms=said.timestamp_ms)
        recording = record_events([said], MlflowFeedbackRecorder(*mlflow.traces()))
        assert (recording.found, recording.added, recording.tags_set) == (1, 0, 0)

    def test_the_server_takes_an_event_once_even_if_it_is_sent_twice(self, mlflow, monkeypatch):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        said = event(1, trace=trace_id(50_002))
        store_traces(mlflow, chat_turn(said.trace_id))
        recorder = MlflowFeedbackRecorder(*mlflow.traces())
        recorder.add_thumb(said)
        recorder.add_thumb(said)
        assert len(recorder.look([said.trace_id])[said.trace_id].thumbs) == 1

    def test_feedback_on_a_trace_that_does_not_exist_says_so(self, mlflow):
        recorder = MlflowFeedbackRecorder(*mlflow.traces())
        for write in (lambda: recorder.add_thumb(event(9_999)), lambda: recorder.set_tag(trace_id(9_999), "thumbs_up")):
            with pytest.raises(TraceGoneError, match="does not exist"):
                write()


class TestErasure:
    """A user who is erased stays erased."""

    def test_events_that_come_later_are_dropped_and_other_users_keep_theirs(self, stream, store, mlflow):
        keys = [trace_id(200_000 + number) for number in range(4)]
        users = [USER, OTHER, USER, OTHER]
        store_traces(mlflow, *(chat_turn(key, user=user) for key, user in zip(keys, users, strict=True)))
        stream.publish([event(number, trace=keys[number], user=users[number]) for number in range(2)])
        assert materialize(stream, store, mlflow)["recorded_feedback"]["recorded"] == 2
        report = erase_whole(
            USER,
            requested_at="2026-03-24T10:00:00Z",
            store=store.snapshots(),
            feedback=store.feedback_ingestion(),
            traces=mlflow.user_traces(None),
        )
        assert (report.events_removed, report.traces_deleted) == (1, 2)
        assert {one.name for one in report.snapshots if one.latest} == {"feedback_events", "recorded_feedback"}
        assert report.materialize_again == ()
        stream.publish([event(number, trace=keys[number], user=users[number]) for number in (2, 3)])
        said = materialize(stream, store, mlflow)
        assert said["feedback_events"]["dropped_of_erased_users"] == 1
        assert said["feedback_events"]["dagster/row_count"] == 2
        assert said["recorded_feedback"]["recorded"] == 2
        again = erase_whole(
            USER,
            requested_at="2026-03-25T10:00:00Z",
            store=store.snapshots(),
            feedback=store.feedback_ingestion(),
            traces=mlflow.user_traces(None),
        )
        assert again.snapshots == ()

    def test_the_command_takes_an_id_that_goes_nowhere_else(self, tmp_path, store, mlflow):
        key = pseudonym("someone@example.invalid", b"\xab" * 32)
        store_traces(mlflow, chat_turn(trace_id(300_000), user=key))
        said: list[str] = []
        warehouse = DuckDbWarehouseResource(path=str(tmp_path / "warehouse"))
        session = Session(
            instance=None,
            definitions=None,
            resources=SimpleNamespace(
                store=store,
                mlflow=mlflow,
                warehouse=warehouse,
                privacy=PrivacyResource(key="ab" * 32),
                trace_mapping=TraceMappingResource(),
            ),
            progress=said.append,
            logs=tmp_path,
        )
        report = run_erasure(session, user_id="someone@example.invalid")
        assert (report["user_key"], report["traces_deleted"]) == (key, 1)
        assert erased_users(store.snapshots()) == {key}
        written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        assert not any(b"example.invalid" in one for one in [*written, str((report, said)).encode()])
        assert run_erasure(session, user_key=key)["traces_deleted"] == 0
        for names in ({}, {"user_id": "x", "user_key": key}):
            with pytest.raises(CommandError, match="name one user"):
                run_erasure(session, **names)

    def test_an_erasure_recorded_by_another_process_is_seen_in_a_bucket(self):
        client = AwsResource().client("s3")
        bucket = f"store-{uuid4().hex[:8]}"
        client.create_bucket(Bucket=bucket)
        store = SnapshotStore(UPath(f"s3://{bucket}/store"))
        assert erased_users(store) == frozenset()
        record_erasure(store, USER, requested_at="2026-03-24T10:00:00Z")
        assert erased_users(store) == {USER}
        client.put_object(Bucket=bucket, Key=f"store/erasures/{OTHER}.json", Body=b"{}")
        assert erased_users(store) == {USER, OTHER}
        store.write("failed_traces", {"failures.json": f'[{{"trace_id": "{trace_id(1)}"}}]'.encode()}, partition="b1")
        (held,) = snapshots_holding(store, PersonMarks(USER, frozenset([trace_id(1)])))
        assert (held.name, held.partition, held.files, held.latest) == ("failed_traces", "b1", ("failures.json",), True)
        assert snapshots_holding(store, PersonMarks(USER, frozenset([trace_id(2)]))) == []
