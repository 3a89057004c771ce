"""The feedback of one release bundle after a reading of the source: ingested, and joined with its traces."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from mangaassist_assets.core.figures import Figures
from mangaassist_assets.tracing.feedback.ingestion import (
    EVENTS_FILE,
    FeedbackCounts,
    FeedbackIngestion,
    FeedbackTable,
    ingest_new,
)
from mangaassist_assets.tracing.feedback.joining import OVERDUE, Joined, TraceFinder, join_waiting
from mangaassist_assets.tracing.feedback.sources import FeedbackSource


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFeedback:
    """The bundle's distinct events, and what was ingested and joined of all bundles on the way."""

    found: FeedbackTable
    ingested: FeedbackCounts
    joined: Joined

    def warnings(self) -> list[str]:
        """Return what somebody should look at: events that wait too long, and places where records may be lost."""
        overdue = (
            f"{self.joined.overdue} feedback events have waited for their traces for more than {OVERDUE.days} days "
            f"(the oldest is of {self.joined.oldest}): they are kept, and joined if the traces are imported"
        )
        gaps = [f"feedback records may be lost at {gap.place}: {gap.reason}" for gap in self.ingested.gaps]
        return [overdue, *gaps] if self.joined.overdue else gaps

    def files(self) -> dict[str, bytes]:
        """Return the bundle's events as they are stored."""
        return {EVENTS_FILE: self.found.to_parquet()}

    def figures(self) -> Figures:
        """Return counts of the bundle's events, and of what the reading brought in."""
        return {
            "dagster/row_count": self.found.frame.height,
            "thumbs_up": self.found.count("thumbs_up"),
            "thumbs_down": self.found.count("thumbs_down"),
            "duplicates_dropped": self.found.duplicates,
            "conflicting_events": self.found.conflicts,
            "newly_ingested": self.ingested.events,
            "newly_rejected": self.ingested.rejects,
            "dropped_of_erased_users": self.ingested.erased + self.joined.erased,
            "newly_joined": self.joined.joined,
            "waiting_for_a_trace": self.joined.waiting,
            "oldest_waiting": self.joined.oldest or "none",
            "waiting_too_long": self.joined.overdue,
            "times_clipped_to_arrival": self.ingested.clipped,
            "times_unreadable": self.ingested.unreadable_times,
            "gaps": [{"place": gap.place, "reason": gap.reason} for gap in self.ingested.gaps],
        }


def ingest_feedback(
    source: FeedbackSource,
    ingestion: FeedbackIngestion,
    finders: Sequence[TraceFinder],
    release_bundle: str,
    *,
    erased_users: Callable[[], Collection[str]],
    pseudonym_key: bytes | None,
    now: datetime,
) -> BundleFeedback:
    """Ingest what is new of all bundles, join what waits for its trace, and return the events of one bundle.

    `erased_users` returns the keys of users who were erased so far; it is asked before the reading and after it, since
    a user may be erased while events are being ingested. See `join_waiting` and `ingest_new` for the rest.
    """
    erased = frozenset(erased_users())
    ingested = ingest_new(source, ingestion, erased=erased, pseudonym_key=pseudonym_key)
    joined = join_waiting(ingestion, finders, pseudonym_key=pseudonym_key, now=now, erased=erased)
    late = frozenset(erased_users()) - erased
    if late:
        ingestion.erase(user_keys=late)
    return BundleFeedback(found=ingestion.table(release_bundle, erased=erased | late), ingested=ingested, joined=joined)
