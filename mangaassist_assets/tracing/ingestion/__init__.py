"""Ingesting traces: read once in order, looked after when they change, stored by release bundle."""
