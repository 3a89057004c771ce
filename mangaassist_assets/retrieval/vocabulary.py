"""The store's own words out of its knowledge: titles, authors, characters; they look like names, but are nobody's.

What belongs here is which fields of a document name a work or its people; what redaction does with the words belongs
to `tracing.redaction`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Protocol

# As catalogues call their columns: works, their people and their makers. `romaji` and `japanese` are other spellings.
_FIELDS = re.compile(
    r"(?:(?:alt(?:ernative)?_?|other_?|original_?)?(?:title|name|series)s?|authors?|artists?|writers?|illustrators?|"
    r"mangaka|creators?|characters?|publishers?|imprint|romaji|japanese|kana|作者|著者|作画|原作|題名|シリーズ|出版社)",
    re.IGNORECASE,
)
_SEPARATORS = re.compile(r"[;|,、\n]|\s/\s|\s&\s")
_LONGEST = 120


class TitledText(Protocol):
    """A document or a chunk of one."""

    @property
    def title(self) -> str:
        """What it is called."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Its short fields."""


def store_phrases(texts: Iterable[TitledText]) -> tuple[str, ...]:
    """Return the titles and the values of fields that name works and their people, sorted, each once."""
    phrases: set[str] = set()
    for text in texts:
        phrases.add(text.title.strip())
        for field, value in text.metadata.items():
            if _FIELDS.fullmatch(field.strip()):
                phrases.add(value.strip())
                phrases.update(part.strip() for part in _SEPARATORS.split(value))
    return tuple(sorted(phrase for phrase in phrases if 2 <= len(phrase) <= _LONGEST))
