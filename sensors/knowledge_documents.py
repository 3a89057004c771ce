"""Refreshes the index when documents of the knowledge folder changed and the folder is at rest."""

import dagster as dg

from mangaassist_assets.jobs import index_refresh
from resources.settings.knowledge import KnowledgeResource

_KIND = "knowledge_documents"
_VERSION = 1


@dg.sensor(
    name="knowledge_documents",
    job=index_refresh,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Requests an index refresh when a document of the knowledge folder was added, changed or taken away and the "
        "folder was the same at two looks. Files are compared by size and time of change; the refresh by content."
    ),
)
def knowledge_documents(
    context: dg.SensorEvaluationContext, knowledge: KnowledgeResource
) -> dg.SensorResult | dg.SkipReason:
    """Compare the folder with that of the last ticks; request one refresh for all that changed."""
    from mangaassist_assets.triggers.cursors import from_cursor, to_cursor
    from mangaassist_assets.triggers.knowledge_changes import KnowledgeState, fingerprint, look

    before = from_cursor(_KIND, _VERSION, context.cursor, KnowledgeState)
    try:
        now = fingerprint(knowledge.path())
    except OSError as error:
        return dg.SkipReason(f"the knowledge folder cannot be listed ({error.strerror}): the next tick looks again")
    found = look(before, now)
    cursor = to_cursor(_KIND, _VERSION, found.state)
    if found.run_key is None:
        return dg.SensorResult(skip_reason=dg.SkipReason(found.reason), cursor=cursor)
    context.log.info(found.reason)
    request = dg.RunRequest(run_key=found.run_key, tags={"mangaassist/trigger": "knowledge_documents"})
    return dg.SensorResult(run_requests=[request], cursor=cursor)
