"""Tables and JSON lines as records: each row one document, each broken row a reject that leaves the others alone."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from mangaassist_assets.retrieval.documents.sidecars import (
    MAX_ATTRIBUTE_CHARACTERS,
    RecordStructure,
    attribute_text,
    unique_keys,
)
from mangaassist_assets.retrieval.documents.text import clean_text

_TITLE_FIELDS = ("title", "name", "question", "heading", "subject")
_TEXT_FIELDS = ("text", "body", "content", "answer", "description")
_MAX_RECORD_CHARACTERS = 100_000
_MAX_FIELDS = 500
# Longer values are text, not something to filter by; they stay in the record's text.
_MAX_ATTRIBUTE = 200


@dataclass(frozen=True, slots=True)
class Record:
    """One record: its number from 1, its place in the file, its title if a field names one, its text, its metadata.

    `fields` are all of its fields as they came, whether they are part of the text or metadata or neither.
    """

    number: int
    place: str
    title: str | None
    text: str
    attributes: Mapping[str, str]
    fields: Mapping[str, object]


class RecordError(ValueError):
    """A record, or where `place` is empty the whole file, cannot be used; the message is the reason."""

    def __init__(self, reason: str, *, place: str = "") -> None:
        super().__init__(reason)
        self.place = place


def read_csv_records(text: str, structure: RecordStructure | None = None) -> Iterator[Record | RecordError]:
    """Yield the data rows of a table with a header, numbered from 1; blank lines are not rows.

    Fields are separated by the one of comma, semicolon and tab that the header has most of. With a structure the text
    of a row is its content column alone, and its metadata what the structure says.

    Raises:
        RecordError: If the header cannot be used.
        SidecarError: If the structure names a column that the table does not have.
    """
    first_line = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first_line.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [clean_text(name).strip() for name in next(rows, [])]
    except csv.Error as error:
        raise RecordError(f"the header cannot be read: {error}") from error
    if not header or "" in header or len({name.casefold() for name in header}) < len(header):
        raise RecordError(f"the header must name every column once, and it is {', '.join(header)[:200]!r}")
    if len(header) > _MAX_FIELDS:
        raise RecordError(f"the header has {len(header)} columns, and {_MAX_FIELDS} are allowed")
    columns = () if structure is None else structure.metadata_columns(header)
    number = 0
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            number += 1
            yield RecordError(f"not a row of CSV: {error}", place=f"row {number} (line {line})")
            continue
        if row is None:
            return
        if not row:
            continue
        number += 1
        place = f"row {number} (line {line})"
        if len(row) != len(header):
            yield RecordError(f"it has {len(row)} fields, the header has {len(header)}", place=place)
            continue
        fields = dict(zip(header, row, strict=True))
        if structure is None:
            yield _record(number, fields, place, fields)
        else:
            yield _structured(number, fields, place, structure.content, columns)


def read_json_lines(text: str) -> Iterator[Record | RecordError]:
    """Yield the objects of a file with one JSON object a line, numbered by their line; blank lines are left out."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"line {number}"
        if len(line) > _MAX_RECORD_CHARACTERS:
            yield _too_long(len(line), place)
            continue
        try:
            content = json.loads(line, object_pairs_hook=unique_keys)
        except (ValueError, RecursionError) as error:
            yield RecordError(f"not JSON: {error}", place=place)
            continue
        if not isinstance(content, dict) or len(content) > _MAX_FIELDS:
            yield RecordError(f"not a JSON object of at most {_MAX_FIELDS} fields", place=place)
            continue
        fields: dict[str, str] = {}
        for name, value in content.items():
            text_value = attribute_text(value)
            if text_value is None and value is not None:
                text_value = clean_text(json.dumps(value, ensure_ascii=False))
            fields[clean_text(name).strip()] = text_value or ""
        yield _record(number, fields, place, content)


def _structured(
    number: int, raw: Mapping[str, str], place: str, content: str, columns: Collection[str]
) -> Record | RecordError:
    fields = {name: clean_text(value).strip() for name, value in raw.items()}
    text = fields[content]
    if not text:
        return RecordError(f"its content, the column {content!r}, is empty", place=place)
    if len(text) > _MAX_RECORD_CHARACTERS:
        return _too_long(len(text), place)
    metadata = {name: fields[name] for name in columns if fields[name]}
    for name, value in metadata.items():
        if len(value) > MAX_ATTRIBUTE_CHARACTERS:
            return RecordError(
                f"its metadata {name[:40]!r} is longer than {MAX_ATTRIBUTE_CHARACTERS} characters", place=place
            )
    by_folded_name = {name.casefold(): value for name, value in metadata.items()}
    title = next((by_folded_name[name] for name in _TITLE_FIELDS if name in by_folded_name), None)
    return Record(number, place, title, text, metadata, raw)


def _record(number: int, raw: Mapping[str, str], place: str, given: Mapping[str, object]) -> Record | RecordError:
    fields = {name: text for name, value in raw.items() if name and (text := clean_text(value).strip())}
    if not fields:
        return RecordError("empty", place=place)
    if (length := sum(map(len, fields.values()))) > _MAX_RECORD_CHARACTERS:
        return _too_long(length, place)
    by_folded_name = {name.casefold(): name for name in fields}
    title_field = next((by_folded_name[name] for name in _TITLE_FIELDS if name in by_folded_name), next(iter(fields)))
    text_field = next((by_folded_name[name] for name in _TEXT_FIELDS if name in by_folded_name), None)
    # The main text goes last and without its field's name: what describes it comes first, as a reader would say it.
    lines = [f"{_label(name)}: {value}" for name, value in fields.items() if name not in {title_field, text_field}]
    if text_field is not None and text_field != title_field:
        lines.append(fields[text_field])
    return Record(
        number,
        place,
        fields[title_field],
        "\n".join(lines) or fields[title_field],
        {name: value for name, value in fields.items() if len(value) <= _MAX_ATTRIBUTE and "\n" not in value},
        given,
    )


def _label(name: str) -> str:
    label = name.replace("_", " ").strip()
    return label[:1].upper() + label[1:]


def _too_long(length: int, place: str) -> RecordError:
    return RecordError(f"too long: {length:,} characters, and {_MAX_RECORD_CHARACTERS:,} are allowed", place=place)
