"""Golden sets as people hand them in: lines of our own format, or questions with their reference answers.

Read are the spellings of RAGAS (`user_input`, `reference`, `reference_contexts`), of MLflow's evaluation datasets
(`inputs`, `expectations`), of Amazon Bedrock's RAG and model evaluations (`conversationTurns`; `prompt`,
`referenceResponse`), and the plain ones (`question`, `answer`, `ground_truth`, `contexts`). A question counts whatever
else its line holds, for nothing may be trained on it; a part that cannot be used is left out with a note.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from mangaassist_assets.datasets.sources.json_lines import (
    JsonObject,
    LineError,
    Reject,
    iterate_lines,
    json_object,
    kind_of,
)
from mangaassist_assets.datasets.sources.utterances import (
    MAX_IDENTIFIER_CHARACTERS,
    MAX_TEXT_BYTES,
    Note,
    Utterance,
    utterance_of,
)

QUESTIONS = ("question", "query", "user_input", "user_query", "prompt", "input", "request", "text")
# What was meant to be answered goes before what a system answered.
ANSWERS = (
    *("ground_truth", "ground_truths", "reference", "reference_answer", "reference_answers", "expected_answer"),
    *("expected_response", "expected_output", "golden_answer", "referenceResponse", "referenceResponses"),
    *("expected_facts", "answer", "answers", "output"),
)
DOCUMENTS = (
    *("relevant_documents", "expected_documents", "reference_contexts", "expected_retrieved_context"),
    *("referenceContexts", "source_documents", "sources", "contexts", "context", "retrieved_contexts"),
)
INTENTS = ("intent", "expected_intent")
_IDS = ("document_id", "doc_id", "id", "doc_uri", "uri", "source", "path", "url", "location", "metadata")
_TEXTS = ("text", "content", "page_content", "message", "value")
_FILE_NAME = re.compile(
    r"[^\n]{1,300}\.(?:md|markdown|txt|html?|csv|jsonl?|pdf|docx?)(?:#[^\n]{1,100})?", re.IGNORECASE
)
_SPEAKERS = frozenset({"user", "human", "assistant", "ai", "system", "developer", "tool", "function"})
_ADDRESS = re.compile(r"(?=\S*[/#_0-9])\S+")
_SPACES = re.compile(r"\s+")
_DEEPEST = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenMessage(Utterance):
    """A message of the golden set; `answers` are its reference answers, `contexts` texts that are said to answer it."""

    answers: tuple[str, ...] = ()
    contexts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenReading:
    """What a golden file held: every line is in `messages` (several, if it is a conversation), `rejects`, or blank."""

    messages: tuple[GoldenMessage, ...]
    rejects: tuple[Reject, ...]
    notes: tuple[Note, ...] = ()
    blank_lines: int = 0

    def counts(self) -> dict[str, int]:
        """Return how many messages can prove what; `only_held_out` prove nothing and are never trained on."""
        return {
            "messages": len(self.messages),
            "with_intent": sum(one.intent is not None for one in self.messages),
            "with_documents": sum(bool(one.relevant_documents) for one in self.messages),
            "with_answer": sum(bool(one.answers) for one in self.messages),
            "only_held_out": sum(one.intent is None and not one.relevant_documents for one in self.messages),
            "rejected_lines": len(self.rejects),
        }

    def summary(self) -> str:
        """Return one sentence for a terminal."""
        counts = self.counts()
        return (
            f"{counts['messages']} messages: {counts['with_intent']} with an intent, {counts['with_documents']} with "
            f"relevant documents, {counts['with_answer']} with a reference answer; {counts['rejected_lines']} rejected "
            "lines"
        )


def read_golden_file(path: Path) -> GoldenReading:
    """Read a golden set.

    Raises:
        UtteranceFileError: there is no such file, or it cannot be opened as one.
    """
    notes: list[Note] = []
    items = list(
        iterate_lines(path, lambda line, number: [_message(one, number, notes) for one in _turns(json_object(line))])
    )
    return GoldenReading(
        messages=tuple(message for one in items if isinstance(one, list) for message in one),
        rejects=tuple(one for one in items if isinstance(one, Reject)),
        notes=tuple(notes),
        blank_lines=items.count(None),
    )


def with_documents(reading: GoldenReading, documents: Mapping[str, str]) -> GoldenReading:
    """Return a reading whose addresses and passages name documents of the knowledge, where they are of one.

    Args:
        reading: as `read_golden_file` returns it.
        documents: texts of the knowledge by document id.
    """
    plain = {name: _plain(text) for name, text in documents.items()}
    notes = list(reading.notes)
    messages: list[GoldenMessage] = []
    for one in reading.messages:
        named = [_known(name, documents) for name in one.relevant_documents]
        unknown = [name for name, known in zip(one.relevant_documents, named, strict=True) if known is None]
        cited = [[name for name, text in plain.items() if _plain(passage) in text] for passage in one.contexts]
        found = [known or given for given, known in zip(one.relevant_documents, named, strict=True)]
        found += [name for names in cited for name in names]
        if unknown:
            notes.append(Note(line_number=one.line_number, note=f"no document of the knowledge is {unknown[0][:80]!r}"))
        if missing := sum(not names for names in cited):
            note = f"{missing} of {len(cited)} contexts stand in no document of the knowledge"
            notes.append(Note(line_number=one.line_number, note=note))
        messages.append(replace(one, relevant_documents=tuple(dict.fromkeys(found))))
    return replace(reading, messages=tuple(messages), notes=tuple(notes))


def _known(name: str, documents: Mapping[str, str]) -> str | None:
    """Return the document that a name means: its id, or an address that ends in it."""
    if name in documents:
        return name
    parts = name.split("/")
    return next((tail for place in range(1, len(parts)) if (tail := "/".join(parts[place:])) in documents), None)


def _plain(text: str) -> str:
    return _SPACES.sub(" ", text).strip().casefold()


def _turns(line: JsonObject) -> Iterator[Mapping[str, Any]]:
    """Yield what is asked in a line as flat fields."""
    turns = line.get("conversationTurns")
    if turns is not None:
        if not isinstance(turns, list) or not turns or not all(isinstance(turn, Mapping) for turn in turns):
            raise LineError('"conversationTurns" must be a list of objects, at least one')
        yield from turns
        return
    flat: dict[str, Any] = dict(line)
    for part in ("inputs", "expectations"):
        nested = flat.pop(part, None)
        if isinstance(nested, Mapping):
            flat |= {key: value for key, value in nested.items() if key not in flat or flat[key] is None}
            only = next(iter(nested.values())) if part == "inputs" and len(nested) == 1 else None
            if isinstance(only, str) and not any(name in flat for name in QUESTIONS):
                flat["question"] = only
        elif isinstance(nested, str) and part == "inputs":
            flat.setdefault("question", nested)
    if "messages" in flat and not any(flat.get(name) for name in QUESTIONS):
        flat["question"] = flat["messages"]
    yield flat


def _message(turn: Mapping[str, Any], number: int, notes: list[Note]) -> GoldenMessage:
    name = next((name for name in QUESTIONS if turn.get(name) is not None), None)
    if name is None:
        raise LineError(f"no question: none of {', '.join(QUESTIONS)} is there")
    question = _question(turn[name])
    if question is None:
        raise LineError(f'"{name}" must be a text, or messages with a text of the user, not {kind_of(turn[name])}')

    def note(what: str) -> None:
        notes.append(Note(line_number=number, note=what))

    answers = _texts(turn, ANSWERS, note)
    documents, contexts = _documents(turn, note)
    canonical: dict[str, Any] = {"text": question, "relevant_documents": documents}
    canonical |= {key: turn[key] for key in ("user_id", "session_id", "timestamp") if isinstance(turn.get(key), str)}
    canonical["intent"] = next((turn[name] for name in INTENTS if turn.get(name) is not None), None)
    utterance = utterance_of(JsonObject(list(canonical.items())), number, notes)
    return GoldenMessage(
        **{one.name: getattr(utterance, one.name) for one in fields(Utterance)},
        answers=tuple(dict.fromkeys(answers)),
        contexts=tuple(dict.fromkeys(contexts)),
    )


def _question(value: object) -> str | None:
    """Return the question: a text, a content block, or the last message of the user."""
    if isinstance(value, list):
        speakers = [_speaker(one) for one in value]
        if any(speakers):
            asked = [one for one, who in zip(value, speakers, strict=True) if who in ("user", "human")]
            return _text_of(asked[-1]) if asked else None
    if isinstance(value, Mapping) and isinstance(value.get("messages"), list):
        return _question(value["messages"])
    return _text_of(value)


def _speaker(message: object) -> str | None:
    """Return who wrote a message, None for what is no message: a block of content has a type as well."""
    if not isinstance(message, Mapping):
        return None
    who = message.get("role", message.get("type"))
    return who.lower() if isinstance(who, str) and who.lower() in _SPEAKERS else None


def _text_of(value: object, depth: int = 0) -> str | None:
    """Return the text of a value: itself, of a content block, or of a list of them."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if depth < _DEEPEST and isinstance(value, Mapping):
        return next((text for key in _TEXTS if (text := _text_of(value.get(key), depth + 1)) is not None), None)
    if depth < _DEEPEST and isinstance(value, list):
        texts = [text for one in value if (text := _text_of(one, depth + 1)) is not None]
        return "\n".join(texts) if texts and len(texts) == len(value) else None
    return None


