"""Blocking asset checks: the gates."""
