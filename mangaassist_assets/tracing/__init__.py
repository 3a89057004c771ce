"""Traces: contract, adapters of other tools, ingestion, feedback, importing, erasure."""
