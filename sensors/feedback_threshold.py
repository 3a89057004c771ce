"""Starts retraining when the thumbs-downs of a release bundle have risen, and says why when it does not.

Reads the feedback events that are new since the last tick; what is remembered of earlier ones is a stored state that
the cursor names. A rise right after a change of production is not retrained away: the change is evaluated first.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from mangaassist_assets.jobs import CHAMPION_EVALUATION, RETRAINING, Job, configuration_refresh
from mangaassist_assets.partitions import release_bundles
from resources.feedback.feedback_stream import KinesisFeedbackResource
from resources.settings.privacy import PrivacyResource
from resources.settings.triggers import TriggersResource
from resources.store import StoreResource

if TYPE_CHECKING:
    from mangaassist_assets.triggers.feedback_trigger import BundleEvaluation
    from mangaassist_assets.triggers.production_changes import ProductionChange
    from mangaassist_assets.triggers.trigger_state import TriggerState

LEDGER = dg.AssetKey("trigger_ledger")
SENSOR = "feedback_threshold"
_BUNDLE = "mangaassist/release_bundle"


def build_feedback_sensor(retraining: Job, champion_evaluation: Job) -> dg.SensorDefinition:
    """Return the sensor; it requests runs of these jobs and of `configuration_refresh`."""

    @dg.sensor(
        name=SENSOR,
        jobs=[retraining, champion_evaluation, configuration_refresh],
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Retrains on a release bundle when its share of thumbs-downs has risen: overall, of an intent, a "
        "failure cluster or a stage. After a change of production it asks for an evaluation of that instead.",
    )
    def feedback_threshold(
        context: dg.SensorEvaluationContext,
        feedback_stream: KinesisFeedbackResource,
        privacy: PrivacyResource,
        store: StoreResource,
        triggers: TriggersResource,
    ) -> dg.SensorResult:
        return _tick(context, feedback_stream, privacy, store, triggers)

    return feedback_threshold


def _tick(
    context: dg.SensorEvaluationContext,
    feedback_stream: KinesisFeedbackResource,
    privacy: PrivacyResource,
    store: StoreResource,
    triggers: TriggersResource,
) -> dg.SensorResult:
    """Hear what is new, evaluate all bundles, keep state and ledger, and return what to run or why nothing is."""
    from dataclasses import replace

    from mangaassist_assets.models.pipelines import registered_pipelines
    from mangaassist_assets.tracing.erasure import erased_users
    from mangaassist_assets.triggers.feedback_trigger import evaluate
    from mangaassist_assets.triggers.ledger import TriggerLedger, rows_of
    from mangaassist_assets.triggers.production_changes import find_changes
    from mangaassist_assets.triggers.state_files import TriggerFiles
    from mangaassist_assets.triggers.votes import digest
    from sensors.feedback_state import EVENTS_PER_TICK, Cursor, arrivals_of, begin, look_up

    now = datetime.now(UTC)
    now_ms = round(now.timestamp() * 1000)
    config = triggers.feedback(store.inputs())
    snapshots, files = store.snapshots(), TriggerFiles(store.path())
    beginning = begin(context.cursor, store)
    batch = feedback_stream.read_if_there(beginning.positions, limit=EVENTS_PER_TICK)
    arrivals = [] if batch is None else arrivals_of(batch.events, privacy.pseudonym_key())
    known = set(release_bundles.get_partition_keys(dynamic_partitions_store=context.instance))
    found, order = look_up(store, beginning.state, arrivals, known)
    endpoints = {one.endpoint_asset: one.endpoint_name for one in registered_pipelines()}
    evaluation = evaluate(
        replace(beginning.state, read=found.read),
        arrivals,
        known=known,
        order=order,
        facts=found.facts,
        changes=lambda from_ms, until_ms: find_changes(snapshots, from_ms, until_ms, endpoints=endpoints),
        now_ms=now_ms,
        config=config,
        erased={digest(user) for user in erased_users(snapshots)},
    )
    requests = [request for one in evaluation.bundles for request in _requests(evaluation.state, one)]
    keys = {request.partition_key or request.tags[_BUNDLE]: str(request.run_key) for request in requests}
    TriggerLedger(store.path()).append(rows_of(evaluation, at_ms=now_ms, run_keys=keys))
    positions = beginning.positions if batch is None else batch.cursor
    cursor = Cursor(positions=positions, state=files.write(evaluation.state))
    notes = [beginning.note] if beginning.note else []
    if batch is None:
        notes.append(f"there is no stream {feedback_stream.stream_name}: `mangaassist bootstrap` makes it")
    else:
        notes += [f"{len(batch.rejects)} unreadable records"] if batch.rejects else []
        notes += [f"{len(batch.gaps)} places where records may be lost"] if batch.gaps else []
    reason = "; ".join([*notes, evaluation.reason()])
    files.clear(beginning.digest, now=now)
    files.sign(beginning.positions, reason=reason, now_ms=now_ms)
    if not requests:
        return dg.SensorResult(skip_reason=dg.SkipReason(reason), cursor=cursor.to_text())
    context.log.info(reason)
    return dg.SensorResult(
        run_requests=requests,
        cursor=cursor.to_text(),
        asset_events=[_observation(one) for one in evaluation.bundles if one.outcome in {"fired", "held"}],
    )


def _requests(state: "TriggerState", evaluated: "BundleEvaluation") -> list[dg.RunRequest]:
    from mangaassist_assets.triggers.feedback_trigger import run_key

    if evaluated.outcome == "fired":
        return [
            dg.RunRequest(
                job_name=RETRAINING,
                run_key=run_key(state, evaluated),
                partition_key=evaluated.release_bundle,
                tags=_tags(evaluated),
            )
        ]
    by_job: dict[str, list[ProductionChange]] = {}
    for change in evaluated.ask:
        by_job.setdefault(CHAMPION_EVALUATION if change.is_endpoint else configuration_refresh.name, []).append(change)
    return [
        dg.RunRequest(
            job_name=job,
            run_key=f"{run_key(state, evaluated)}-held-{job}-{max(one.at_ms for one in changes)}",
            tags={
                **_tags(evaluated),
                _BUNDLE: evaluated.release_bundle,
                "mangaassist/changed": "; ".join(map(str, changes)),
            },
        )
        for job, changes in sorted(by_job.items())
    ]


def _tags(evaluated: "BundleEvaluation") -> dict[str, str]:
    firing = next(one for one in evaluated.nearest if one.fires)
    return {
        "mangaassist/trigger": SENSOR,
        "mangaassist/epoch": str(evaluated.epoch),
        "mangaassist/stream": firing.stream,
        "mangaassist/evidence": f"{firing.evidence:.4g} of {firing.needed:.4g}",
        "mangaassist/thumbs_down": f"{firing.down:.0f}",
        "mangaassist/thumbs": f"{firing.votes:.0f}",
        "mangaassist/share": f"{firing.share:.3f} after {firing.share_before:.3f} of {firing.reference_votes:.0f}",
        "mangaassist/shoppers": str(firing.shoppers),
    }


def _observation(evaluated: "BundleEvaluation") -> dg.AssetObservation:
    firing = next(one for one in evaluated.nearest if one.fires)
    return dg.AssetObservation(
        asset_key=LEDGER,
        description=f"{evaluated.release_bundle} {evaluated.outcome}: {evaluated.sentence}",
        metadata={
            "release_bundle": evaluated.release_bundle,
            "outcome": evaluated.outcome,
            "epoch": evaluated.epoch,
            "stream": firing.stream,
            "evidence": firing.evidence,
            "needed_evidence": firing.needed,
            "share": firing.share,
            "share_before": firing.share_before,
        },
    )
