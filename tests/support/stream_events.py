"""Feedback events as they are read from the stream."""

from __future__ import annotations

from dataclasses import asdict

from mangaassist_assets.tracing.feedback.events import FeedbackEvent, FeedbackRecord


def stream_event(record: FeedbackRecord) -> FeedbackEvent:
    """Return the event that a whole record is on the stream."""
    said = asdict(record)
    user = said.pop("user_key")
    return FeedbackEvent(**said, user=user, response_id=None, time_from="event")
