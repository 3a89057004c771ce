"""The feedback of one bundle after a reading: counted, joined, and free of who was erased meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mangaassist_assets.privacy import pseudonym
from mangaassist_assets.tracing.feedback.bundle_feedback import BundleFeedback, ingest_feedback
from mangaassist_assets.tracing.feedback.events import FeedbackEvent, parse_feedback
from mangaassist_assets.tracing.feedback.ingestion import FeedbackIngestion
from mangaassist_assets.tracing.feedback.joining import TraceFacts
from mangaassist_assets.tracing.feedback.sources import FeedbackBatch, RejectedRecord

KEY = b"k" * 32
BUNDLE = "2026.03.24-rc2"
ARRIVED = datetime(2026, 3, 24, 12, 0, tzinfo=UTC)
USER = "jane.doe@example.invalid"


def event(number: int, thumb: str = "up", **fields: Any) -> FeedbackEvent:
    import json

    content = {"trace_id": f"{number + 1:032x}", "thumb": thumb, "session_id": "s", "release_bundle": BUNDLE, **fields}
    return parse_feedback(json.dumps(content).encode(), arrived=ARRIVED + timedelta(seconds=number))


class Source:
    """All its events in one batch, and a gap at its end."""

    def __init__(self, *events: FeedbackEvent, gap: str = "") -> None:
        self.events = events
        self.gaps = (RejectedRecord(part="shard-1", sequence_number="7", size=0, reason=gap),) if gap else ()

    def read_new(self, cursor: Mapping[str, Any], limit: int = 0) -> FeedbackBatch:  # noqa: ARG002 - the protocol's
        if cursor.get("done"):
            return FeedbackBatch(events=(), rejects=(), cursor=cursor)
        return FeedbackBatch(events=self.events, rejects=(), gaps=self.gaps, cursor={"done": True})


class NoTraces:
    def by_trace_id(self, trace_ids: Sequence[str]) -> Mapping[str, TraceFacts]:  # noqa: ARG002 - the protocol's
        return {}

    by_response_id = by_trace_id


@pytest.fixture
def ingest(tmp_path: Path):
    ingestion = FeedbackIngestion.at(str(tmp_path / "ingestion"))

    def run(source: Source, *, now: datetime = ARRIVED, erased=frozenset) -> BundleFeedback:
        return ingest_feedback(source, ingestion, [NoTraces()], BUNDLE, erased_users=erased, pseudonym_key=KEY, now=now)

    return run


def test_thumbs_are_counted_and_a_second_reading_brings_nothing_new(ingest) -> None:
    source = Source(event(1), event(2), event(3, "down"))
    figures = ingest(source).figures()
    assert (figures["thumbs_up"], figures["thumbs_down"], figures["newly_ingested"]) == (2, 1, 3)
    again = ingest(source).figures()
    assert (again["dagster/row_count"], again["newly_ingested"]) == (3, 0)


def test_a_user_who_is_erased_during_the_reading_leaves_no_event(ingest) -> None:
    asked = iter([frozenset(), frozenset({pseudonym(USER, KEY)})])
    feedback = ingest(Source(event(1), event(2, user_id=USER)), erased=lambda: next(asked))
    assert feedback.figures()["dagster/row_count"] == 1
    assert {one.user_key for one in feedback.found.events} == {None}
    # It is gone for good, not only from what was returned.
    assert ingest(Source()).figures()["dagster/row_count"] == 1


def test_what_waits_too_long_and_what_may_be_lost_is_warned_of(ingest) -> None:
    source = Source(event(1, release_bundle=None), gap="trimmed")
    feedback = ingest(source, now=ARRIVED + timedelta(days=30))
    assert feedback.figures()["waiting_too_long"] == 1
    overdue, gap = feedback.warnings()
    assert overdue.startswith("1 feedback events have waited for their traces for more than 7 days")
    assert gap == "feedback records may be lost at shard-1/7: trimmed"
    assert feedback.figures()["gaps"] == [{"place": "shard-1/7", "reason": "trimmed"}]
    assert ingest(Source()).warnings() == []
