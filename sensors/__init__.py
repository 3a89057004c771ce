"""Sensors, one module per external signal."""

from sensors.configuration_versions import configuration_versions
from sensors.feedback_threshold import feedback_threshold
from sensors.new_release_bundles import new_release_bundles
from sensors.release_after_retraining import release_after_gated_retraining, release_after_retraining

ALL_SENSORS = (
    feedback_threshold,
    configuration_versions,
    new_release_bundles,
    release_after_retraining,
    release_after_gated_retraining,
)
