"""Satisfaction: the share of thumbs that point up, how sure that is, and whether it moved."""
