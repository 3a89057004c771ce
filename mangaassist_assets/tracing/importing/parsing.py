"""From a file to parts of traces: the form of the file and of each line is found out here.

Forms: JSON lines or one JSON document; each object a trace of MLflow or an OTLP request; a document may also be a
list of them. What cannot be read becomes a reject with the line and a reason that holds nothing of the line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mangaassist_assets.tracing.contract.values import decoded
from mangaassist_assets.tracing.importing import mlflow_json, otlp_json
from mangaassist_assets.tracing.importing.files import ImportFileError, Limits, Line, lines, open_traces, whole
from mangaassist_assets.tracing.importing.imported_trace import ImportedTrace, UnreadableTraceError

NOT_JSON = "not JSON"
TOO_DEEP = "the JSON is nested too deep"
# How a document begins that is laid out over lines.
_OPENINGS = (b"{", b"[", b"[{")
UNKNOWN_FORM = "neither an MLflow trace nor an OTLP request"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReject:
    """A line, or a span of it, that cannot be imported; `line_number` counts from 1."""

    line_number: int
    reason: str

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {"line": self.line_number, "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A trace, or a part of one, and the line it stands on."""

    line_number: int
    trace: ImportedTrace


def read_parts(path: Path, limits: Limits | None = None) -> Iterator[Part | ImportReject]:
    """Yield what a file holds, in its order.

    Raises:
        ImportFileError: The file cannot be opened, or is one JSON document larger than the limit.
    """
    bounds = limits or Limits()
    first = _first_line(path, bounds)
    if first is None:
        return
    if not _is_whole_object(first):
        with open_traces(path, bounds) as reader:
            content = whole(reader, bounds)
        document = None if content is None else _parsed(content)
        if isinstance(document, dict | list):
            for entry in document if isinstance(document, list) else [document]:
                yield from _read(1, entry)
            return
        if content is None and first.content in _OPENINGS:
            raise _too_large(path, bounds)
    with open_traces(path, bounds) as reader:
        read = 0
        for line in lines(reader, bounds):
            read += 1
            if line.problem is not None:
                yield ImportReject(line_number=line.number, reason=line.problem)
                continue
            found = _parsed(line.content)
            if isinstance(found, str):
                yield ImportReject(line_number=line.number, reason=found)
            else:
                yield from _read(line.number, found)
    if read == 1 and first.problem is not None and "longer" in first.problem:
        raise _too_large(path, bounds)


def _too_large(path: Path, limits: Limits) -> ImportFileError:
    return ImportFileError(
        f"{path.name} is one JSON document of more than {limits.document:,} bytes, which would have to be held in "
        "memory as a whole: write it as JSON lines, one trace or one OTLP request a line"
    )


def _first_line(path: Path, limits: Limits) -> Line | None:
    with open_traces(path, limits) as reader:
        return next(lines(reader, limits), None)


def _is_whole_object(line: Line) -> bool:
    """Return whether a file that begins with this line is one of JSON lines."""
    if line.problem is not None:
        # A first line of that length may be a whole document without line ends, or just a long line.
        return "longer" not in line.problem
    return isinstance(_parsed(line.content), dict)


def _parsed(content: bytes) -> object:
    """Return the JSON value, or a text that says why there is none."""
    try:
        value: object = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return TOO_DEEP if isinstance(error, RecursionError) else NOT_JSON
    return UNKNOWN_FORM if isinstance(value, str) else value


def _read(number: int, document: object) -> Iterator[Part | ImportReject]:
    if not isinstance(document, Mapping):
        yield ImportReject(line_number=number, reason=UNKNOWN_FORM)
        return
    try:
        parts, refused = _traces(document)
    except UnreadableTraceError as reason:
        yield ImportReject(line_number=number, reason=str(reason))
        return
    except RecursionError:
        yield ImportReject(line_number=number, reason=TOO_DEEP)
        return
    yield from (Part(line_number=number, trace=trace) for trace in parts)
    yield from (ImportReject(line_number=number, reason=reason) for reason in refused)


def _traces(document: Mapping[str, object]) -> tuple[list[ImportedTrace], list[str]]:
    # A row of the table that `mlflow.search_traces` returns has the trace's JSON in a column.
    row = decoded(document.get("trace"))
    if isinstance(row, Mapping) and not mlflow_json.is_trace(document):
        document = row
    if mlflow_json.is_trace(document):
        return [mlflow_json.read_trace(document)], []
    if otlp_json.is_request(document):
        return otlp_json.read_request(document)
    return [], [UNKNOWN_FORM]
