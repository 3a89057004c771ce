"""What the operations share: reading a request's parameters, resource names (ARN), and pages of a listing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from mangaassist_assets.local.sagemaker.errors import ACCOUNT, validation

Parameters = Mapping[str, Any]
Answer = dict[str, Any]

REGION = "us-east-1"
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


def only(record: Parameters, *keys: str) -> Answer:
    """Return some members of a record."""
    return {key: record[key] for key in keys}


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
