"""Tags of resources as SageMaker takes them (API reference, data type `Tag`)."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from mangaassist_assets.local.sagemaker.errors import validation

MAX_TAGS, MAX_KEY_CHARACTERS, MAX_VALUE_CHARACTERS = 50, 128, 256
_PATTERN = r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$"
_PUNCTUATION = frozenset("_.:/=+-@")


def checked_tags(tags: object) -> dict[str, str]:
    """Return the `Tags` of a request by key.

    Raises:
        ApiError: as the service refuses them: not a list of keys with values, too long, of other characters, a key
            twice or reserved, or more than a resource takes.
    """
    if tags is None:
        return {}
    if not isinstance(tags, list) or not all(isinstance(tag, Mapping) for tag in tags):
        raise validation("Tags must be a list of structures.")
    found: dict[str, str] = {}
    for tag in tags:
        key = _member(tag, "key", least=1, most=MAX_KEY_CHARACTERS)
        if key.lower().startswith("aws:"):
            raise validation("Tag keys that begin with aws: are reserved.")
        if key in found:
            raise validation(f"Duplicate tag key: {key}")
        found[key] = _member(tag, "value", least=0, most=MAX_VALUE_CHARACTERS)
    check_number(found)
    return found


def check_number(tags: Mapping[str, str]) -> None:
    """Refuse more tags than a resource takes."""
    if len(tags) > MAX_TAGS:
        raise validation(f"A resource takes at most {MAX_TAGS} tags.")


def _member(tag: Mapping[str, object], name: str, *, least: int, most: int) -> str:
    value = tag.get(name.capitalize())
    if not isinstance(value, str):
        raise validation(f"1 validation error detected: Value at 'tags.member.{name}' must be a text.")
    if not least <= len(value) <= most:
        raise validation(
            f"1 validation error detected: Value at 'tags.member.{name}' failed to satisfy constraint: Member must "
            f"have length from {least} to {most}"
        )
    if not all(one in _PUNCTUATION or unicodedata.category(one)[0] in "LNZ" for one in value):
        raise validation(
            f"1 validation error detected: Value '{value[:100]}' at 'tags.member.{name}' failed to satisfy "
            f"constraint: Member must satisfy regular expression pattern: {_PATTERN}"
        )
    return value
