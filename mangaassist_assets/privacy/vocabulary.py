"""The store's own words: titles, characters and authors that are no personal data though they look like names."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

_SPACES = re.compile(r"[\s・\-]+")
_LONGEST = 120
_WORDS = 8


class Vocabulary:
    """Phrases that redaction leaves alone, compared without case, width and spacing.

    A found name is allowed when it lies inside a phrase of the vocabulary as the text spells it; a name that the
    sentence claims for a person ("my name is Ken") is never allowed. The same holds for what looks like an address or a
    self-description inside a title ("3 Lantern Street").
    """

    def __init__(self, phrases: Iterable[str]) -> None:
        folded = (_fold(phrase) for phrase in phrases)
        self._phrases = frozenset(phrase for phrase in folded if 2 <= len(phrase) <= _LONGEST)

    @property
    def digest(self) -> str:
        """A hash of the phrases: what was redacted with other words has to be read again."""
        content = "\n".join(sorted(self._phrases)).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(content, digest_size=8).hexdigest()

    def __len__(self) -> int:
        return len(self._phrases)

    def covers(self, text: str, start: int, end: int) -> bool:
        """Return whether `[start, end)` lies inside a phrase of the vocabulary."""
        if _fold(text[start:end]) in self._phrases:
            return True
        low, high = max(0, start - _LONGEST), min(len(text), end + _LONGEST)
        starts = _edges(text, low, start, reverse=True)
        ends = _edges(text, end, high, reverse=False)
        return any(_fold(text[first:last]) in self._phrases for first in starts for last in ends)


def _edges(text: str, low: int, high: int, *, reverse: bool) -> list[int]:
    """Return up to eight places where a phrase may begin before a name, or end after it."""
    places = range(high, low - 1, -1) if reverse else range(low, high + 1)
    found: list[int] = []
    for place in places:
        inside = 0 < place < len(text) and _is_latin(text[place - 1]) and _is_latin(text[place])
        if not inside:
            found.append(place)
        if len(found) == _WORDS * 2:
            break
    return found


def _is_latin(character: str) -> bool:
    return character.isalpha() and character < "\u3000"


def _fold(phrase: str) -> str:
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", phrase).casefold()).strip(" .,!?'\"")
