"""JSON lines out of a file nobody promised anything about.

A line becomes what a parser makes of it, or a `Reject` with its number and the reason. Nothing is lost silently and
nothing a line holds can stop the reading of the next one.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard, TypeVar

from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.snapshots import canonical_json

MAX_LINE_BYTES = 1_048_576  # a text of 100 kB may be six times as long when every character is escaped
PREVIEW_CHARACTERS = 80

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_SKIP_BYTES = 1 << 16
_REDACTION_WINDOW = 2_000  # redact more than is shown, so that the cut never hides half of a phone number
_UNICODE_ESCAPE = re.compile(r"\\u([0-9A-Fa-f]{4})")
T = TypeVar("T")


class UtteranceFileError(OperatorError, ValueError):
    """The file as a whole cannot be read."""


class LineError(ValueError):
    """Why one line cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A line that is no utterance: its number from 1, why, and a short redacted preview."""

    line_number: int
    reason: str
    preview: str


class JsonObject(dict[str, Any]):
    """A JSON object that remembers the keys it was given twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated: list[str] = []
        if len(self) < len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    self.repeated.append(key)
                seen.add(key)


def iterate_lines(path: Path, parse: Callable[[bytes, int], T]) -> Iterator[T | Reject | None]:
    """Yield one item a line while reading: what `parse` makes of it, a reject, or None for a blank line.

    Args:
        path: the file.
        parse: given a line without its end and its number from 1; raises LineError for one that cannot be used.

    Raises:
        UtteranceFileError: there is no such file, or it cannot be opened as one.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        msg = f"cannot read utterances from {path}: {error.strerror or error}; give a file of JSON lines"
        raise UtteranceFileError(msg) from error
    with stream:
        for number, (raw, overlong) in enumerate(_bounded_lines(stream), start=1):
            line = raw
            if number == 1 and line.startswith(_UTF16_MARKS):
                yield _reject(number, "the file is UTF-16; save it as UTF-8", line)
                continue
            if number == 1:
                line = line.removeprefix(_BYTE_ORDER_MARK)
            if overlong:
                yield _reject(number, f"the line is longer than {MAX_LINE_BYTES:,} bytes", line)
            elif not line.strip():
                yield None
            else:
                try:
                    yield parse(line, number)
                except LineError as error:
                    yield _reject(number, str(error), line)


def write_rejects(path: Path, rejects: Iterable[Reject]) -> int:
    """Write rejects as JSON lines, whole or not at all; returns how many. No rejects make an empty file."""
    from upath import UPath

    from mangaassist_assets.core.files import write_whole

    lines = [canonical_json(asdict(reject)) + b"\n" for reject in rejects]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(UPath(path), b"".join(lines))
    return len(lines)


def _bounded_lines(stream: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Yield (line without its end, is it overlong); of an overlong line only the beginning."""
    while line := stream.readline(MAX_LINE_BYTES + 2):
        whole = line.endswith(b"\n")
        content = line.removesuffix(b"\n").removesuffix(b"\r")
        overlong = len(content) > MAX_LINE_BYTES
        if not whole:
            while rest := stream.readline(_SKIP_BYTES):
                overlong = True
                if rest.endswith(b"\n"):
                    break
        yield content, overlong


def json_object(line: bytes) -> JsonObject:
    """Return the JSON object of a line.

    Raises:
        LineError: it is no JSON object, or not UTF-8, or gives a key twice.
    """
    try:
        decoded = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LineError(f"not UTF-8: byte 0x{line[error.start]:02x} at position {error.start + 1}") from error
    try:
        # strict=False lets raw control characters through; they are taken out of the text and noted.
        value = json.loads(decoded, object_pairs_hook=JsonObject, parse_constant=_refuse_constant, strict=False)
    except json.JSONDecodeError as error:
        raise LineError(f"broken JSON: {error.msg} at character {error.pos + 1}") from error
    except RecursionError as error:
        raise LineError("broken JSON: nested too deeply") from error
    except LineError:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise LineError("broken JSON: a number is too long") from error
    if not isinstance(value, JsonObject):
        raise LineError(f"not a JSON object but {kind_of(value)}")
    if value.repeated:
        raise LineError(f"the key {shown(value.repeated[0])} is given twice")
    return value


def _refuse_constant(name: str) -> float:
    raise LineError(f"broken JSON: {name} is no JSON value")


def kind_of(value: object) -> str:
    """Return what JSON calls the kind of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if _is_number(value):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(value: str) -> str:
    """Return a value in quotes for a message: its beginning, redacted."""
    return f'"{_preview(value)}"'


def _reject(number: int, reason: str, line: bytes) -> Reject:
    return Reject(line_number=number, reason=reason, preview=_preview(line.decode("utf-8", errors="replace")))


def _preview(value: str) -> str:
    """Return the beginning of a line, fit for any terminal, log or file: redacted, one line, no control characters."""
    from mangaassist_assets.privacy import redact

    window = _UNICODE_ESCAPE.sub(lambda match: chr(int(match.group(1), 16)), value[:_REDACTION_WINDOW])
    plain = "".join("·" if unicodedata.category(character)[0] == "C" else character for character in window)
    text = redact(plain).text
    return text if len(text) <= PREVIEW_CHARACTERS else text[: PREVIEW_CHARACTERS - 1] + "…"
