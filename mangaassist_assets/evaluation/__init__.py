"""Evaluation: metrics, paired and unpaired statistics, latency, calibration."""
