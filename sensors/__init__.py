"""Sensors, one module per external signal."""

from sensors.configuration_versions import configuration_versions
from sensors.feedback_threshold import feedback_threshold
from sensors.new_release_bundles import new_release_bundles

ALL_SENSORS = (feedback_threshold, configuration_versions, new_release_bundles)
