"""Bringing the snapshots of a release bundle into the warehouse: turns, stages, model calls and feedback."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mangaassist_assets.reporting.warehouse.rows import feedback_rows, turn_rows
from mangaassist_assets.reporting.warehouse.tables import FEEDBACK_EVENTS
from mangaassist_assets.tracing.feedback.ingestion import read_feedback
from mangaassist_assets.tracing.ingestion.stored_turns import read_turn_frame

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.reporting.warehouse.types import Warehouse


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedBundle:
    """What of a bundle is in the warehouse; `changed` is False where all of it was there before."""

    release_bundle: str
    turns: int
    events: int
    changed: bool

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
    feedback = feedback_rows(read_feedback(store, release_bundle))
    return LoadedBundle(
        release_bundle=release_bundle,
        changed=database.load({**turn_rows(turns), FEEDBACK_EVENTS.name: feedback}, release_bundle=release_bundle),
        turns=turns.height,
        events=feedback.height,
    )
