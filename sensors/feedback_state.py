"""The state of the feedback sensor: where it stands in the feedback, and what it has counted so far.

The sensor imports this module when it runs: loading the definitions needs none of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mangaassist_assets.tracing.feedback.sources import FeedbackBatch
from mangaassist_assets.triggers.cursors import from_cursor, to_cursor
from mangaassist_assets.triggers.feedback_threshold import FeedbackState, Firing
from mangaassist_assets.triggers.thumbs import PressedThumb, ThumbHistory, Votes
from resources.aws.clients import error_code
from resources.feedback.feedback_stream import KinesisFeedbackResource
from resources.store import StoreResource

_KIND = "feedback_threshold_sensor"
_VERSION = 2
EVENTS_PER_TICK = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorState:
    """The position in the feedback, the votes of older traces, and the state of the decision: they move together."""

    positions: Mapping[str, Any]
    history: ThumbHistory
    counts: FeedbackState

    def to_cursor(self) -> str:
        """Return the cursor."""
        return to_cursor(_KIND, _VERSION, self)


def state_of(cursor: str | None, store: StoreResource) -> SensorState:
    """Return the state that a cursor holds; at the first tick, that after what was ingested and mined.

    Raises:
        CursorError: the cursor is of another sensor or version, or damaged.
    """
    state = from_cursor(_KIND, _VERSION, cursor, SensorState)
    if state is not None:
        return state
    from mangaassist_assets.tracing.ingestion.stored_turns import read_mined_thumbs

    mined = read_mined_thumbs(store.snapshots())
    return SensorState(
        positions=store.feedback_ingestion().cursor(),
        history=ThumbHistory(),
        counts=FeedbackState.beginning({bundle: Votes(up=up, down=down) for bundle, (up, down) in mined.items()}),
    )


def read_batch(feedback_stream: KinesisFeedbackResource, positions: Mapping[str, Any]) -> FeedbackBatch | None:
    """Return what is new on the stream, or None where the stream does not exist yet."""
    from botocore.exceptions import ClientError

    try:
        return feedback_stream.read_new(positions, limit=EVENTS_PER_TICK)
    except ClientError as error:
        if error_code(error) != "ResourceNotFoundException":
            raise
        return None


def pressed_thumbs(batch: FeedbackBatch) -> list[PressedThumb]:
    """Return the events of a batch as the decision needs them: no session, no user."""
    return [
        PressedThumb(
            event_id=event.event_id,
            trace_id=event.trace_id,
            response_id=event.response_id,
            release_bundle=event.release_bundle,
            feedback=event.feedback,
            time_ms=event.timestamp_ms,
        )
        for event in batch.events
    ]


def firing_key(firing: Firing, positions: Mapping[str, Any]) -> str:
    """Return the run key of a firing: bundle and epoch, and where in stream and votes it happened.

    Epochs begin again after the cursor was reset, and Dagster would drop a run whose key it has seen.
    """
    place = json.dumps([dict(positions), firing.votes.up, firing.votes.down], sort_keys=True)
    return f"{firing.run_key}-{hashlib.sha256(place.encode()).hexdigest()[:12]}"
