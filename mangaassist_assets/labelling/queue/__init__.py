"""The review queue: which turns people are asked about, and files for other labelling tools."""
