"""A whole erasure without a command: marks, erasure, and the note of what was unfinished forgotten."""

from __future__ import annotations

from typing import Any

from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.tracing.erasure import (
    ErasureReport,
    TurnRows,
    UnfinishedErasure,
    UserTraces,
    erase_user,
    find_marks,
    record_erasure,
)
from mangaassist_assets.tracing.feedback.ingestion import FeedbackIngestion


def erase_whole(
    user_key: str,
    *,
    requested_at: str,
    store: SnapshotStore,
    feedback: FeedbackIngestion,
    traces: UserTraces,
    turns: TurnRows | None = None,
    **more: Any,
) -> ErasureReport:
    """Do what the command does, but for the models."""
    record_erasure(store, user_key, requested_at=requested_at)
    marks = find_marks(user_key, store=store, feedback=feedback, traces=traces, turns=turns)
    report = erase_user(marks, requested_at=requested_at, store=store, feedback=feedback, traces=traces, **more)
    UnfinishedErasure.of(store, user_key).forget()
    return report
