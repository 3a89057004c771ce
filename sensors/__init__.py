"""Sensors, one module per external signal."""
