"""Utterance files: what shoppers wrote, one JSON object a line, read from a file nobody promised anything about.

A line becomes an `Utterance`, or a `Reject` with its number and the reason; blank lines are counted. Nothing is lost
silently and nothing a line holds can stop the reading of the next one. What the utterances are used for (bootstrap,
simulation, evaluation) belongs elsewhere.
"""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard, TypeVar

from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.retrieval.tenants import InvalidTenantError, tenant_name

MAX_TEXT_BYTES = 100_000
MAX_LINE_BYTES = 1_048_576  # a text of 100 kB may be six times as long when every character is escaped
MAX_IDENTIFIER_CHARACTERS = 512
MAX_RELEVANT_DOCUMENTS = 1_000
PREVIEW_CHARACTERS = 80

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_SKIP_BYTES = 1 << 16
_REDACTION_WINDOW = 2_000  # redact more than is shown, so that the cut never hides half of a phone number
_INVISIBLE = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
T = TypeVar("T")
_UNICODE_ESCAPE = re.compile(r"\\u([0-9A-Fa-f]{4})")


class UtteranceFileError(ValueError):
    """The file as a whole cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One message of a shopper.

    `intent` is the true intent and `relevant_documents` the ids of the documents that answer it, where the file knows
    them; None and () mean it does not. `user_id` is as given: make a pseudonym of it before it goes anywhere.
    `timestamp` is aware, in UTC. `tenant` is whose shopper wrote it, where several stores share the chatbot.
    """

    text: str
    intent: str | None = None
    relevant_documents: tuple[str, ...] = ()
    user_id: str | None = None
    session_id: str | None = None
    timestamp: datetime | None = None
    line_number: int = 0
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A line that is no utterance: its number from 1, why, and a short redacted preview."""

    line_number: int
    reason: str
    preview: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A line that was taken after a repair; `note` says which."""

    line_number: int
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceReading:
    """What one file held: `utterances` + `rejects` + `blank_lines` are all of its lines."""

    utterances: tuple[Utterance, ...]
    rejects: tuple[Reject, ...]
    notes: tuple[Note, ...] = ()
    blank_lines: int = 0

    @property
    def lines(self) -> int:
        """How many lines the file has."""
        return len(self.utterances) + len(self.rejects) + self.blank_lines

    def summary(self) -> str:
        """Return one sentence for a log or a terminal."""
        parts = [f"{len(self.utterances)} utterances", f"{len(self.rejects)} rejected lines"]
        if self.notes:
            parts.append(f"{len(self.notes)} repaired lines")
        return ", ".join(parts)


def read_utterances(path: Path, *, known_intents: Collection[str] | None = None) -> UtteranceReading:
    """Read an utterance file.

    `known_intents` makes any other intent a reject; None takes every intent.

    Raises:
        UtteranceFileError: there is no such file, or it cannot be opened as one.
    """
    utterances: list[Utterance] = []
    rejects: list[Reject] = []
    notes: list[Note] = []
    blank_lines = 0
    for item in iterate_utterances(path, known_intents=known_intents):
        if item is None:
            blank_lines += 1
        elif isinstance(item, Reject):
            rejects.append(item)
        else:
            utterance, note = item
            utterances.append(utterance)
            if note is not None:
                notes.append(note)
    return UtteranceReading(
        utterances=tuple(utterances), rejects=tuple(rejects), notes=tuple(notes), blank_lines=blank_lines
    )


def iterate_utterances(
    path: Path, *, known_intents: Collection[str] | None = None
) -> Iterator[tuple[Utterance, Note | None] | Reject | None]:
    """Yield one item a line while reading: an utterance with what was repaired, a reject, or None for a blank line.

    Holds one line of at most `MAX_LINE_BYTES` at a time, however long the lines of the file are.

    Raises:
        UtteranceFileError: there is no such file, or it cannot be opened as one.
    """
    intents = None if known_intents is None else frozenset(known_intents)
    return iterate_lines(path, lambda line, number: utterance_of(json_object(line), number, intents))


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


class LineError(ValueError):
    """Why one line cannot be used."""


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


def utterance_of(
    fields: JsonObject, number: int, known_intents: frozenset[str] | None = None
) -> tuple[Utterance, Note | None]:
    """Return the utterance of a line's fields, and what was repaired.

    Raises:
        LineError: a field is missing or of a wrong type.
    """
    text, note = _text(fields)
    utterance = Utterance(
        text=text,
        intent=_intent(fields, known_intents),
        relevant_documents=_documents(fields),
        user_id=_identifier(fields, "user_id"),
        session_id=_identifier(fields, "session_id"),
        timestamp=_timestamp(fields),
        line_number=number,
        tenant=_tenant(fields),
    )
    return utterance, None if note is None else Note(line_number=number, note=note)


