"""Bringing the snapshots of a release bundle into the warehouse: turns, stages, model calls and feedback."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from mangaassist_assets.core.codecs import SnapshotSchemaError
from mangaassist_assets.reporting.warehouse.rows import feedback_rows, turn_rows
from mangaassist_assets.reporting.warehouse.tables import FEEDBACK_EVENTS
from mangaassist_assets.tracing.feedback.ingestion import EVENTS_FILE
from mangaassist_assets.tracing.ingestion.stored_turns import read_turn_frame

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.reporting.warehouse.types import Warehouse

_EARLIER_EVENTS_FILE = "events.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedBundle:
    """What of a bundle is in the warehouse; `changed` is False where all of it was there before.

    `rejected` counts what of its feedback was no event, by reason.
    """

    release_bundle: str
    turns: int
    events: int
    changed: bool
    rejected: Mapping[str, int]

    def __str__(self) -> str:
        return (
            f"{self.release_bundle} in the warehouse: {self.turns} turns, {self.events} feedback events"
            f"{'' if self.changed else ', as before'}"
        )


def load_bundle(database: Warehouse, store: SnapshotStore, release_bundle: str) -> LoadedBundle:
    """Replace a bundle's rows in the warehouse by those of its latest snapshots.

    Raises:
        SnapshotSchemaError: a snapshot holds no turns, or no feedback events.
    """
    turns = read_turn_frame(store, release_bundle)
    feedback = feedback_rows(_events(store, release_bundle), release_bundle=release_bundle)
    rows = {**turn_rows(turns), FEEDBACK_EVENTS.name: feedback.frame}
    return LoadedBundle(
        release_bundle=release_bundle,
        changed=database.load(rows, release_bundle=release_bundle),
        turns=turns.height,
        events=feedback.frame.height,
        rejected=feedback.rejected,
    )


def _events(store: SnapshotStore, release_bundle: str) -> list[Any]:
    """Return the feedback events of a bundle: the table of today, or the list that older snapshots hold."""
    snapshot = store.latest("feedback_events", partition=release_bundle)
    if EVENTS_FILE in snapshot.files:
        return pl.read_parquet(io.BytesIO(store.read(snapshot, EVENTS_FILE))).to_dicts()
    events = store.read_json(snapshot, _EARLIER_EVENTS_FILE) if _EARLIER_EVENTS_FILE in snapshot.files else None
    if not isinstance(events, list):
        raise SnapshotSchemaError(
            f"the snapshot feedback_events of {release_bundle} holds no events: materialize feedback_events again"
        )
    return events
