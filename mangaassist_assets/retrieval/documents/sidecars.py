"""Metadata beside a document, `NAME.metadata.json`, as Amazon Bedrock knowledge bases write it.

A sidecar may say whose document it is. So whatever in it is not understood makes all of it unusable, and its document
is held back: to read half of it could show one tenant's document to another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mangaassist_assets.retrieval.documents.text import clean_text
from mangaassist_assets.retrieval.errors import SidecarError
from mangaassist_assets.retrieval.tenants import InvalidTenantError, tenant_name

_ATTRIBUTES, _STRUCTURE = "metadataAttributes", "documentStructureConfiguration"
_TYPE, _BODY = "RECORD_BASED_STRUCTURE_METADATA", "recordBasedStructureMetadata"
_SPECIFICATION, _INCLUDE, _EXCLUDE = "metadataFieldsSpecification", "fieldsToInclude", "fieldsToExclude"
_TYPED_FIELDS: Mapping[str, tuple[str, type | tuple[type, ...]]] = {
    "STRING": ("stringValue", str),
    "NUMBER": ("numberValue", (int, float)),
    "BOOLEAN": ("booleanValue", bool),
    "STRING_LIST": ("stringListValue", list),
}
# Bedrock's own limits on a key and a string value (its API reference, MetadataAttributeValue).
_MAX_KEY = 256
MAX_ATTRIBUTE_CHARACTERS = 2_048


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordStructure:
    """The column that is the text of a row, and the lists that say which others are its metadata."""

    content: str
    included: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def metadata_columns(self, header: Sequence[str]) -> tuple[str, ...]:
        """Return the columns of a table that are metadata, in its order.

        Raises:
            SidecarError: If a column is named that the table does not have.
        """
        missing = [name for name in (self.content, *self.included, *self.excluded) if name not in header]
        if missing:
            raise SidecarError(
                f"it names the column {missing[0][:40]!r}, and the columns are {', '.join(header)[:200]}"
            )
        chosen = self.included or [name for name in header if name != self.content]
        return tuple(name for name in header if name in chosen and name not in self.excluded)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """What a sidecar says: attributes by key as strings, whose document it is, and how rows of a table are read.

    `embedded` are the keys of attributes that are embedded with the text (`includeForEmbedding`).
    """

    attributes: Mapping[str, str]
    tenant: str | None = None
    embedded: tuple[str, ...] = ()
    structure: RecordStructure | None = None


NO_SIDECAR = Sidecar(attributes={})


def parse_sidecar(text: str, *, tenant_attribute: str) -> Sidecar:
    """Return what `{"metadataAttributes": {...}, "documentStructureConfiguration": {...}}` says; one of them will do.

    Values may be plain (`"en"`, `3`, `true`, `["a", "b"]`) or typed (`{"value": {"type": "STRING", "stringValue":
    "en"}, "includeForEmbedding": true}`). Numbers are written without a needless `.0`, booleans as `true` and `false`,
    lists joined by `, `. Read after AWS's pages "Connect to Amazon S3 for your knowledge base" and "Include metadata
    in a data source to improve knowledge base query".

    Args:
        text: The JSON.
        tenant_attribute: The attribute that names the tenant; its name is compared without case.

    Raises:
        SidecarError: If the text is anything else; says what.
    """
    content = _parsed(text)
    if not isinstance(content, dict):
        raise SidecarError(f'it has no object "{_ATTRIBUTES}"')
    unknown = sorted(set(content) - {_ATTRIBUTES, _STRUCTURE})
    if unknown:
        raise SidecarError(f"the key {unknown[0][:40]!r} is not known; {_ATTRIBUTES!r} and {_STRUCTURE!r} are")
    if not content:
        raise SidecarError(f'it has neither "{_ATTRIBUTES}" nor "{_STRUCTURE}"')
    raw = content.get(_ATTRIBUTES, {})
    if not isinstance(raw, dict):
        raise SidecarError(f'it has no object "{_ATTRIBUTES}"')
    attributes: dict[str, str] = {}
    embedded: list[str] = []
    for name, given in raw.items():
        key = _key(name)
        if key in attributes:
            raise SidecarError(f"the attribute {key[:40]!r} is given twice")
        value, with_text = _untyped(key, given)
        attributes[key] = _attribute(key, value)
        if with_text:
            embedded.append(key)
    structure = content.get(_STRUCTURE)
    return Sidecar(
        attributes=dict(sorted(attributes.items())),
        tenant=_tenant(raw, tenant_attribute),
        embedded=tuple(sorted(embedded)),
        structure=None if _STRUCTURE not in content else _structure(structure),
    )


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


def is_attribute(name: str, attribute: str) -> bool:
    """Return whether a key or column is the one of that name, whatever its case: `Customer` is `customer`."""
    return clean_text(name).strip().casefold() == clean_text(attribute).strip().casefold()


def named_tenant(value: object) -> str:
    """Return the tenant that a value names: a text or a number.

    Raises:
        InvalidTenantError: If it names none, or more than one.
    """
    text = value if isinstance(value, str) else attribute_text(value)
    if isinstance(value, bool | list) or text is None:
        raise InvalidTenantError("the tenant must be one name, a text or a number")
    return tenant_name(text)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of some pairs, for `json.loads`; raises ValueError where a key is given twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:40]!r} is given twice")
    return found


def _parsed(text: str) -> Any:  # noqa: ANN401  # parsed JSON
    try:
        return json.loads(text, object_pairs_hook=unique_keys, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise SidecarError(f"it is not JSON: {error}") from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON value")


def _tenant(raw: Mapping[str, Any], tenant_attribute: str) -> str | None:
    naming = [name for name in raw if is_attribute(name, tenant_attribute)]
    if not naming:
        return None
    if len(naming) > 1:
        raise SidecarError(f"{' and '.join(map(repr, naming))} both name the tenant")
    try:
        return named_tenant(_untyped(naming[0], raw[naming[0]])[0])
    except InvalidTenantError as error:
        raise SidecarError(f"the attribute {naming[0]!r}: {error}") from error


def _key(key: str) -> str:
    cleaned = clean_text(key).strip()
    if not cleaned or len(cleaned) > _MAX_KEY:
        raise SidecarError(f"the attribute name {key[:40]!r} is empty or longer than {_MAX_KEY} characters")
    return cleaned


def _untyped(key: str, value: Any) -> tuple[Any, bool]:  # noqa: ANN401  # parsed JSON
    """Return the plain value of an attribute, and whether it is embedded with the text."""
    if not isinstance(value, dict):
        return value, False
    typed, with_text = value.get("value"), value.get("includeForEmbedding", False)
    kind = typed.get("type") if isinstance(typed, dict) else None
    field, expected = _TYPED_FIELDS.get(kind, ("", ())) if isinstance(kind, str) else ("", ())
    inner: Any = typed.get(field) if isinstance(typed, dict) else None
    if not isinstance(inner, expected) or (isinstance(inner, bool) and kind != "BOOLEAN"):
        raise SidecarError(
            f"the attribute {key[:40]!r} must be a plain value or "
            '{"value": {"type": "STRING", "stringValue": …}} with one of the types ' + ", ".join(_TYPED_FIELDS)
        )
    if isinstance(inner, list) and not all(isinstance(item, str) for item in inner):
        raise SidecarError(f"the attribute {key[:40]!r} is a list of something else than strings")
    if not isinstance(with_text, bool):
        raise SidecarError(f"the attribute {key[:40]!r} has an includeForEmbedding that is neither true nor false")
    return inner, with_text


def _attribute(key: str, value: object) -> str:
    text = attribute_text(value)
    if text is None:
        raise SidecarError(f"the attribute {key[:40]!r} is neither text, number, truth value nor a list of them")
    if len(text) > MAX_ATTRIBUTE_CHARACTERS:
        raise SidecarError(f"the attribute {key[:40]!r} is longer than {MAX_ATTRIBUTE_CHARACTERS} characters")
    return text


def _structure(value: object) -> RecordStructure:
    """Return what Bedrock's `documentStructureConfiguration` says.

    After AWS's page "Include metadata in a data source to improve knowledge base query": one column is the content;
    what is embedded is that column alone. Without lists all others are metadata, with `fieldsToInclude` those it names,
    with `fieldsToExclude` all but those; a column in both is refused.
    """
    outer = _object(value, "documentStructureConfiguration", {"type", _BODY})
    if outer.get("type") != _TYPE:
        raise SidecarError(f"the type of documentStructureConfiguration is not {_TYPE}, the only one that is known")
    body = _object(outer.get(_BODY), _BODY, {"contentFields", _SPECIFICATION})
    contents = _names(body.get("contentFields"), "contentFields")
    lists = _object(body.get(_SPECIFICATION, {}), _SPECIFICATION, {_INCLUDE, _EXCLUDE})
    if len(contents) != 1:
        raise SidecarError(f"contentFields names {len(contents)} columns, and exactly one is supported")
    structure = RecordStructure(
        content=contents[0],
        included=_names(lists.get(_INCLUDE, []), _INCLUDE),
        excluded=_names(lists.get(_EXCLUDE, []), _EXCLUDE),
    )
    both = sorted({*structure.included, structure.content} & set(structure.excluded))
    if both:
        raise SidecarError(f"the column {both[0][:40]!r} is in {_EXCLUDE} and also asked for")
    return structure


def _object(value: object, name: str, known: set[str]) -> dict[str, object]:
    if not isinstance(value, dict):
        raise SidecarError(f"{name} is missing or no object")
    unknown = sorted(set(value) - known)
    if unknown:
        # A misspelled fieldsToExclude would index what was to be left out.
        raise SidecarError(
            f"{name} has the key {unknown[0][:40]!r}, which is not known; {', '.join(sorted(known))} are"
        )
    return value


def _names(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise SidecarError(f"{name} is missing or no list")
    names = []
    for item in value:
        field = _object(item, f"an entry of {name}", {"fieldName"}).get("fieldName")
        if not isinstance(field, str) or not (cleaned := clean_text(field).strip()):
            raise SidecarError(f"an entry of {name} has no fieldName")
        names.append(cleaned)
    return tuple(names)
