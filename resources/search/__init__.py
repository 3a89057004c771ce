"""Search indexes and embedders."""
