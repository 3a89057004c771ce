"""Chat turns and feedback of an invented bundle, for tests of warehouse and reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import polars as pl

from mangaassist_assets.core.codecs import to_parquet
from mangaassist_assets.reporting.warehouse.rows import feedback_rows, turn_rows
from mangaassist_assets.tracing.contract.turns import ChatTurn, Generation, StageTiming
from mangaassist_assets.tracing.feedback.events import FeedbackRecord
from mangaassist_assets.tracing.feedback.ingestion import EVENT_SCHEMA, EVENTS_FILE
from tests.support.turn_frames import turns_frame

BUNDLE = "2026.03.24-rc2"
EARLIER = "2026.03.10-rc1"
START_MS = 1_774_310_400_000
HAIKU = "us.anthropic.claude-3-5-haiku-20241022-v1:0"


def chat_turn(number: int, *, release_bundle: str = BUNDLE, **fields: Any) -> ChatTurn:
    """Return a turn; its trace id is `tr-<number>`."""
    values: dict[str, Any] = {
        "trace_id": f"tr-{number}",
        "timestamp_ms": START_MS + 60_000 * number,
        "duration_ms": 100 + number,
        "state": "OK",
        "release_bundle": release_bundle,
        "session_id": f"session-{number % 7}",
        "message": "where is volume three",
        "answer": "it ships tomorrow",
        "prompt_version": "p1",
        "bedrock_model_id": HAIKU,
        "intent": "order_status",
        "intent_model_version": "3",
        "routing_policy_version": "r1",
        "stages": (
            StageTiming(name="chat_turn", duration_ms=100.0 + number),
            StageTiming(name="retrieve_chunks", duration_ms=20.0 + number),
            StageTiming(name="bedrock_generate", duration_ms=70.0, failed=number % 5 == 0),
        ),
        "generations": (Generation(model_id=HAIKU, input_tokens=1_000, output_tokens=100, stop_reason="end_turn"),),
    }
    return ChatTurn(**{**values, **fields})


def event(trace: int, feedback: str, *, second: int = 0, release_bundle: str = BUNDLE, **fields: Any) -> dict[str, Any]:
    """Return a feedback event as its snapshot holds it."""
    moment = datetime(2026, 3, 24, 12, 0, second, tzinfo=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    values = {
        "schema": 1,
        "event_id": f"event-{trace}-{second}-{feedback}",
        "trace_id": f"tr-{trace}",
        "session_id": f"session-{trace % 7}",
        "user_key": None,
        "release_bundle": release_bundle,
        "feedback": feedback,
        "timestamp": moment,
    }
    return {**values, **fields}


def records(events: Sequence[dict[str, Any]]) -> list[FeedbackRecord]:
    """Return events as they are read back from their snapshot."""
    return [FeedbackRecord(**{name: one[name] for name in EVENT_SCHEMA}) for one in events]


def stored_events(events: Sequence[dict[str, Any]]) -> dict[str, bytes]:
    """Return the files of a snapshot of feedback events."""
    return {EVENTS_FILE: to_parquet(pl.DataFrame([asdict(one) for one in records(events)], schema=EVENT_SCHEMA))}


def bundle_rows(
    turns: Sequence[ChatTurn], events: Sequence[dict[str, Any]] = (), *, release_bundle: str = BUNDLE
) -> dict[str, pl.DataFrame]:
    """Return everything that one load of a bundle takes."""
    of_bundle = [one for one in records(events) if one.release_bundle == release_bundle]
    return {**turn_rows(turns_frame(turns)), "feedback_events": feedback_rows(of_bundle)}
