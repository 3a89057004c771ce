"""Turns, groups of failed turns and vectors for tests of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from mangaassist_assets.labelling.intent_labels import IntentLabel
from mangaassist_assets.labelling.queue.review_queue import QueueItem
from mangaassist_assets.tracing.contract.names import EXPECTED_INTENT
from mangaassist_assets.tracing.contract.turns import ChatTurn, Review


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Of a failure cluster what labels need."""

    cluster_id: str
    trace_ids: tuple[str, ...]
    name: str = "a name"
    stage: str = "intent"
    noise: bool = False


def make_turn(trace_id: str, message: str = "", **fields: object) -> ChatTurn:
    defaults: dict[str, object] = {
        "trace_id": trace_id,
        "timestamp_ms": 1_000,
        "duration_ms": 5,
        "state": "OK",
        "release_bundle": "b1",
        "session_id": f"s-{trace_id}",
        "message": message or f"message {trace_id}",
        "user_key": f"u-{trace_id}",
        "intent": "order_status",
        "user_feedback": "thumbs_down",
    }
    return ChatTurn(**{**defaults, **fields})  # type: ignore[arg-type]


def said(intent: str, *, by: str = "aki", at: int = 2_000) -> Review:
    """A person's word on the intent."""
    return Review(
        name=EXPECTED_INTENT, kind="expectation", values=(intent,), source="human", source_id=by, timestamp_ms=at
    )


def reviewed_turn(trace_id: str, *reviews: Review, message: str = "", **fields: object) -> ChatTurn:
    """A turn as the trace reader gives it: all reviews, and the latest as what is expected."""
    latest = max(reviews, key=lambda one: one.timestamp_ms)
    return make_turn(
        trace_id,
        message,
        reviews=reviews,
        expected_intent=latest.values[0],
        reviewer=latest.source_id,
        **fields,
    )


def human_label(trace_id: str, intent: str, **fields: object) -> IntentLabel:
    defaults: dict[str, object] = {
        "trace_id": trace_id,
        "text": f"message {trace_id}",
        "intent": intent,
        "kind": "human",
        "confidence": 1.0,
        "sources": (trace_id,),
        "release_bundle": "b1",
        "session_id": f"s-{trace_id}",
        "user_key": f"u-{trace_id}",
        "timestamp_ms": 1_000,
        "labeller": "aki",
        "labelled_ms": 2_000,
    }
    return IntentLabel(**{**defaults, **fields})  # type: ignore[arg-type]


def one_group(turns: Sequence[ChatTurn], **fields: object) -> list[Group]:
    return [Group(cluster_id="fc-1", trace_ids=tuple(turn.trace_id for turn in turns), **fields)]  # type: ignore[arg-type]


def close_vectors(count: int) -> np.ndarray:
    angles = np.linspace(0, 0.3, count)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def unit_vectors(count: int, *, dimension: int = 16, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def traffic_of(turns: Sequence[ChatTurn], *, failed: bool = True) -> pl.DataFrame:
    """The turns as `read_traffic` gives them; all of them failed, or none."""
    rows = [(turn.trace_id, turn.intent, turn.message, "en", failed) for turn in turns]
    schema = {"trace_id": pl.String, "intent": pl.String, "message": pl.String, "language": pl.String}
    return pl.DataFrame(rows, schema={**schema, "failed": pl.Boolean}, orient="row")


def queue_item(trace_id: str, rank: int = 1, **fields: object) -> QueueItem:
    defaults: dict[str, object] = {
        "rank": rank,
        "trace_id": trace_id,
        "origin": "failure queue",
        "inclusion_probability": None,
        "cluster_id": "fc-1",
        "cluster_name": "parcel",
        "score": 0.5,
        "speaks_for": 3,
        "questions": ("intent",),
        "reason": "3 of 9 failures are like it, and like nothing else as much",
    }
    return QueueItem(**{**defaults, **fields})  # type: ignore[arg-type]
