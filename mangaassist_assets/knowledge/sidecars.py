"""Metadata beside a document, `NAME.metadata.json`, as Amazon Bedrock knowledge bases write it."""

from __future__ import annotations

import json
from typing import Any

from mangaassist_assets.knowledge.text import clean_text

SIDECAR_SUFFIX = ".metadata.json"
_TYPED_FIELDS = {
    "STRING": "stringValue",
    "NUMBER": "numberValue",
    "BOOLEAN": "booleanValue",
    "STRING_LIST": "stringListValue",
}
# Bedrock's own limits on a key and a string value (its API reference, MetadataAttributeValue).
_MAX_KEY = 256
_MAX_VALUE = 2_048


class SidecarError(ValueError):
    """The metadata cannot be used; the message says where and why."""


def parse_sidecar(text: str) -> dict[str, str]:
    """Return the attributes of `{"metadataAttributes": {...}}`, by key, as strings.

    Values may be plain (`"en"`, `3`, `true`, `["a", "b"]`) or typed (`{"value": {"type": "STRING", "stringValue":
    "en"}}`). Numbers are written without a needless `.0`, booleans as `true` and `false`, lists joined by `, `.

    Raises:
        SidecarError: If the text is not such JSON or an attribute is none of these.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SidecarError(f"it is not JSON: {error}") from error
    attributes = content.get("metadataAttributes") if isinstance(content, dict) else None
    if not isinstance(attributes, dict):
        raise SidecarError('it has no object "metadataAttributes"')
    return dict(sorted((_key(key), _value(key, value)) for key, value in attributes.items()))


def attribute_text(value: object) -> str | None:
    """Return a scalar, or a list of scalars, as the text of an attribute; None where it is neither."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return clean_text(value).strip()
    if isinstance(value, list) and not any(isinstance(item, list) for item in value):
        texts = [attribute_text(item) for item in value]
        return None if None in texts else ", ".join(text for text in texts if text)
    return None


def _key(key: str) -> str:
    cleaned = clean_text(key).strip()
    if not cleaned or len(cleaned) > _MAX_KEY:
        raise SidecarError(f"the attribute name {key[:40]!r} is empty or longer than {_MAX_KEY} characters")
    return cleaned


def _value(key: str, value: Any) -> str:  # noqa: ANN401  # parsed JSON
    if isinstance(value, dict):
        typed = value.get("value")
        if not isinstance(typed, dict) or _TYPED_FIELDS.get(str(typed.get("type"))) not in typed:
            raise SidecarError(
                f"the attribute {key[:40]!r} must be a plain value or "
                '{"value": {"type": "STRING", "stringValue": …}} with one of the types ' + ", ".join(_TYPED_FIELDS)
            )
        value = typed[_TYPED_FIELDS[typed["type"]]]
    text = attribute_text(value)
    if text is None:
        raise SidecarError(f"the attribute {key[:40]!r} is neither text, number, truth value nor a list of them")
    if len(text) > _MAX_VALUE:
        raise SidecarError(f"the attribute {key[:40]!r} is longer than {_MAX_VALUE} characters")
    return text
