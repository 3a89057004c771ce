"""From a file to parts of traces, line by line, with memory that does not grow with the file.

Forms: JSON lines or one JSON document, plain or gzip, found out by the first bytes; each object a trace of MLflow or an
OTLP request; a document may also be a list of them. Everything has a limit: a line, a document, and how much a
compressed file may grow. What cannot be read becomes a reject with the line and a reason that quotes nothing of it.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.tracing.contract.values import decoded
from mangaassist_assets.tracing.importing import mlflow_json, otlp_json
from mangaassist_assets.tracing.importing.imported_trace import ImportedTrace, UnreadableTraceError

_GZIP = b"\x1f\x8b"
_PIECE = 1 << 20
_PACKED_PIECE = 1 << 16
NOT_JSON = "not JSON"
TOO_DEEP = "the JSON is nested too deep"
# How a document begins that is laid out over lines.
_OPENINGS = (b"{", b"[", b"[{")
UNKNOWN_FORM = "neither an MLflow trace nor an OTLP request"


class ImportFileError(OperatorError, ValueError):
    """A file cannot be imported at all; says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bytes: of one line, of a file that is one JSON document, and of what a compressed file becomes.

    `growth` is how many times its size a compressed file may grow beyond `harmless` bytes: traces compress thirty
    times, a bomb a thousand.
    """

    line: int = 32 << 20
    document: int = 64 << 20
    total: int = 256 << 30
    growth: int = 250
    harmless: int = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One line that is not empty, or why it cannot be read; `number` counts from 1."""

    number: int
    content: bytes = b""
    problem: str | None = None


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
        with _open(path, bounds) as reader:
            content = _whole(reader, bounds)
        document = None if content is None else _parsed(content)
        if isinstance(document, dict | list):
            for entry in document if isinstance(document, list) else [document]:
                yield from _read(1, entry)
            return
        if content is None and first.content in _OPENINGS:
            raise _too_large(path, bounds)
    with _open(path, bounds) as reader:
        read = 0
        for line in _lines(reader, bounds):
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


def _first_line(path: Path, limits: Limits) -> _Line | None:
    with _open(path, limits) as reader:
        return next(_lines(reader, limits), None)


def _is_whole_object(line: _Line) -> bool:
    """Return whether a file that begins with this line is one of JSON lines."""
    if line.problem is not None:
        # A first line of that length may be a whole document without line ends, or just a long line.
        return "longer" not in line.problem
    return isinstance(_parsed(line.content), dict)


def _parsed(content: bytes) -> object:
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


class _Counted(io.RawIOBase):
    def __init__(self, stream: io.RawIOBase | IO[bytes], *, compressed: int | None, limits: Limits, name: str) -> None:
        self._stream = stream
        self._compressed = compressed
        self._limits = limits
        self._name = name
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = self._stream.read(len(buffer)) or b""
        buffer[: len(content)] = content
        self._count += len(content)
        limits = self._limits
        allowed = limits.total
        if self._compressed is not None:
            allowed = min(allowed, max(limits.harmless, self._compressed * limits.growth))
        if self._count > allowed:
            raise ImportFileError(
                f"{self._name} grows to more than {allowed:,} bytes, as no file of traces does: check where it is from"
            )
        return len(content)


class _Unpacked(io.RawIOBase):
    """Gzip, decompressed so far as it is whole: what is before a cut or damage is read before the error is raised."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._member = zlib.decompressobj(wbits=31)
        self._waiting = b""
        self._started = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while True:
            if self._member.eof:
                self._waiting = self._member.unused_data + self._waiting
                self._member = zlib.decompressobj(wbits=31)
                self._started = False
            if not self._waiting:
                self._waiting = self._stream.read(_PACKED_PIECE)
                if not self._waiting:
                    if self._started:
                        raise EOFError("the compressed file ends before its content does")
                    return 0
            content = self._member.decompress(self._waiting, len(buffer))
            self._waiting = self._member.unconsumed_tail
            self._started = True
            if content:
                buffer[: len(content)] = content
                return len(content)


@contextmanager
def _open(path: Path, limits: Limits) -> Iterator[IO[bytes]]:
    try:
        raw = path.open("rb")
    except OSError as error:
        raise ImportFileError(f"{path.name} cannot be opened: {error.strerror or error}") from error
    with raw:
        magic = raw.read(2)
        raw.seek(0)
        packed = magic == _GZIP
        compressed = path.stat().st_size if packed else None
        stream: io.RawIOBase | IO[bytes] = _Unpacked(raw) if packed else raw
        with io.BufferedReader(
            _Counted(stream, compressed=compressed, limits=limits, name=path.name), _PIECE
        ) as reader:
            yield reader


def _lines(reader: IO[bytes], limits: Limits) -> Iterator[_Line]:
    """Yield the lines that are not empty; one that is too long is passed over, never held.

    A compressed file that is damaged or cut ends with a line that says so.
    """
    number = 0
    while True:
        number += 1
        try:
            content = reader.readline(limits.line + 1)
            if len(content) > limits.line and not content.endswith(b"\n"):
                while content and not content.endswith(b"\n"):
                    content = reader.readline(_PIECE)
                yield _Line(number=number, problem=f"the line is longer than {limits.line:,} bytes")
                continue
        except (EOFError, zlib.error):
            yield _Line(number=number, problem="the compressed file is damaged or cut here; nothing after it is read")
            return
        if not content:
            return
        if stripped := content.strip():
            yield _Line(number=number, content=stripped)


def _whole(reader: IO[bytes], limits: Limits) -> bytes | None:
    try:
        content = reader.read(limits.document + 1)
    except (EOFError, zlib.error):
        return None
    return content if len(content) <= limits.document else None
