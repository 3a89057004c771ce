"""Placeholders that stay the same inside one conversation and differ in every other."""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata

from mangaassist_assets.privacy.detections import Kind
from mangaassist_assets.privacy.folding import KANJI_DIGITS, PLACEHOLDER, fold

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_SEPARATORS = re.compile(r"[\s\-ー.()・,_]+")
_NUMERIC = frozenset(
    {Kind.PHONE, Kind.CARD, Kind.MY_NUMBER, Kind.NATIONAL_ID, Kind.POSTAL_CODE, Kind.ORDER_ID, Kind.ADDRESS}
)


def conversation_key(session_id: str, key: bytes) -> bytes:
    """Return the key of one conversation: HMAC-SHA-256 of its session under the pseudonym key."""
    return hmac.new(key, b"conversation:" + session_id.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()


def placeholder(kind: Kind, value: str, conversation: bytes | None) -> str:
    """Return `[NAME]`, or inside a conversation `[NAME_7q]`.

    The suffix is ten bits of a keyed hash of the normalised value. It shows that two mentions in one conversation are
    the same. It cannot be turned back: it is 1,024 drawers for all values there are, so even someone who holds the
    key finds thousands of names in each, and without the key the drawers of two conversations have nothing in common.
    Two values of one conversation share a drawer once in 1,024 pairs.
    """
    if conversation is None:
        return f"[{kind}]"
    message = f"{kind}\x00{normalized(kind, value)}".encode("utf-8", "surrogatepass")
    digest = hmac.new(conversation, message, hashlib.sha256).digest()
    return f"[{kind}_{_ALPHABET[digest[0] & 31]}{_ALPHABET[digest[1] & 31]}]"


def normalized(kind: Kind, value: str) -> str:
    """Return a value as it compares: one width, one case, no spaces, dashes or brackets; kanji digits as digits."""
    plain = _SEPARATORS.sub("", fold(unicodedata.normalize("NFKC", fold(value)))).casefold()
    return plain.translate(KANJI_DIGITS) if kind in _NUMERIC else plain


def plain_placeholders(text: str) -> str:
    """Return the text with `[NAME_7q]` as `[NAME]`: what a model learns must not know one conversation's suffixes."""
    return PLACEHOLDER.sub(lambda match: f"[{match.group(1)}]", text)
