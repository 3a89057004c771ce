"""Feedback events, the traces they are about, and the assets that bring them together, for tests with real servers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import dagster as dg

from mangaassist_assets.assets.ingestion import RecordingConfig, feedback_events, recorded_feedback
from mangaassist_assets.privacy import pseudonym
from mangaassist_assets.tracing.contract.names import Tag
from mangaassist_assets.tracing.contract.records import SpanRecord, TraceRecord
from mangaassist_assets.tracing.feedback.events import FeedbackEvent, FeedbackRecord
from resources.aws.clients import AwsResource
from resources.feedback.feedback_stream import KinesisFeedbackResource
from resources.mlflow.tracking import MlflowResource
from resources.settings.privacy import PrivacyResource
from resources.store import StoreResource

BUNDLE = "2026.03.24-rc2"
KEY = b"feedback".ljust(32)
USER = pseudonym("someone", KEY)
OTHER = pseudonym("someone else", KEY)


def trace_id(number: int) -> str:
    return f"tr-{number:032x}"


def event(number: int, *, trace: str | None = None, up: bool = False, user: str | None = None) -> FeedbackRecord:
    moment = datetime(2026, 3, 24, tzinfo=UTC) + timedelta(seconds=number)
    return FeedbackRecord(
        event_id=f"fb-{number}",
        trace_id=trace or trace_id(number),
        session_id=f"s-{number % 7}",
        user_key=user,
        release_bundle=BUNDLE,
        feedback="thumbs_up" if up else "thumbs_down",
        timestamp=moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )


def chat_turn(key: str, *, user: str | None = None, bundle: str = BUNDLE) -> TraceRecord:
    root = SpanRecord(
        span_id=key[-16:],
        parent_id=None,
        name="chat_turn",
        start_ns=1_774_000_000 * 10**9,
        end_ns=1_774_000_001 * 10**9,
    )
    return TraceRecord(
        trace_id=key,
        timestamp_ms=1_774_000_000_000,
        duration_ms=1000,
        state="OK",
        tags={Tag.SESSION_ID: "s", Tag.RELEASE_BUNDLE: bundle},
        user_key=user,
        spans=(root,),
    )


def store_traces(mlflow: MlflowResource, *traces: TraceRecord) -> None:
    sink = mlflow.trace_sink()
    for trace in traces:
        sink.write(trace)
    sink.flush()


def ids(events: Iterable[FeedbackEvent]) -> list[str]:
    return [one.event_id for one in events]


def new_stream() -> KinesisFeedbackResource:
    made = KinesisFeedbackResource(aws=AwsResource(), stream_name=f"feedback-{uuid4().hex[:8]}")
    made.ensure_stream(shards=2)
    return made


def materialize(
    stream: KinesisFeedbackResource, store: StoreResource, mlflow: MlflowResource, *, verify_all: bool = False
) -> dict[str, dict[str, Any]]:
    """Materialize both feedback assets of the bundle; returns their metadata by asset."""
    resources = {"feedback_stream": stream, "store": store, "mlflow": mlflow, "privacy": PrivacyResource(key=KEY.hex())}
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("release_bundles", [BUNDLE])
        result = dg.materialize(
            [feedback_events, recorded_feedback],
            partition_key=BUNDLE,
            resources=resources,
            instance=instance,
            run_config=dg.RunConfig({"recorded_feedback": RecordingConfig(verify_all=verify_all)}),
        )
    return {
        one.asset_key.to_user_string(): {name: value.value for name, value in one.metadata.items()}
        for name in ("feedback_events", "recorded_feedback")
        for one in result.asset_materializations_for_node(name)
    }
