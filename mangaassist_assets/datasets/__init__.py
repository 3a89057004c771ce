"""Datasets: where messages come from, how versions are built, checked for leaks and poison, sealed and stored."""
