"""Who a turn counts for: one shopper has one voice, however much they write."""

from __future__ import annotations


def shopper_of(user_key: str | None, session_id: str) -> str:
    """Return the shopper's pseudonym, or the session where the shopper is not known."""
    return user_key or f"session:{session_id}"
