"""The Japanese messages, questions and policy pages of `japanese_store/`, and how its messages are split."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mangaassist_assets.retrieval.chunking import chunk_documents
from mangaassist_assets.retrieval.documents.documents import read_knowledge
from mangaassist_assets.retrieval.evaluation import LabelledQuery
from mangaassist_assets.retrieval.types import Chunk

STORE = Path(__file__).parent / "japanese_store"
_HAND, _TEMPLATE = "hand", "template"
# Of each intent's four templates and 18 messages by hand, how many teach, validate and test: 10, 5 and 15 messages.
_TEMPLATES_OF = (1, 1, 2)
_HAND_OF = (7, 2, 9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message. `mixed` is the kind of its language mixture, None for plain Japanese.

    Messages of one `group` come from the same template; one that was written by hand is a group of its own.
    """

    id: str
    text: str
    intent: str
    how: str
    mixed: str | None
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question with the policy page (file name without suffix) and the heading of the section that answers it."""

    id: str
    text: str
    page: str
    section: str


@dataclass(frozen=True, slots=True)
class Split:
    """Messages to learn from, to choose by, and to report on."""

    train: list[Message]
    validation: list[Message]
    test: list[Message]


def read_messages() -> list[Message]:
    """Return all messages, in the order of the file."""
    return [Message(**row) for row in _rows("messages.jsonl")]


def read_questions() -> list[Question]:
    """Return all questions, in the order of the file."""
    return [Question(**row) for row in _rows("questions.jsonl")]


def split_messages(messages: Sequence[Message], seed: int) -> Split:
    """Return 10, 5 and 15 messages of each intent, the same for one seed; a template is on one side only."""
    draw = random.Random(seed)
    groups: dict[tuple[str, str], dict[str, list[Message]]] = defaultdict(lambda: defaultdict(list))
    for one in messages:
        groups[one.intent, one.how][one.group].append(one)
    parts: tuple[list[Message], ...] = ([], [], [])
    for (_, how), of_kind in sorted(groups.items()):
        order = draw.sample(sorted(of_kind), len(of_kind))
        for part, count in zip(parts, _HAND_OF if how == _HAND else _TEMPLATES_OF, strict=True):
            for group in order[:count]:
                part.extend(of_kind[group])
            del order[:count]
    return Split(*parts)


def section_chunks() -> list[Chunk]:
    """Return the product's chunks of the pages, each with `page > section` as its document: those are looked for."""
    reading = read_knowledge(STORE / "policies")
    return [
        replace(chunk, document_id=f"{Path(chunk.document_id).stem} > {chunk.title.partition(' > ')[2]}")
        for chunk in chunk_documents(reading.documents)
    ]


def section_queries() -> list[LabelledQuery]:
    """Return the questions, each with the one section that answers it."""
    return [
        LabelledQuery(text=one.text, relevant_documents=(f"{one.page} > {one.section}",)) for one in read_questions()
    ]


def _rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (STORE / name).read_text(encoding="utf-8").splitlines()]
