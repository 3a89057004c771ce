"""Which columns of a CSV file are its text and which its metadata: Bedrock's `documentStructureConfiguration`.

After AWS's page "Include metadata in a data source to improve knowledge base query": one column is the content; what
is embedded is that column alone. Without lists all others are metadata, with `fieldsToInclude` those it names, with
`fieldsToExclude` all but those; a column in both is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mangaassist_assets.retrieval.documents.text import clean_text
from mangaassist_assets.retrieval.errors import SidecarError

_TYPE, _BODY = "RECORD_BASED_STRUCTURE_METADATA", "recordBasedStructureMetadata"
_SPECIFICATION, _INCLUDE, _EXCLUDE = "metadataFieldsSpecification", "fieldsToInclude", "fieldsToExclude"


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


def parse_structure(value: object) -> RecordStructure:
    """Return what the object `documentStructureConfiguration` says.

    Raises:
        SidecarError: If it is anything else than AWS documents; says what.
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
