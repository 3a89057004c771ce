"""Evaluation: metrics, weighted and sequential comparisons, latency, calibration."""
