"""When two messages of different sessions are probably one person's, minutes apart: who logs in, or starts anew.

A session that ends and another that begins a moment later with nearly the same words look like two shoppers. On two
sides of a dataset they would be one conversation in train and in test.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mangaassist_assets.datasets.guards.near_duplicates import Fingerprint

WINDOW_MS = 10 * 60 * 1000
SIMILARITY = 0.6
"""Looser than a near-duplicate: whom nobody understood says it again in other words, and at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """A message with who wrote it and when."""

    name: str
    fingerprint: Fingerprint
    timestamp_ms: int
    session_id: str
    user_key: str | None

    def continues(self, other: Spoken) -> bool:
        """Return whether the two are probably one conversation; two known shoppers never are."""
        return (
            self.session_id != other.session_id
            and not (self.user_key and other.user_key)
            and abs(self.timestamp_ms - other.timestamp_ms) <= WINDOW_MS
            and self.fingerprint.reaches(SIMILARITY, other.fingerprint)
        )


class Conversations:
    """Messages by the time they were written, so that only those minutes apart are compared."""

    def __init__(self) -> None:
        self._by_window: dict[int, list[Spoken]] = {}

    def add(self, spoken: Spoken) -> None:
        """Add a message."""
        self._by_window.setdefault(spoken.timestamp_ms // WINDOW_MS, []).append(spoken)

    def continued_by(self, spoken: Spoken) -> Iterator[str]:
        """Yield the names of messages that this one is probably one conversation with, in an order that is fixed."""
        window = spoken.timestamp_ms // WINDOW_MS
        for near in (window - 1, window, window + 1):
            for other in self._by_window.get(near, ()):
                if spoken.continues(other):
                    yield other.name