def json_object(line: bytes) -> JsonObject:
    """Return the JSON object of a line.

    Raises:
        LineError: it is none, or not UTF-8, or gives a key twice.
    """
    try:
        decoded = line.decode("utf-8")
    except UnicodeDecodeError as error:
        msg = f"not UTF-8: byte 0x{line[error.start]:02x} at position {error.start + 1}"
        raise LineError(msg) from error
    try:
        # strict=False lets raw control characters through; they are taken out of the text and noted.
        value = json.loads(decoded, object_pairs_hook=JsonObject, parse_constant=_refuse_constant, strict=False)
    except json.JSONDecodeError as error:
        msg = f"broken JSON: {error.msg} at character {error.pos + 1}"
        raise LineError(msg) from error
    except RecursionError as error:
        msg = "broken JSON: nested too deeply"
        raise LineError(msg) from error
    except LineError:
        raise
    except ValueError as error:  # an integer of thousands of digits
        msg = "broken JSON: a number is too long"
        raise LineError(msg) from error
    if not isinstance(value, JsonObject):
        msg = f"not a JSON object but {kind_of(value)}"
        raise LineError(msg)
    if value.repeated:
        msg = f"the key {_shown(value.repeated[0])} is given twice"
        raise LineError(msg)
    return value


def _refuse_constant(name: str) -> float:
    msg = f"broken JSON: {name} is no JSON value"
    raise LineError(msg)


def _text(fields: JsonObject) -> tuple[str, str | None]:
    if "text" not in fields:
        msg = 'the field "text" is missing'
        raise LineError(msg)
    text = fields["text"]
    if not isinstance(text, str):
        msg = f'"text" must be a string, not {kind_of(text)}'
        raise LineError(msg)
    size = len(_encoded(text, "text"))
    if size > MAX_TEXT_BYTES:
        msg = f"the text has {size:,} bytes; {MAX_TEXT_BYTES:,} are allowed"
        raise LineError(msg)
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    cleaned = "".join(
        character for character in lines if character in "\n\t" or unicodedata.category(character) != "Cc"
    )
    stripped = cleaned.strip()
    if all(unicodedata.category(character) in _INVISIBLE for character in stripped):
        msg = "the text is empty"
        raise LineError(msg)
    removed = len(lines) - len(cleaned)
    return stripped, f"{removed} control characters removed from the text" if removed else None


def _intent(fields: JsonObject, known_intents: frozenset[str] | None) -> str | None:
    intent = _identifier(fields, "intent")
    if intent is None or known_intents is None or intent in known_intents:
        return intent
    near = difflib.get_close_matches(intent[:64], sorted(known_intents), n=1)
    advice = f"; did you mean {_shown(near[0])}?" if near else ""
    msg = f"the intent {_shown(intent)} is none of the {len(known_intents)} known ones{advice}"
    raise LineError(msg)


def _documents(fields: JsonObject) -> tuple[str, ...]:
    value = fields.get("relevant_documents")
    if value is None:
        return ()
    if not isinstance(value, list):
        msg = f'"relevant_documents" must be a list of document ids, not {kind_of(value)}'
        raise LineError(msg)
    if len(value) > MAX_RELEVANT_DOCUMENTS:
        msg = f'"relevant_documents" names {len(value)} documents; {MAX_RELEVANT_DOCUMENTS} are allowed'
        raise LineError(msg)
    documents: list[str] = []
    for item in value:
        document = _checked_identifier(item, "a document id in relevant_documents")
        if document is None:
            msg = '"relevant_documents" has an empty document id'
            raise LineError(msg)
        documents.append(document)
    return tuple(dict.fromkeys(documents))


def _timestamp(fields: JsonObject) -> datetime | None:
    """A time without a zone is taken as UTC."""
    value = _identifier(fields, "timestamp")
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        msg = f'"timestamp" must be an ISO-8601 time such as 2026-03-10T09:30:00Z, not {_shown(value)}'
        raise LineError(msg) from error


def _tenant(fields: JsonObject) -> str | None:
    given = _identifier(fields, "tenant")
    try:
        return None if given is None else tenant_name(given)
    except InvalidTenantError as error:
        msg = f'"tenant": {error}'
        raise LineError(msg) from error


def _identifier(fields: JsonObject, name: str) -> str | None:
    return _checked_identifier(fields.get(name), f'"{name}"')


def _checked_identifier(value: object, what: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        msg = f"{what} must be a string, not {kind_of(value)}"
        raise LineError(msg)
    _encoded(value, what)
    stripped = value.strip()
    if len(stripped) > MAX_IDENTIFIER_CHARACTERS:
        msg = f"{what} has {len(stripped):,} characters; {MAX_IDENTIFIER_CHARACTERS} are allowed"
        raise LineError(msg)
    if any(unicodedata.category(character) == "Cc" for character in stripped):
        msg = f"{what} has control characters"
        raise LineError(msg)
    return stripped or None


def _encoded(value: str, what: str) -> bytes:
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError as error:
        msg = f"{what} has half of a surrogate pair at character {error.start + 1}, which is no Unicode text"
        raise LineError(msg) from error


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


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


def _shown(value: str) -> str:
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
