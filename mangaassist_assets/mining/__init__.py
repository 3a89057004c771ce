"""Failure signals, blame, clusters, their identity and names."""
