"""The feedback events of a release bundle as they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.tracing.feedback.events import FeedbackRecord

EVENTS_FILE = "events.parquet"


def read_feedback(store: SnapshotStore, release_bundle: str) -> Sequence[FeedbackRecord]:
    """Return the feedback events of a bundle, oldest first."""
    from mangaassist_assets.tracing.feedback.ingestion import events_from_parquet

    return events_from_parquet(store.read(store.latest("feedback_events", partition=release_bundle), EVENTS_FILE))
