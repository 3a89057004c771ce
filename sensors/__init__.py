"""Sensors, one module per external signal."""

import dagster as dg

from mangaassist_assets.jobs import Job
from sensors.automation import declared_conditions
from sensors.configuration_versions import configuration_versions
from sensors.feedback_threshold import build_feedback_sensor
from sensors.knowledge_documents import knowledge_documents
from sensors.new_release_bundles import new_release_bundles
from sensors.release_after_retraining import build_release_sensors


def build_sensors(retraining: Job, champion_evaluation: Job) -> tuple[dg.SensorDefinition, ...]:
    """Return all sensors; some request or watch the runs of these jobs, which are made of the model pipelines."""
    return (
        build_feedback_sensor(retraining, champion_evaluation),
        configuration_versions,
        new_release_bundles,
        knowledge_documents,
        declared_conditions,
        *build_release_sensors(retraining),
    )
