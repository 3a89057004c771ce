"""Retrieval: chunks, embeddings, index generations, ranking and its evaluation."""
