"""Joining events with their traces: what an event does not say of bundle, session and user, its trace does.

An event names its trace by an id of the trace or of the response. Where neither is known yet, the event waits; it is
looked for again at every joining, and how long it has waited is reported, however long that is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import polars as pl

from mangaassist_assets.core.ingestion_tables import PARTITION, IngestionConflictError, IngestionTable
from mangaassist_assets.privacy import is_pseudonym
from mangaassist_assets.tracing.feedback.events import StoredIds
from mangaassist_assets.tracing.feedback.ingestion import FeedbackIngestion

OVERDUE = timedelta(days=7)
"""Streams keep records a day and a year at most; a trace that is a week late will hardly come."""
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFacts:
    """What a trace says of a thumb on it: its bundle, None where it names no valid one, its session and its user."""

    trace_id: str
    release_bundle: str | None
    session_id: str | None
    user: str | None


class TraceFinder(Protocol):
    """Where traces are looked up."""

    def by_trace_id(self, trace_ids: Sequence[str]) -> Mapping[str, TraceFacts]:
        """Return those of the traces that exist, by their ids."""

    def by_response_id(self, response_ids: Sequence[str]) -> Mapping[str, TraceFacts]:
        """Return the traces that gave these responses, by the responses' ids; one that two traces claim is left out."""


class IngestedFacts:
    """Looks traces up in the ingestion table of traces: also bundles and sessions that stand in no tag of MLflow."""

    def __init__(self, table: IngestionTable) -> None:
        self._table = table

    def by_trace_id(self, trace_ids: Sequence[str]) -> Mapping[str, TraceFacts]:
        """Return those of the traces that are ingested as turns, by their ids."""
        return {row["trace_id"]: _facts(row) for row in self._newest("trace_id", trace_ids)}

    def by_response_id(self, response_ids: Sequence[str]) -> Mapping[str, TraceFacts]:
        """Return the turns that gave these responses; a response that two turns claim is nobody's."""
        found: dict[str, list[TraceFacts]] = {}
        for row in self._newest("response_id", response_ids):
            found.setdefault(row["response_id"], []).append(_facts(row))
        return {response_id: facts[0] for response_id, facts in found.items() if len(facts) == 1}

    def _newest(self, column: str, values: Sequence[str]) -> list[dict[str, Any]]:
        if not values:
            return []
        rows = self._table.rows().select(
            "trace_id", PARTITION, "session_id", "user_key", "sequence", "kind", "response_id"
        )
        asked = pl.col(column).is_in(list(values))
        # The row that says a trace is gone names no response: all rows of the traces are looked at.
        found = rows.join(rows.filter(asked).select("trace_id").unique(), on="trace_id", how="semi").collect()
        newest = pl.col("sequence") == pl.col("sequence").max().over("trace_id")
        return found.filter(newest).filter(asked, pl.col("kind") == "turn").to_dicts()


def _facts(row: Mapping[str, Any]) -> TraceFacts:
    return TraceFacts(
        trace_id=row["trace_id"],
        release_bundle=row[PARTITION],
        session_id=row["session_id"],
        user=row["user_key"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What one joining did. `overdue` of those that still wait have waited for longer than OVERDUE."""

    joined: int = 0
    waiting: int = 0
    overdue: int = 0
    oldest: str | None = None
    erased: int = 0


def join_waiting(
    ingestion: FeedbackIngestion,
    finders: Sequence[TraceFinder],
    *,
    pseudonym_key: bytes | None,
    now: datetime,
    erased: Collection[str] = (),
) -> Joined:
    """Give every event that waits what its trace says, and move it into its bundle.

    A later one of the `finders` is asked for what the earlier ones do not know. Events of `erased` users are dropped.

    Raises:
        IngestionConflictError: Others ingested records again and again meanwhile; nothing is lost, run again.
    """
    ids = StoredIds(pseudonym_key)
    attempts = _ATTEMPTS
    while waiting := ingestion.waiting():
        found = _found(waiting, finders)
        known = [(event, facts) for event, facts in zip(waiting, found, strict=True) if facts is not None]
        joined = [_joined(event, facts, ids) for event, facts in known]
        left = [event["timestamp"] for event, facts in zip(waiting, found, strict=True) if facts is None]
        try:
            ingestion.settle([event for event, _ in known], joined, erased=erased)
        except IngestionConflictError:
            attempts -= 1
            if not attempts:
                raise
            continue
        dropped = sum(1 for event in joined if event["user_key"] in erased)
        return Joined(
            joined=len(joined) - dropped,
            waiting=len(left),
            overdue=sum(1 for timestamp in left if now - datetime.fromisoformat(timestamp) > OVERDUE),
            oldest=min(left, default=None),
            erased=dropped,
        )
    return Joined()


def _found(waiting: Sequence[Mapping[str, Any]], finders: Sequence[TraceFinder]) -> list[TraceFacts | None]:
    """Return what is known of each event's trace, None where it does not name the bundle."""
    found: list[TraceFacts | None] = [None] * len(waiting)
    for finder in finders:
        open_ones = [number for number, facts in enumerate(found) if facts is None]
        traces = finder.by_trace_id(_distinct(waiting, open_ones, "trace_id"))
        # A response is asked for where the trace's id is not given, or leads nowhere.
        unknown = [number for number in open_ones if waiting[number]["trace_id"] not in traces]
        responses = finder.by_response_id(_distinct(waiting, unknown, "response_id"))
        for number in open_ones:
            event = waiting[number]
            facts = traces.get(event["trace_id"]) or responses.get(event["response_id"])
            if facts is not None and (facts.release_bundle or event["stated_bundle"]):
                found[number] = facts
    return found


def _distinct(waiting: Sequence[Mapping[str, Any]], numbers: Sequence[int], name: str) -> list[str]:
    return sorted({waiting[number][name] for number in numbers if waiting[number][name] is not None})


def _joined(event: Mapping[str, Any], facts: TraceFacts, ids: StoredIds) -> dict[str, Any]:
    user = event["user_key"] or ids.user(facts.user)
    return {
        **event,
        "trace_id": facts.trace_id,
        "release_bundle": event["stated_bundle"] or facts.release_bundle,
        "session_id": event["session_id"] or ids.session(facts.session_id, user=facts.user),
        "user_key": user if is_pseudonym(user) else None,
    }
