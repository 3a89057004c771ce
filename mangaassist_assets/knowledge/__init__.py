"""Knowledge documents, chunks, embeddings, index generations and their verification."""
