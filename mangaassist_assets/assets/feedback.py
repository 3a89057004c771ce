"""Feedback: what shoppers' thumbs said, by release bundle. Counting them for triggers belongs to the sensor."""

import dagster as dg

from mangaassist_assets.assets.common import FEEDBACK_STREAM_POOL, PLATFORM, materialized
from mangaassist_assets.partitions import release_bundles
from resources.feedback_stream import KinesisFeedbackResource
from resources.store import StoreResource


@dg.asset(
    partitions_def=release_bundles,
    group_name="feedback",
    owners=[PLATFORM],
    kinds={"kinesis", "json"},
    pool=FEEDBACK_STREAM_POOL,
    code_version="1",
)
def feedback_events(
    context: dg.AssetExecutionContext, feedback_stream: KinesisFeedbackResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """Thumbs of one release bundle, distinct by event id, oldest first.

    One row is one feedback event from the Kinesis stream `mangaassist-feedback`. Materializing any bundle first lands
    what is new in the whole stream, with the position in it; records that are no events are kept with their reasons.
    """
    from mangaassist_assets.storage import canonical_json

    landing = store.feedback_landing()
    landed = rejected = 0
    while True:
        batch = feedback_stream.read_new(landing.cursor())
        if not landing.append(
            events=[event.to_dict() for event in batch.events],
            rejects=[reject.to_dict() for reject in batch.rejects],
            cursor=batch.cursor,
        ):
            break
        landed += len(batch.events)
        rejected += len(batch.rejects)
    table = landing.table(context.partition_key)
    context.log.info(f"landed {landed} new events of all bundles, {rejected} unreadable records")
    snapshot = store.snapshots().write(
        "feedback_events", {"events.json": canonical_json(list(table.events))}, partition=context.partition_key
    )
    return materialized(
        snapshot,
        {
            "dagster/row_count": dg.MetadataValue.int(len(table.events)),
            "thumbs_up": dg.MetadataValue.int(table.count("thumbs_up")),
            "thumbs_down": dg.MetadataValue.int(table.count("thumbs_down")),
            "duplicates_dropped": dg.MetadataValue.int(table.duplicates),
            "newly_landed": dg.MetadataValue.int(landed),
            "newly_rejected": dg.MetadataValue.int(rejected),
        },
    )
