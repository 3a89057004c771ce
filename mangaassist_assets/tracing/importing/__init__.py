"""Traces from files: reading, validation, redaction, grouping, and what a store still lacks of them.

Pure: nothing here talks to a server. `resources.mlflow.traces.importer` writes what this package prepares.
"""
