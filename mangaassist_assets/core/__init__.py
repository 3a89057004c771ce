"""What every subject stands on: snapshots, ingestion tables, whole-file writes, intervals, plotting."""
