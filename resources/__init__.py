"""Thin clients for external systems, one module per system."""