def _texts(turn: Mapping[str, Any], names: Sequence[str], note: Callable[[str], None]) -> list[str]:
    """Return the texts under the first name that has any."""
    for name in names:
        value = turn.get(name)
        found: list[str] = []
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            text = _checked(_text_of(one))
            if text is None:
                note(f'"{name}" has something that is no text and was left out: {kind_of(one)}')
            elif text:
                found.append(text)
        if found:
            return found
    return []


def _documents(turn: Mapping[str, Any], note: Callable[[str], None]) -> tuple[list[str], list[str]]:
    """Return the ids of relevant documents and the texts that stand for some, under the first name that has any."""
    for name in DOCUMENTS:
        value = turn.get(name)
        ids: list[str] = []
        texts: list[str] = []
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            identifier = _document_id(one, is_id=name in ("relevant_documents", "expected_documents"))
            text = None if identifier else _checked(_text_of(one))
            if identifier:
                ids.append(identifier)
            elif text:
                texts.append(text)
            else:
                note(f'"{name}" has something that names no document and was left out: {kind_of(one)}')
        if ids or texts:
            return ids, texts
    return [], []


def _document_id(value: object, *, is_id: bool, depth: int = 0) -> str | None:
    if isinstance(value, str):
        name = value.strip()
        looks = is_id or _FILE_NAME.fullmatch(name) is not None or _ADDRESS.fullmatch(name) is not None
        return name if 0 < len(name) <= MAX_IDENTIFIER_CHARACTERS and "\n" not in name and looks else None
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return next((one for key in _IDS if (one := _document_id(value.get(key), is_id=True, depth=depth + 1))), None)
    return None


def _checked(text: str | None) -> str | None:
    """Return a text that can be stored, None where nothing of it can."""
    if text is None or len(text) > MAX_TEXT_BYTES:
        return None
    return text.strip() if text.encode("utf-8", "replace").decode() == text else None
