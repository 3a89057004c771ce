"""What can be read off a message: the key under which near-duplicates meet, its language by script, its length.

Splits, the leakage guard and the search for conflicting labels share one key, so that what one of them calls a
duplicate no other lets pass. Language and length are coarse on purpose: they divide a test set for the gate, which
wants few slices of many examples, and describe a dataset in its card, without a model that could itself be wrong.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Literal

Language = Literal["ja", "en", "other"]
Length = Literal["short", "medium", "long"]

_SHORT_WORDS = 5
_MEDIUM_WORDS = 12
_JAPANESE_CHARACTERS_PER_WORD = 2
_LETTERS_PER_JAPANESE_CHARACTER = 2  # a word of English has four or five letters
_CHARACTERS_READ = 2_000
_PLACEHOLDER = re.compile(r"\[[A-Z][A-Z_]+(?:_[0-9a-z]{2})?\]")
_REPEATED = re.compile(r"(.)\1{2,}", re.DOTALL)


def normalise_text(text: str) -> str:
    """Return the near-duplicate key of a message.

    Case, width (full-width forms), punctuation, white space and drawn-out letters ("sooo") do not make a message
    another one; numbers, emoji and every script's letters do. A message of punctuation alone keeps it.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = "".join(" " if unicodedata.category(character)[0] in "PZC" else character for character in folded).split()
    if not words:
        return " ".join(folded.split())
    return _REPEATED.sub(r"\1\1", " ".join(words))


def text_digest(text: str) -> str:
    """Return the SHA-256 of the near-duplicate key, in hexadecimal."""
    return hashlib.sha256(normalise_text(text).encode("utf-8", errors="surrogatepass")).hexdigest()


def language_of(text: str) -> Language:
    """Return the language that most of the message is written in, by script: Japanese, English, or another, or none.

    Latin letters count as English, kana and Chinese characters as Japanese. One Japanese character weighs as much as
    two letters, for it says as much. Where two scripts weigh the same, Japanese wins over English, and English over
    others. So a title in the other script does not decide: "any copies of 進撃の巨人?" is English, "OnePiece を探して"
    is Japanese. Neither do placeholders of redaction, which are not the shopper's words.
    """
    read = _PLACEHOLDER.sub(" ", text[:_CHARACTERS_READ])
    if read.isascii():
        return "en" if any(map(str.isalpha, read)) else "other"
    japanese = latin = other = 0
    for character in read:
        if _is_japanese(character):
            japanese += _LETTERS_PER_JAPANESE_CHARACTER
        elif character.isalpha():
            if unicodedata.name(character, "").startswith(("LATIN", "FULLWIDTH LATIN")):
                latin += 1
            else:
                other += 1
    most = max(japanese, latin, other)
    if most == 0:
        return "other"
    if japanese == most:
        return "ja"
    return "en" if latin == most else "other"


def length_slice(text: str) -> Length:
    """Return `short` for up to 5 words, `medium` for up to 12, else `long`; two Japanese characters are one word."""
    read = text[:_CHARACTERS_READ]
    japanese = sum(_is_japanese(character) for character in read)
    spaced = "".join(" " if _is_japanese(character) else character for character in read)
    words = len(spaced.split()) + -(-japanese // _JAPANESE_CHARACTERS_PER_WORD)
    if words <= _SHORT_WORDS:
        return "short"
    return "medium" if words <= _MEDIUM_WORDS else "long"


def _is_japanese(character: str) -> bool:
    """Whether a character is kana, or a Chinese character as Japanese uses them too."""
    place = ord(character)
    return (
        (0x3041 <= place <= 0x30FF and character != "・")
        or 0x3400 <= place <= 0x9FFF
        or 0xFF66 <= place <= 0xFF9F
        or character == "々"
    )
