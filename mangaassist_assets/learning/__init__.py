"""Learning as a library: encoders, the intent classifier, the reranker, metrics, significance tests, gates."""
