"""Starts retraining when a release bundle has gathered enough thumbs-downs.

Reads feedback events that are new since the last tick, and counts the traces that carry a thumb: recent ones at each
tick, older ones now and then. The first tick starts where the last mining stopped: what a run has consumed already is
no news.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

from mangaassist_assets.jobs import RETRAINING
from mangaassist_assets.partitions import release_bundles
from mangaassist_assets.triggers.cursors import CursorError, cursor_from_json, cursor_to_json
from mangaassist_assets.triggers.feedback_threshold import FeedbackState, Firing, ThresholdConfig, decide
from mangaassist_assets.triggers.thumb_history import ThumbHistory, votes_on_traces
from mangaassist_assets.triggers.thumbs import PressedThumb, Votes
from resources.aws.clients import error_code
from resources.feedback.feedback_stream import FeedbackBatch, KinesisFeedbackResource
from resources.mlflow.tracking import MlflowResource
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
        state = {
            "positions": dict(self.positions),
            "history": self.history.to_json(),
            "counts": json.loads(self.counts.to_json()),
        }
        return cursor_to_json(_KIND, _VERSION, state)


def state_of(cursor: str | None, store: StoreResource) -> SensorState:
    """Return the state that a cursor holds; at the first tick, that after what was ingested and mined.

    Raises:
        CursorError: the cursor is of another sensor or version, or damaged.
    """
    if cursor:
        value = cursor_from_json(_KIND, _VERSION, cursor)
        positions = value.get("positions")
        if not isinstance(positions, dict):
            msg = f"the cursor of {_KIND} is damaged (positions): reset the sensor's cursor to start afresh"
            raise CursorError(msg)
        counts = FeedbackState.from_json(json.dumps(value.get("counts")))
        return SensorState(positions=positions, history=ThumbHistory.from_json(value.get("history")), counts=counts)
    from mangaassist_assets.assets.reading import read_mined_thumbs

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


@dg.sensor(
    name="feedback_threshold",
    job_name=RETRAINING,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Retrains on a release bundle when its thumbs-downs since the last firing reach a number and a share.",
)
def feedback_threshold(
    context: dg.SensorEvaluationContext,
    feedback_stream: KinesisFeedbackResource,
    mlflow: MlflowResource,
    store: StoreResource,
) -> dg.SensorResult:
    """Count the votes of all bundles; request one retraining run for each bundle over the threshold."""
    state = state_of(context.cursor, store)
    batch = read_batch(feedback_stream, state.positions)
    notes = ""
    if batch is None:
        # Thumbs may be on the traces alone.
        batch = FeedbackBatch(events=(), cursor=state.positions, rejects=())
        notes = f"; there is no stream {feedback_stream.stream_name}: `mangaassist bootstrap` makes it"
    thumbs = mlflow.thumbs()
    events = pressed_thumbs(batch)
    traces = thumbs.said_on([*state.counts.remembered, *events])
    votes, history = votes_on_traces(state.history, thumbs.after, now_ms=int(time.time() * 1000))
    decision = decide(state.counts, events, on_traces=votes, traces=traces, config=ThresholdConfig())
    cursor = replace(state, positions=batch.cursor, history=history, counts=decision.state).to_cursor()
    if not decision.fire:
        notes += f"; {len(batch.rejects)} unreadable records" if batch.rejects else ""
        notes += f"; {len(batch.gaps)} places where records may be lost" if batch.gaps else ""
        return dg.SensorResult(skip_reason=dg.SkipReason(decision.reason + notes), cursor=cursor)
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
