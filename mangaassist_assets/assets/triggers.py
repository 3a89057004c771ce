"""The trigger ledger: what the feedback trigger saw and decided."""

import dagster as dg
from pydantic import Field

from mangaassist_assets.assets.common import PLATFORM, image, materialized
from mangaassist_assets.assets.declaring import declared_asset
from resources.store import StoreResource


class TriggerLedgerConfig(dg.Config):
    """How much of the ledger is shown."""

    days: int = Field(default=7, ge=1, le=366, description="Days of the ledger that chart and counts are of.")


@declared_asset(
    outside="the feedback stream", group_name="triggers", owners=[PLATFORM], kinds={"json"}, code_version="1"
)
def trigger_ledger(
    context: dg.AssetExecutionContext, config: TriggerLedgerConfig, store: StoreResource
) -> dg.MaterializeResult[None]:
    """What the feedback trigger saw and decided in the last days: evidence of a rise against what is needed.

    One row of the ledger is one evaluation of one release bundle with new thumbs, with its numbers; the sensor
    `feedback_threshold` writes it, for ever, and observes this asset when a bundle fires or is held. Made again, this
    asset shows the last days and since when the trigger is at work; `mangaassist triggers explain` replays a day.
    """
    from datetime import UTC, datetime, timedelta

    from mangaassist_assets.core.snapshots import canonical_json
    from mangaassist_assets.triggers.ledger import TriggerLedger, ledger_chart, summary
    from mangaassist_assets.triggers.state_files import TriggerFiles

    ledger, alive = TriggerLedger(store.path()), TriggerFiles(store.path()).alive()
    since = datetime.now(UTC).date() - timedelta(days=config.days)
    rows = [row for day in ledger.days() if day > since for row in ledger.rows(day)]
    counts = summary(rows)
    snapshot = store.step(context).keep({"summary.json": canonical_json({"days": config.days, "outcomes": counts})})
    evaluated = "never" if alive is None else datetime.fromtimestamp(alive.evaluated_ms / 1000, UTC).isoformat()
    context.log.info(f"{len(rows)} evaluations in {config.days} days, the last evaluation {evaluated}")
    return materialized(
        snapshot,
        {
            "evaluations": len(rows),
            "last_evaluation": evaluated,
            "last_reason": "none" if alive is None else alive.reason,
            "outcomes": [
                {"bundle": bundle, "outcome": outcome, "times": times}
                for bundle, outcomes in sorted(counts.items())
                for outcome, times in sorted(outcomes.items())
            ],
            "chart": image(
                "evidence of a rise over what is needed",
                ledger_chart(rows, title=f"Feedback trigger, the last {config.days} days"),
            ),
        },
    )
