"""Tags of SageMaker resources: what AWS takes as one, and texts of any kind as such.

From the API reference, data type `Tag`: at most 50 on a resource; keys of 1 to 128 characters that do not begin with
`aws:`, values of up to 256; letters, digits and spaces of any script, and `_.:/=+-@`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

MAX_TAGS = 50
MAX_KEY_CHARACTERS = 128
MAX_VALUE_CHARACTERS = 256
_PUNCTUATION = frozenset("_.:/=+-@")
_ENCODED = re.compile(r"(?:=[0-9A-F]{2})+")


class TagError(ValueError):
    """Something cannot be a tag; the message names it."""


def to_tags(values: Mapping[str, str]) -> list[dict[str, str]]:
    """Return values as the API takes them; what a tag cannot hold is written as `=` and two hexadecimal digits a byte.

    Raises:
        TagError: There are too many, or a key or a value is too long or of characters that AWS does not take.
    """
    if len(values) > MAX_TAGS:
        raise TagError(f"a resource takes at most {MAX_TAGS} tags, not {len(values)}")
    return [{"Key": _key(key), "Value": _value(key, value)} for key, value in values.items()]


def from_tags(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return what `to_tags` was given."""
    return {tag["Key"]: _ENCODED.sub(_decoded, tag["Value"]) for tag in tags}


def _key(key: str) -> str:
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS or key.lower().startswith("aws:") or not all(map(_is_taken, key)):
        raise TagError(f"{key[:80]!r} cannot be the key of a tag")
    return key


def _value(key: str, value: str) -> str:
    written = "".join(
        one if _is_taken(one) and one != "=" else "".join(f"={byte:02X}" for byte in one.encode("utf-8", "replace"))
        for one in value
    )
    if len(written) > MAX_VALUE_CHARACTERS:
        raise TagError(f"the value of tag {key} has {len(written)} characters, a tag takes {MAX_VALUE_CHARACTERS}")
    return written


def _is_taken(character: str) -> bool:
    return character in _PUNCTUATION or unicodedata.category(character)[0] in "LNZ"


def _decoded(match: re.Match[str]) -> str:
    return bytes.fromhex(match[0].replace("=", "")).decode("utf-8", "replace")
