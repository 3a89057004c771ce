"""Sensors, one module per external signal."""

import dagster as dg

from mangaassist_assets.jobs import Job
from sensors.automation import declared_conditions
from sensors.configuration_versions import configuration_versions
from sensors.feedback_threshold import feedback_threshold
from sensors.knowledge_documents import knowledge_documents
from sensors.new_release_bundles import new_release_bundles
from sensors.release_after_retraining import build_release_sensors


def build_sensors(retraining: Job) -> tuple[dg.SensorDefinition, ...]:
    """Return all sensors; some watch the runs of the job `retraining`, which is made of the model pipelines."""
    return (
        feedback_threshold,
        configuration_versions,
        new_release_bundles,
        knowledge_documents,
        declared_conditions,
        *build_release_sensors(retraining),
    )
