"""Ids that name people: pseudonyms of users, and what may be kept of ids that come from outside.

Every session, response or tenant that is written anywhere goes through `kept_id`, whoever named it. So the same
session has the same id on its trace, in the ingested turns and in its feedback.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from functools import lru_cache

from mangaassist_assets.privacy.detections import Kind
from mangaassist_assets.privacy.redaction import redact

_PSEUDONYM = re.compile(r"u-[0-9a-f]{20}")
# A UUID or a long hexadecimal number, behind a word or not, in which chance may write a telephone number.
_GENERATED = re.compile(
    r"(?:[A-Za-z]{1,12}[-_])?"
    r"(?:[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|(?=[0-9]*[a-fA-F])[0-9a-fA-F]{16,64})"
    r"|[a-z]-[0-9a-f]{20}"
)
_NAMES = frozenset({Kind.NAME, Kind.PROFILE})


def pseudonym(value: str, key: bytes, *, prefix: str = "u") -> str:
    """Return a keyed hash of an identifier (HMAC-SHA-256, 20 hex digits), so that no id can be guessed back."""
    digest = hmac.new(key, value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
    return f"{prefix}-{digest[:20]}"


def is_pseudonym(value: str | None) -> bool:
    """Return whether a value has the form that `pseudonym` gives to users."""
    return value is not None and _PSEUDONYM.fullmatch(value) is not None


def user_key(user: str | None, key: bytes | None) -> str | None:
    """Return the pseudonym of a user; None where there is no user, or no secret to make one with."""
    if not user or is_pseudonym(user):
        return user or None
    return None if key is None else pseudonym(user, key)


def kept_id(value: str, key: bytes, *, prefix: str, names: bool = True) -> str:
    """Return an id as it may be kept: itself, or its pseudonym where it says something personal.

    Args:
        value: The id.
        key: The installation's secret.
        prefix: The kind of id, a letter: `s` for sessions.
        names: See `is_personal_id`.
    """
    return pseudonym(value, key, prefix=prefix) if is_personal_id(value, names=names) else value


@lru_cache(maxsize=8_192)
def is_personal_id(value: str, *, names: bool = True) -> bool:
    """Return whether an id says something personal: an e-mail address, a telephone number, a name.

    What a program generated does not: a UUID, a long hexadecimal number, a pseudonym. Without `names`, words that may
    be names are none: a store, unlike a session, may be called Emily.
    """
    if is_generated(value):
        return False
    found = redact(value).counts
    return "@" in value or bool(found if names else found.keys() - _NAMES)


def is_generated(value: str) -> bool:
    """Return whether a program generated an id: a UUID, a long hexadecimal number, a pseudonym."""
    return _GENERATED.fullmatch(value) is not None


def shopper_of(user_key: str | None, session_id: str) -> str:
    """Return whom a turn counts for, one shopper once: the pseudonym, or the session where the shopper is not known."""
    return user_key or f"session:{session_id}"
