"""The trace contract: names, the mapping of facts, and reading a trace as a chat turn."""
