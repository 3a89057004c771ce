"""Feedback events: parsed, joined with their traces, stored once each, recorded on the traces."""
