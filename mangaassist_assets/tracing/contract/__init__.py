"""The trace contract in plain values: names, trace records, chat turns, trace ids, and values of any type."""
