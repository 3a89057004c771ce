"""The trace contract: tags, spans, redaction, readers."""
