"""Lineage: from data to datasets and models, and back."""
