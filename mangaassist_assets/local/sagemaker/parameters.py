"""What the operations share: a request's parameters and tags, resource names (ARN), and pages of a listing."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from mangaassist_assets.local.sagemaker.errors import ACCOUNT, validation

Parameters = Mapping[str, Any]
Answer = dict[str, Any]

REGION = "us-east-1"
MAX_TAGS, MAX_KEY_CHARACTERS, MAX_VALUE_CHARACTERS = 50, 128, 256
_TAG_PATTERN = r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$"
_TAG_PUNCTUATION = frozenset("_.:/=+-@")
NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")


def arn_of(kind: str, name: str) -> str:
    """Return the ARN of a resource."""
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name.lower()}"


def required_text(parameters: Parameters, key: str) -> str:
    """Return a parameter that must be a text."""
    value = parameters.get(key)
    if not isinstance(value, str) or not value:
        raise validation(
            f"1 validation error detected: Value at '{key}' failed to satisfy constraint: Member must be a text"
        )
    return value


def required_name(parameters: Parameters, key: str) -> str:
    """Return a parameter that must be a resource's name."""
    value = required_text(parameters, key)
    if not NAME.fullmatch(value):
        raise validation(
            f"1 validation error detected: Value '{value[:100]}' at '{key[0].lower()}{key[1:]}' failed to satisfy "
            f"constraint: Member must satisfy regular expression pattern: {NAME.pattern}"
        )
    return value


def required_mapping(parameters: Parameters, key: str) -> Parameters:
    """Return a parameter that must be a structure."""
    value = parameters.get(key)
    if not isinstance(value, Mapping):
        raise validation(f"{key} is required.")
    return value


def page(parameters: Parameters, items: Iterable[Answer], *, key: str, name: str) -> Answer:
    """Filter, sort and cut a listing as the List operations do: by default newest first, ten at a time."""
    contains = str(parameters.get("NameContains") or "").lower()
    field = {"Name": name, "CreationTime": "CreationTime", "Status": "EndpointStatus"}.get(
        str(parameters.get("SortBy") or "CreationTime"), "CreationTime"
    )
    descending = (parameters.get("SortOrder") or "Descending") == "Descending"
    found = sorted(
        (item for item in items if contains in item[name].lower()), key=lambda item: (item[field], item[name])
    )
    if descending:
        found.reverse()
    limit, token = parameters.get("MaxResults", 10), parameters.get("NextToken") or "0"
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= 100:
        raise validation("MaxResults must be between 1 and 100.")
    if not isinstance(token, str) or not re.fullmatch(r"[0-9]{1,9}", token):
        raise validation("NextToken is not one that this service gave.")
    start = int(token)
    answer: Answer = {key: found[start : start + limit]}
    if start + limit < len(found):
        answer["NextToken"] = str(start + limit)
    return answer


def checked_tags(tags: object) -> dict[str, str]:
    """Return the `Tags` of a request by key, as SageMaker takes them (API reference, data type `Tag`).

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
    if not all(one in _TAG_PUNCTUATION or unicodedata.category(one)[0] in "LNZ" for one in value):
        raise validation(
            f"1 validation error detected: Value '{value[:100]}' at 'tags.member.{name}' failed to satisfy "
            f"constraint: Member must satisfy regular expression pattern: {_TAG_PATTERN}"
        )
    return value
