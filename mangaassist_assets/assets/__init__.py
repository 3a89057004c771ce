"""Thin assets: read inputs, call the domain, return figures and links."""
