"""Words of a message, for comparing and naming: Latin-like words as they are, Japanese and Chinese as bigrams.

Japanese is written without spaces; two neighbouring characters are the usual stand-in for a word where no
morphological dictionary is at hand.
"""

from __future__ import annotations

import re
import unicodedata

_IDEOGRAPHIC = r"\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uff66-\uff9f々ー"
_PIECES = re.compile(rf"[{_IDEOGRAPHIC}]+|[^\W_{_IDEOGRAPHIC}]+(?:['’][^\W_{_IDEOGRAPHIC}]+)?")
_IS_IDEOGRAPHIC = re.compile(rf"^[{_IDEOGRAPHIC}]")
_HIRAGANA_ONLY = re.compile(r"^[\u3040-\u309f]+$")
_PLACEHOLDER = re.compile(r"\[[A-Z][A-Z_]{1,30}(?:_[0-9a-z]{2})?\]|<[A-Z][A-Z_]{1,30}>")

_STOP_WORDS = """
    a about after again all also am an and any are aren't as at be because been before being but by can
    can't cannot could couldn't did didn't do does doesn't doing don't dont for from get gets getting
    give given go goes going got had has hasn't have haven't having he hello help her here hey hi him
    his how i i'd i'll i'm i've if im in into is isn't it it's its ive just know let like make me mine
    more most much my need no not now of off on once one only or other our out over own please pls plz
    really same see she should show since so some still such tell than thank thanks that that's the
    their them then there there's these they thing this those to too u until up ur us use very want
    wanna was wasn't we were what what's when where where's which while who why will with won't would
    wouldn't yes yet you your you're
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())


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


def telling_words(text: str) -> list[str]:
    """Return the words that can name a subject: no stop words, numbers, single letters or pure-hiragana endings."""
    return [
        word
        for word in words_of(text)
        if len(word) > 1 and word not in STOP_WORDS and not word.isdecimal() and not _HIRAGANA_ONLY.match(word)
    ]


def word_overlap(first: str, second: str) -> float:
    """Return the Jaccard similarity of two messages' sets of words, 0 to 1; two wordless messages give 0."""
    a, b = set(words_of(first)), set(words_of(second))
    return len(a & b) / len(a | b) if a and b else 0.0
