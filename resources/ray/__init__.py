"""Training functions on the workers of a Ray cluster."""
