"""Processes that ingest or record feedback and kill themselves at a chosen step, as a power cut would."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from multiprocessing.context import ForkServerContext
from typing import Any

import polars as pl
from upath import UPath

from mangaassist_assets.core.ingestion_tables import Checkpoint, IngestionTable
from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.tracing.contract.turns import Feedback
from mangaassist_assets.tracing.feedback.events import FeedbackRecord
from mangaassist_assets.tracing.feedback.ingestion import (
    INGESTION_SCHEMA,
    FeedbackIngestion,
    events_from_parquet,
    ingest_new,
)
from mangaassist_assets.tracing.feedback.recording import TraceFeedback, record_events, recorded_before
from mangaassist_assets.tracing.feedback.sources import FeedbackBatch, FeedbackSource
from resources.aws.clients import AwsResource
from resources.feedback.feedback_stream import KinesisFeedbackResource
from resources.mlflow.assessments.feedback import MlflowFeedbackRecorder
from resources.mlflow.personal_data import MlflowUserTraces
from resources.mlflow.tracking import MlflowResource
from tests.support.erasure import erase_whole

_PRELOADED = ["boto3", "deltalake", "mlflow", "mlflow.tracing.client", "polars", __name__]


class Fuse:
    """Counts steps; the process dies at the last one."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def step(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class FusedSource:
    def __init__(self, source: FeedbackSource, fuse: Fuse) -> None:
        self._source, self._fuse = source, fuse

    def read_new(self, cursor: Mapping[str, Any], limit: int = 10_000) -> FeedbackBatch:
        batch = self._source.read_new(cursor, limit)
        self._fuse.step()
        return batch


class FusedTable(IngestionTable):
    def __init__(self, uri: str, fuse: Fuse) -> None:
        super().__init__(uri, schema=INGESTION_SCHEMA)
        self._fuse = fuse

    def append(self, frame: pl.DataFrame, *, after: Checkpoint, value: Mapping[str, Any]) -> Checkpoint:
        self._fuse.step()
        made = super().append(frame, after=after, value=value)
        self._fuse.step()
        return made

    def erase(self, column: str, values: Collection[str]) -> int:
        self._fuse.step()
        removed = super().erase(column, values)
        self._fuse.step()
        return removed


class FusedRecorder:
    def __init__(self, recorder: MlflowFeedbackRecorder, fuse: Fuse) -> None:
        self._recorder, self._fuse = recorder, fuse

    def look(self, trace_ids: Sequence[str]) -> Mapping[str, TraceFeedback]:
        found = self._recorder.look(trace_ids)
        self._fuse.step()
        return found

    def add_thumb(self, event: FeedbackRecord) -> None:
        self._recorder.add_thumb(event)
        self._fuse.step()

    def set_tag(self, trace_id: str, feedback: Feedback) -> None:
        self._recorder.set_tag(trace_id, feedback)
        self._fuse.step()


class FusedStore(SnapshotStore):
    def __init__(self, root: str, fuse: Fuse) -> None:
        super().__init__(UPath(root))
        self._fuse = fuse

    def write(self, name: str, files: Mapping[str, bytes], *, partition: str | None = None) -> Any:
        self._fuse.step()
        written = super().write(name, files, partition=partition)
        self._fuse.step()
        return written


class FusedTraces(MlflowUserTraces):
    fuse: Fuse

    def delete(self, trace_ids: Collection[str]) -> int:
        self.fuse.step()
        deleted = sum(super(FusedTraces, self).delete([trace_id]) for trace_id in sorted(trace_ids)[:1])
        self.fuse.step()
        return deleted + super().delete(trace_ids)


def ingest(uri: str, stream_name: str, limit: int, steps: int) -> None:
    fuse = Fuse(steps)
    stream = KinesisFeedbackResource(aws=AwsResource(), stream_name=stream_name)
    ingest_new(FusedSource(stream, fuse), FeedbackIngestion(FusedTable(uri, fuse)), limit=limit)


def record(store_root: str, experiment: str, bundle: str, steps: int) -> None:
    """Do what the asset `recorded_feedback` does."""
    fuse = Fuse(steps)
    store = FusedStore(store_root, fuse)
    mlflow = MlflowResource(traces_experiment=experiment)
    events = events_from_parquet(store.read(store.latest("feedback_events", partition=bundle), "events.parquet"))
    before = store.find("recorded_feedback", partition=bundle)
    recording = record_events(
        events,
        FusedRecorder(MlflowFeedbackRecorder(*mlflow.traces()), fuse),
        remembered=frozenset() if before is None else recorded_before(store.read(before, "recording.parquet")),
        threads=1,
    )
    store.write("recorded_feedback", recording.files(), partition=bundle)


def erase(store_root: str, uri: str, experiment: str, user_key: str, steps: int) -> None:
    fuse = Fuse(steps)
    mlflow = MlflowResource(traces_experiment=experiment)
    traces = FusedTraces(*mlflow.traces(), mlflow.trace_source())
    traces.fuse = fuse  # type: ignore[attr-defined]
    erase_whole(
        user_key,
        requested_at="2026-03-24T10:00:00Z",
        store=SnapshotStore(UPath(store_root)),
        feedback=FeedbackIngestion(FusedTable(uri, fuse)),
        traces=traces,
    )


def fork_server() -> ForkServerContext:
    """Return processes that begin with the heavy libraries imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def is_killed(target: Callable[..., None], *arguments: object) -> bool:
    """Run a function in a process of its own; returns whether it was killed, raises if it failed otherwise."""
    process = fork_server().Process(target=target, args=arguments)
    process.start()
    process.join(120)
    if process.exitcode not in (0, -signal.SIGKILL):
        raise AssertionError(f"{target.__name__}{arguments} ended with {process.exitcode}")
    return process.exitcode == -signal.SIGKILL
