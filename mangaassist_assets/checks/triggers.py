"""The check of the feedback trigger: is it at work?"""

import dagster as dg

from mangaassist_assets.assets.common import check_result
from resources.feedback.feedback_stream import KinesisFeedbackResource
from resources.settings.triggers import TriggersResource
from resources.store import StoreResource

_LIMIT = 5_000


@dg.asset_check(
    asset="trigger_ledger",
    name="feedback_trigger_at_work",
    blocking=False,
    description="The sensor feedback_threshold was evaluated lately, and its cursor moves while events come.",
)
def feedback_trigger_at_work(
    feedback_stream: KinesisFeedbackResource, store: StoreResource, triggers: TriggersResource
) -> dg.AssetCheckResult:
    """Read the trigger's last sign of life, and how many events wait behind its cursor."""
    from datetime import UTC, datetime

    from mangaassist_assets.triggers.state_files import TriggerFiles, silence

    alive = TriggerFiles(store.path()).alive()
    batch = None if alive is None else feedback_stream.read_if_there(alive.positions, limit=_LIMIT)
    waiting = 0 if batch is None else batch.size
    silent = silence(
        alive,
        waiting=waiting,
        now_ms=round(datetime.now(UTC).timestamp() * 1000),
        silent_minutes=triggers.feedback(store.inputs()).silent_minutes,
    )
    return check_result(
        [] if silent is None else [silent],
        {"events_waiting": waiting},
        all_well="" if alive is None else f"at work: {alive.reason}",
        severity=dg.AssetCheckSeverity.WARN,
    )
