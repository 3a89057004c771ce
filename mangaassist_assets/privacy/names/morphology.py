"""Japanese morphemes by SudachiPy and its core dictionary: surface, place, and what a word says of people."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sudachipy import Dictionary, Tokenizer

# Sudachi refuses texts of more than 49,149 bytes; three bytes a character leave room.
_CHUNK = 10_000
_LOCAL = threading.local()


class Word(Enum):
    """What a morpheme may be to a name."""

    FAMILY = "family name"
    GIVEN = "given name"
    PERSON = "person"
    PLACE = "place"
    NOUN = "noun"
    SPACE = "space"
    SIGN = "sign"
    INTERJECTION = "interjection"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Morpheme:
    """One morpheme: `[start, end)` in characters of the text."""

    start: int
    end: int
    surface: str
    word: Word


@cache
def core_dictionary() -> Dictionary:
    """Return Sudachi's core dictionary, loaded once a process: it takes 80 MB."""
    from sudachipy import Dictionary

    return Dictionary(dict="core")


def _tokenizer() -> Tokenizer:
    # A tokenizer keeps buffers of its own and belongs to one thread; the dictionary is shared.
    if not hasattr(_LOCAL, "tokenizer"):
        _LOCAL.tokenizer = core_dictionary().tokenizer("A", fields={"surface", "pos"})
    tokenizer: Tokenizer = _LOCAL.tokenizer
    return tokenizer


@cache
def _word_of(part_of_speech: tuple[str, ...]) -> Word:
    first, second, third, fourth = part_of_speech[:4]
    if third == "人名":
        return {"姓": Word.FAMILY, "名": Word.GIVEN}.get(fourth, Word.PERSON)
    if third == "地名":
        return Word.PLACE
    if first == "名詞":
        return Word.NOUN if second in {"普通名詞", "固有名詞"} else Word.OTHER
    return {"空白": Word.SPACE, "補助記号": Word.SIGN, "感動詞": Word.INTERJECTION}.get(first, Word.OTHER)


def morphemes(text: str) -> Iterator[Morpheme]:
    """Yield the morphemes of a text of any length, in chunks that end after a sentence where one does."""
    position = 0
    while position < len(text):
        end = _chunk_end(text, position)
        for found in _tokenizer().tokenize(text[position:end]):
            start = position + found.begin()
            yield Morpheme(start, position + found.end(), found.surface(), _word_of(tuple(found.part_of_speech())))
        position = end


def _chunk_end(text: str, start: int) -> int:
    end = min(start + _CHUNK, len(text))
    if end == len(text):
        return end
    cut = max(text.rfind(sign, end - 200, end) for sign in "。\n、 ")
    return cut + 1 if cut > start else end
