"""Clients of external systems as Dagster resources, one folder per system."""
