"""When two messages are the same message: the key under which near-duplicates meet.

Splits, the leakage guard and the search for conflicting labels share this one definition, so that what one of them
calls a duplicate no other lets pass.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

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
