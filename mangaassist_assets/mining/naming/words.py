"""Words of a message, for comparing: Latin-like words as they are, Japanese and Chinese as bigrams.

Japanese is written without spaces; two neighbouring characters are the usual stand-in for a word where speed matters
more than grammar. Words that people read come from `name_words`.
"""

from __future__ import annotations

import re
import unicodedata

_IDEOGRAPHIC = r"\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uff66-\uff9f々ー"
_PIECES = re.compile(rf"[{_IDEOGRAPHIC}]+|[^\W_{_IDEOGRAPHIC}]+(?:['’][^\W_{_IDEOGRAPHIC}]+)?")
_IS_IDEOGRAPHIC = re.compile(rf"^[{_IDEOGRAPHIC}]")
_PLACEHOLDER = re.compile(r"\[[A-Z][A-Z_]{1,30}(?:_[0-9a-z]{2})?\]|<[A-Z][A-Z_]{1,30}>")


def words_of(text: str) -> list[str]:
    """Return the words of a message in order, folded in case and width; redaction placeholders are no words."""
    folded = unicodedata.normalize("NFKC", _PLACEHOLDER.sub(" ", text)).casefold()
    found: list[str] = []
    for match in _PIECES.finditer(folded):
        piece = match.group()
        if _IS_IDEOGRAPHIC.match(piece) and len(piece) > 2:
            found.extend(piece[start : start + 2] for start in range(len(piece) - 1))
        else:
            found.append(piece)
    return found


def word_overlap(first: str, second: str) -> float:
    """Return the Jaccard similarity of two messages' sets of words, 0 to 1; two wordless messages give 0."""
    a, b = set(words_of(first)), set(words_of(second))
    return len(a & b) / len(a | b) if a and b else 0.0
