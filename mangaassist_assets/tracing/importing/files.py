"""Reading a file of traces line by line, with memory that does not grow with the file.

Plain or gzip, distinguished by the first bytes. Everything has a limit: a line, a file that is one JSON document, and
how much a compressed file may grow.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mangaassist_assets.core.errors import OperatorError

_GZIP = b"\x1f\x8b"
_PIECE = 1 << 20
_PACKED_PIECE = 1 << 16


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
class Line:
    """One line that is not empty, or why it cannot be read; `number` counts from 1."""

    number: int
    content: bytes = b""
    problem: str | None = None


class _Counted(io.RawIOBase):
    """Counts what is read, and stops a file that grows too much."""

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
def open_traces(path: Path, limits: Limits) -> Iterator[IO[bytes]]:
    """Open a file, decompressed where it is gzip.

    Raises:
        ImportFileError: It cannot be opened.
    """
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


def lines(reader: IO[bytes], limits: Limits) -> Iterator[Line]:
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
                yield Line(number=number, problem=f"the line is longer than {limits.line:,} bytes")
                continue
        except (EOFError, zlib.error):
            yield Line(number=number, problem="the compressed file is damaged or cut here; nothing after it is read")
            return
        if not content:
            return
        if stripped := content.strip():
            yield Line(number=number, content=stripped)


def whole(reader: IO[bytes], limits: Limits) -> bytes | None:
    """Return all of a file, or None where it is larger than one document may be or cannot be read to its end."""
    try:
        content = reader.read(limits.document + 1)
    except (EOFError, zlib.error):
        return None
    return content if len(content) <= limits.document else None
