"""MLflow traces: read by SQL or REST, written over OTLP."""
