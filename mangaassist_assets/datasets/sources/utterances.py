"""Utterance files: what shoppers wrote, one JSON object a line.

A line becomes an `Utterance` or a `Reject`; blank lines are counted. What the utterances are used for (bootstrap,
simulation, evaluation) belongs elsewhere.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mangaassist_assets.datasets.sources.json_lines import (
    JsonObject,
    LineError,
    Reject,
    iterate_lines,
    json_object,
    kind_of,
    shown,
)
from mangaassist_assets.retrieval.tenants import InvalidTenantError, tenant_name

MAX_TEXT_BYTES = 100_000
MAX_IDENTIFIER_CHARACTERS = 512
MAX_RELEVANT_DOCUMENTS = 1_000
_INVISIBLE = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})


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
    intents = None if known_intents is None else frozenset(known_intents)
    notes: list[Note] = []
    items = list(iterate_lines(path, lambda line, number: utterance_of(json_object(line), number, notes, intents)))
    return UtteranceReading(
        utterances=tuple(one for one in items if isinstance(one, Utterance)),
        rejects=tuple(one for one in items if isinstance(one, Reject)),
        notes=tuple(notes),
        blank_lines=items.count(None),
    )


def utterance_of(
    fields: JsonObject, number: int, notes: list[Note], known_intents: frozenset[str] | None = None
) -> Utterance:
    """Return the utterance of a line's fields; what was repaired is added to `notes`.

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
    if note is not None:
        notes.append(Note(line_number=number, note=note))
    return utterance


def _text(fields: JsonObject) -> tuple[str, str | None]:
    if "text" not in fields:
        raise LineError('the field "text" is missing')
    text = fields["text"]
    if not isinstance(text, str):
        raise LineError(f'"text" must be a string, not {kind_of(text)}')
    size = len(_encoded(text, "text"))
    if size > MAX_TEXT_BYTES:
        raise LineError(f"the text has {size:,} bytes; {MAX_TEXT_BYTES:,} are allowed")
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    cleaned = "".join(
        character for character in lines if character in "\n\t" or unicodedata.category(character) != "Cc"
    )
    stripped = cleaned.strip()
    if all(unicodedata.category(character) in _INVISIBLE for character in stripped):
        raise LineError("the text is empty")
    removed = len(lines) - len(cleaned)
    return stripped, f"{removed} control characters removed from the text" if removed else None


def _intent(fields: JsonObject, known_intents: frozenset[str] | None) -> str | None:
    intent = _identifier(fields, "intent")
    if intent is None or known_intents is None or intent in known_intents:
        return intent
    near = difflib.get_close_matches(intent[:64], sorted(known_intents), n=1)
    advice = f"; did you mean {shown(near[0])}?" if near else ""
    raise LineError(f"the intent {shown(intent)} is none of the {len(known_intents)} known ones{advice}")


def _documents(fields: JsonObject) -> tuple[str, ...]:
    value = fields.get("relevant_documents")
    if value is None:
        return ()
    if not isinstance(value, list):
        raise LineError(f'"relevant_documents" must be a list of document ids, not {kind_of(value)}')
    if len(value) > MAX_RELEVANT_DOCUMENTS:
        raise LineError(f'"relevant_documents" names {len(value)} documents; {MAX_RELEVANT_DOCUMENTS} are allowed')
    documents: list[str] = []
    for item in value:
        document = _checked_identifier(item, "a document id in relevant_documents")
        if document is None:
            raise LineError('"relevant_documents" has an empty document id')
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
        msg = f'"timestamp" must be an ISO-8601 time such as 2026-03-10T09:30:00Z, not {shown(value)}'
        raise LineError(msg) from error


def _tenant(fields: JsonObject) -> str | None:
    given = _identifier(fields, "tenant")
    try:
        return None if given is None else tenant_name(given)
    except InvalidTenantError as error:
        raise LineError(f'"tenant": {error}') from error


def _identifier(fields: JsonObject, name: str) -> str | None:
    return _checked_identifier(fields.get(name), f'"{name}"')


def _checked_identifier(value: object, what: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise LineError(f"{what} must be a string, not {kind_of(value)}")
    _encoded(value, what)
    stripped = value.strip()
    if len(stripped) > MAX_IDENTIFIER_CHARACTERS:
        raise LineError(f"{what} has {len(stripped):,} characters; {MAX_IDENTIFIER_CHARACTERS} are allowed")
    if any(unicodedata.category(character) == "Cc" for character in stripped):
        raise LineError(f"{what} has control characters")
    return stripped or None


def _encoded(value: str, what: str) -> bytes:
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError as error:
        msg = f"{what} has half of a surrogate pair at character {error.start + 1}, which is no Unicode text"
        raise LineError(msg) from error
