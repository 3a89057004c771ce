"""Ingestion, recording and erasing feedback with SIGKILL at every step, against the stand-ins."""

from __future__ import annotations

import random
from uuid import uuid4

import pytest
from upath import UPath

from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.tracing.contract.names import Tag
from mangaassist_assets.tracing.feedback.ingestion import FeedbackIngestion, ingest_new
from resources.feedback.feedback_stream import KinesisFeedbackResource
from resources.mlflow.tracking import MlflowResource
from tests.support.erasure import erase_whole
from tests.support.feedback_events import (
    BUNDLE,
    OTHER,
    USER,
    chat_turn,
    event,
    ids,
    new_stream,
    store_traces,
    trace_id,
)
from tests.support.feedback_kill import erase, fork_server, ingest, is_killed, record

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("stand_ins_environment")]


@pytest.fixture
def mlflow() -> MlflowResource:
    return MlflowResource(traces_experiment=f"traces-{uuid4().hex[:8]}")


@pytest.fixture
def stream() -> KinesisFeedbackResource:
    return new_stream()


class TestKilled:
    """SIGKILL at every step, then a second run: the same as one clean run."""

    def test_ingestion(self, stream, tmp_path):
        stream.publish([event(number % 25) for number in range(40)])
        clean = FeedbackIngestion.at(str(tmp_path / "clean"))
        ingest_new(stream, clean, limit=10)
        steps = 1
        while is_killed(ingest, str(tmp_path / f"killed-{steps}"), stream.stream_name, 10, steps):
            uri = str(tmp_path / f"killed-{steps}")
            assert not is_killed(ingest, uri, stream.stream_name, 10, 0)
            killed = FeedbackIngestion.at(uri)
            assert killed.table(BUNDLE).to_parquet() == clean.table(BUNDLE).to_parquet()
            # Nothing was ingested twice: what was committed before the kill is not read again.
            assert killed.table(BUNDLE).duplicates == clean.table(BUNDLE).duplicates == 15
            steps += 1
        # Five readings, four of them committed, with a step before and after each commit; a new hour moves the
        # cursor once more.
        assert steps >= 5 + 2 * 4 + 1

    def test_ingestion_at_any_moment(self, stream, tmp_path):
        stream.publish([event(number) for number in range(120)])
        chance = random.Random(7)
        uri = str(tmp_path / "ingestion")
        for _ in range(6):
            process = fork_server().Process(target=ingest, args=(uri, stream.stream_name, 2, 0))
            process.start()
            process.join(chance.uniform(0.05, 0.6))
            process.kill()
            process.join()
        ingest_new(stream, FeedbackIngestion.at(uri))
        table = FeedbackIngestion.at(uri).table(BUNDLE)
        assert (len(table.events), table.duplicates) == (120, 0)

    def test_recording(self, mlflow, tmp_path):
        steps, killed = 1, True
        while killed:
            # A trace id belongs to one experiment: every round has traces of its own.
            keys = [trace_id(1000 * steps + number) for number in range(3)]
            events = [event(number, trace=key) for number, key in enumerate(keys)]
            events.append(event(9, trace=keys[1], up=True))
            root = str(tmp_path / f"store-{steps}")
            ingestion = FeedbackIngestion.at(f"{root}-ingestion")
            ingestion.append(events=[one.to_dict() for one in events], rejects=[], cursor={})
            content = {"events.parquet": ingestion.table(BUNDLE).to_parquet()}
            SnapshotStore(UPath(root)).write("feedback_events", content, partition=BUNDLE)
            own = MlflowResource(traces_experiment=f"{mlflow.traces_experiment}-{steps}")
            store_traces(own, *(chat_turn(key) for key in keys))
            killed = is_killed(record, root, own.traces_experiment, BUNDLE, steps)
            assert not is_killed(record, root, own.traces_experiment, BUNDLE, 0)
            traces = {trace.trace_id: trace for trace in own.read_traces(BUNDLE)}
            assert [len(traces[key].assessments) for key in keys] == [1, 2, 1]
            said = [traces[key].tags[Tag.USER_FEEDBACK] for key in keys]
            assert said == ["thumbs_down", "thumbs_up", "thumbs_down"]
            steps += 1
        # One look, four thumbs, three tags, and a step before and after the snapshot.
        assert steps - 1 == 1 + 4 + 3 + 2 + 1

    def test_erasing(self, tmp_path):
        steps, killed = 1, True
        while killed:
            mlflow = MlflowResource(traces_experiment=f"erased-{uuid4().hex[:8]}")
            base = 100_000 + 1000 * steps
            root, uri = str(tmp_path / f"store-{steps}"), str(tmp_path / f"ingestion-{steps}")
            users = [USER, USER, OTHER]
            keys = [trace_id(base + number) for number in range(3)]
            store_traces(mlflow, *(chat_turn(key, user=user) for key, user in zip(keys, users, strict=True)))
            ingestion = FeedbackIngestion.at(uri)
            said = [event(number, trace=keys[number], user=users[number]).to_dict() for number in range(3)]
            ingestion.append(events=said, rejects=[], cursor={"s": "3"})
            killed = is_killed(erase, root, uri, mlflow.traces_experiment, USER, steps)
            report = erase_whole(
                USER,
                requested_at="2027-01-01T00:00:00Z",
                store=SnapshotStore(UPath(root)),
                feedback=ingestion,
                traces=mlflow.user_traces(None),
            )
            assert report.requested_at == "2026-03-24T10:00:00Z"
            assert [trace.trace_id for trace in mlflow.read_traces(BUNDLE)] == keys[2:]
            assert ids(ingestion.table(BUNDLE).events) == ["fb-2"]
            assert ingestion.cursor() == {"s": "3"}
            steps += 1
        # Before and after each: events of the user and of the traces, twice, for all is read again; then the traces.
        assert steps - 1 == 2 * 2 * 2 + 2 + 1
