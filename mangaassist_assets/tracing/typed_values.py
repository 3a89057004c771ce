"""Values of tags, attributes, inputs and outputs under the types of the contract; what breaks them says where."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from mangaassist_assets.tracing.names import Attribute, Tag
from mangaassist_assets.tracing.records import SpanRecord, TraceRecord

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAXIMUM_TAG = 250
_MAXIMUM_COUNT = 2**53


class ContractError(Exception):
    """Why a trace cannot be a turn."""


def tag_of(trace: TraceRecord, name: Tag) -> str | None:
    """Return a tag, or None where it is missing or empty."""
    value = trace.tags.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ContractError(f"tag {name} is {type(value).__name__}, not text")
    if len(value) > _MAXIMUM_TAG or _CONTROL.search(value):
        raise ContractError(f"tag {name} is longer than {_MAXIMUM_TAG} characters or holds control characters")
    return value


def boolean_tag_of(trace: TraceRecord, name: Tag) -> bool | None:
    """Return a tag that says true or false, or None."""
    value = tag_of(trace, name)
    if value is None:
        return None
    if value.lower() not in ("true", "false"):
        raise ContractError(f"tag {name} is neither true nor false")
    return value.lower() == "true"


def text_of(value: object, key: str, where: str) -> str | None:
    """Return a text out of the inputs or outputs of a span, or None where they have none."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ContractError(f"{where} are {type(value).__name__}, not an object")
    text = value.get(key)
    if text is not None and not isinstance(text, str):
        raise ContractError(f"{key} in {where} is {type(text).__name__}, not text")
    return text


def number_of(value: object, where: str) -> float:
    """Return a finite number; `where` names it in the error."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ContractError(f"{where} is not a finite number")
    return float(value)


def strings_of(span: SpanRecord, name: Attribute) -> list[str]:
    """Return an attribute that is a list of texts, empty where it is missing."""
    value = span.attributes.get(name, [])
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ContractError(f"attribute {name} of span {span.name} is not a list of texts")
    return list(value)


def numbers_of(span: SpanRecord, name: Attribute, length: int) -> list[float] | None:
    """Return an attribute that is a list of so many numbers, or None where it is missing."""
    value = span.attributes.get(name)
    if value is None or (value == [] and length):
        return None
    if not isinstance(value, list | tuple) or len(value) != length:
        raise ContractError(f"attribute {name} of span {span.name} is not a list of {length} numbers")
    return [number_of(item, f"attribute {name} of span {span.name}") for item in value]


def optional_text_of(span: SpanRecord, name: Attribute) -> str | None:
    """Return an attribute that is a short text, or None where it is missing or empty."""
    value = span.attributes.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > _MAXIMUM_TAG or _CONTROL.search(value):
        raise ContractError(f"attribute {name} of span {span.name} is not a text of up to {_MAXIMUM_TAG} characters")
    return value


def count_of(span: SpanRecord, name: Attribute) -> int | None:
    """Return an attribute that counts something, or None where it is missing."""
    value = span.attributes.get(name)
    if value is None:
        return None
    count = number_of(value, f"attribute {name} of span {span.name}")
    if count < 0 or count != int(count) or count > _MAXIMUM_COUNT:
        raise ContractError(f"attribute {name} of span {span.name} is not a count")
    return int(count)


def cost_of(span: SpanRecord) -> float | None:
    """Return what a proxy charged for a call in USD, or None where the span does not say."""
    value = span.attributes.get(Attribute.REPORTED_COST_USD)
    if value is None:
        return None
    cost = number_of(value, f"attribute {Attribute.REPORTED_COST_USD} of span {span.name}")
    if cost < 0:
        raise ContractError(f"attribute {Attribute.REPORTED_COST_USD} of span {span.name} is below zero")
    return cost
