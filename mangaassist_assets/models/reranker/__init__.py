"""The cross-encoder reranker."""
