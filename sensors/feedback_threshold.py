"""Starts retraining when a release bundle has gathered enough thumbs-downs.

Reads only feedback events that are new since the last tick. The first tick starts where the `feedback_events` asset
stopped reading: what a run has consumed already is no news.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import dagster as dg

from mangaassist_assets.jobs import retraining
from mangaassist_assets.partitions import release_bundles
from mangaassist_assets.triggers.cursors import CursorError, cursor_from_json, cursor_to_json
from mangaassist_assets.triggers.feedback_threshold import (
    FeedbackEvent,
    FeedbackState,
    Firing,
    ThresholdConfig,
    decide,
)
from resources.aws import error_code
from resources.feedback_stream import FeedbackBatch, KinesisFeedbackResource
from resources.store import StoreResource

_KIND = "feedback_threshold_sensor"
_VERSION = 1
EVENTS_PER_TICK = 5_000


def positions_and_state(cursor: str | None, store: StoreResource) -> tuple[dict[str, Any], FeedbackState]:
    """Return the position in the feedback and the counts that a cursor holds; the landing's position at the first tick.

    Raises:
        CursorError: the cursor is of another sensor or version, or damaged.
    """
    if cursor:
        value = cursor_from_json(_KIND, _VERSION, cursor)
        positions = value.get("positions")
        if not isinstance(positions, dict):
            msg = f"the cursor of {_KIND} is damaged (positions): reset the sensor's cursor to start afresh"
            raise CursorError(msg)
        return positions, FeedbackState.from_json(json.dumps(value.get("counts")))
    return store.feedback_landing().cursor(), FeedbackState()


def to_cursor(positions: dict[str, Any], state: FeedbackState) -> str:
    """Return one cursor with both halves, so that events and counts move together."""
    counts: dict[str, Any] = json.loads(state.to_json())
    return cursor_to_json(_KIND, _VERSION, {"positions": positions, "counts": counts})


def read_batch(feedback_stream: KinesisFeedbackResource, positions: Mapping[str, Any]) -> FeedbackBatch | None:
    """Return what is new on the stream, or None where the stream does not exist yet."""
    from botocore.exceptions import ClientError

    try:
        return feedback_stream.read_new(positions, limit=EVENTS_PER_TICK)
    except ClientError as error:
        if error_code(error) != "ResourceNotFoundException":
            raise
        return None


def firing_key(firing: Firing, positions: Mapping[str, Any]) -> str:
    """Return the run key of a firing: bundle and epoch, and where in the stream it happened.

    Epochs begin again after the cursor was reset, and Dagster would drop a run whose key it has seen.
    """
    place = hashlib.sha256(json.dumps(dict(positions), sort_keys=True).encode()).hexdigest()[:12]
    return f"{firing.run_key}-{place}"


@dg.sensor(
    name="feedback_threshold",
    job=retraining,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Retrains on a release bundle when its thumbs-downs since the last firing reach a number and a share.",
)
def feedback_threshold(
    context: dg.SensorEvaluationContext, feedback_stream: KinesisFeedbackResource, store: StoreResource
) -> dg.SensorResult:
    """Count new feedback by bundle; request one retraining run for each bundle over the threshold."""
    positions, state = positions_and_state(context.cursor, store)
    batch = read_batch(feedback_stream, positions)
    if batch is None:
        reason = f"there is no stream {feedback_stream.stream_name}: `mangaassist bootstrap` makes it"
        return dg.SensorResult(skip_reason=dg.SkipReason(reason))
    events = [
        FeedbackEvent(event_id=event.event_id, release_bundle=event.release_bundle, feedback=event.feedback)
        for event in batch.events
    ]
    decision = decide(state, events, config=ThresholdConfig())
    cursor = to_cursor(dict(batch.cursor), decision.state)
    if not decision.fire:
        rejected = f"; {len(batch.rejects)} unreadable records" if batch.rejects else ""
        lost = f"; {len(batch.gaps)} places where records may be lost" if batch.gaps else ""
        return dg.SensorResult(skip_reason=dg.SkipReason(decision.reason + rejected + lost), cursor=cursor)
    context.log.info(decision.reason)
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key=firing_key(firing, batch.cursor),
                partition_key=firing.release_bundle,
                tags={"mangaassist/trigger": "feedback_threshold", "mangaassist/thumbs_down": str(firing.down)},
            )
            for firing in decision.fire
        ],
        dynamic_partitions_requests=[
            release_bundles.build_add_request(sorted({firing.release_bundle for firing in decision.fire}))
        ],
        cursor=cursor,
    )
