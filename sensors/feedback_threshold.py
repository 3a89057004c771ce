"""Starts retraining when a release bundle has gathered enough thumbs-downs.

Reads feedback events that are new since the last tick, and counts the traces that carry a thumb: recent ones at each
tick, older ones now and then. The first tick starts where the last mining stopped: what a run has consumed already is
no news.
"""

import time
from dataclasses import replace

import dagster as dg

from mangaassist_assets.jobs import RETRAINING
from mangaassist_assets.partitions import release_bundles
from resources.feedback.feedback_stream import KinesisFeedbackResource
from resources.mlflow.tracking import MlflowResource
from resources.store import StoreResource


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
    from mangaassist_assets.tracing.feedback.sources import FeedbackBatch
    from mangaassist_assets.triggers.feedback_threshold import ThresholdConfig, decide
    from mangaassist_assets.triggers.thumbs import votes_on_traces
    from sensors.feedback_state import firing_key, pressed_thumbs, read_batch, state_of

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
