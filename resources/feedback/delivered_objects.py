"""The content of an object that Firehose delivered: bounded decompression, and JSON documents one after another."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20
_WINDOW = 1 << 14
# What a decoder may need to see of a word or an escape before it can know that it is wrong.
_MARGIN = 16
_DECODER = json.JSONDecoder()
_BLANK = re.compile(r"[ \t\r\n]*")
# Where a record may begin again after bytes that are none: the next line, or between two objects without a delimiter.
_NEXT = re.compile(r"\n|\}(?=\{)")


@dataclass(frozen=True, slots=True)
class Content:
    """What an object holds, as far as it could be unpacked, and what was wrong with the rest."""

    data: bytes
    defect: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """One record of an object: its bytes, JSON or not, and the byte it begins at."""

    offset: int
    data: bytes


def unpacked(data: bytes, limit: int) -> Content:
    """Return the plain content of an object, gzip or not, of at most `limit` bytes."""
    if not data.startswith(_GZIP):
        return Content(data[:limit], _too_large(limit) if len(data) > limit else None)
    parts: list[bytes] = []
    size = 0
    rest = data
    while rest:
        stream = zlib.decompressobj(wbits=31)
        while rest and not stream.eof:
            try:
                part = stream.decompress(rest, min(_CHUNK, limit - size + 1))
            except zlib.error:
                return Content(b"".join(parts), "the gzip data is damaged")
            parts.append(part)
            size += len(part)
            if size > limit:
                return Content(b"".join(parts)[:limit], _too_large(limit))
            rest = stream.unconsumed_tail
            if not part and not rest:
                break
        if not stream.eof:
            return Content(b"".join(parts), "the gzip data ends too early")
        # Several gzip members may stand one after another.
        rest = stream.unused_data
    return Content(b"".join(parts))


def documents(data: bytes) -> Iterator[Document]:
    """Yield the JSON documents of concatenated JSON, with or without newlines between them."""
    text = data.decode("utf-8", "surrogateescape")
    position = offset = 0
    while True:
        blank = _BLANK.match(text, position)
        start = position if blank is None else blank.end()
        # Blanks are one byte each.
        offset += start - position
        if start >= len(text):
            return
        end = _end_of_document(text, start)
        if end is None:
            following = _NEXT.search(text, start)
            end = len(text) if following is None else following.end()
        record = text[start:end].encode("utf-8", "surrogateescape")
        yield Document(offset, record)
        position = end
        offset += len(record)


def _end_of_document(text: str, start: int) -> int | None:
    """Return where the JSON document that begins at `start` ends, None if none does.

    The decoder counts all lines before an error, so garbage in a long text would cost its square: a window is tried
    first, and the whole text only where the window may have cut the document.
    """
    window = text[start : start + _WINDOW]
    whole = start + len(window) == len(text)
    try:
        end: int = _DECODER.raw_decode(window)[1]
        if whole or end < len(window):
            return start + end
    except json.JSONDecodeError as error:
        if whole or not (error.msg.startswith("Unterminated") or error.pos >= len(window) - _MARGIN):
            return None
    except (ValueError, RecursionError):
        return None
    try:
        end = _DECODER.raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return None
    return end


def _too_large(limit: int) -> str:
    return f"more than {limit} bytes: the rest was not read"
