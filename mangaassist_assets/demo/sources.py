"""The hand-written files under `data/`: read, checked and handed out as plain values.

What belongs here is the shape of those files and the errors an editor of them would want to see. How messages and
tables are made from them is the subject of the neighbouring modules.
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

DATA = Path(__file__).parent / "data"

_JAPANESE = re.compile(r"[぀-ヿ㐀-鿿]")


class DemoDataError(ValueError):
    """A hand-written demo file is wrong; the message names the file, the place and what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One invented series; `number` is its row in `titles.csv`, counted from 1."""

    number: int
    title: str
    romaji: str
    japanese: str
    genre: str
    themes: tuple[str, ...]
    premise: str
    remembered_as: str

    @property
    def document_id(self) -> str:
        """The id of its row in the knowledge folder."""
        return f"titles.csv#{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One way of saying something. `documents` are ids, or `@` references that the filled slots resolve."""

    text: str
    documents: tuple[str, ...]

    @property
    def is_japanese(self) -> bool:
        """Whether the fixed words are Japanese, whatever fills the slots."""
        return is_japanese(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One thing that shoppers want, with its templates.

    `plain` is what most people write, with many choices in a line; `templates` are particular questions. Both are in
    use from the first day of the intent, `new_words` come with the second bundle; `unseen` and `unseen_new_words`
    are held out of every bundle and appear in the unseen files alone.
    """

    name: str
    about: str
    since: str
    plain: tuple[Template, ...]
    templates: tuple[Template, ...]
    new_words: tuple[Template, ...]
    unseen: tuple[Template, ...]
    unseen_new_words: tuple[Template, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPlan:
    """One file of traffic: who writes when, and how much of it is new.

    `first_shopper` is the lowest number of its shoppers; files with the same one share some of them. `plain_share` is
    the share of messages, outside the new words, that come from the plain templates.
    """

    file: str
    release_bundle: str
    first_day: date
    days: int
    users: int
    first_shopper: int
    messages: int
    new_intents: tuple[str, ...]
    new_intent_share: float
    new_words_share: float
    plain_share: float
    held_out: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`plan.toml`."""

    seed: int
    japanese_share: float
    training_messages_per_intent: int
    training_plain_share: float
    popularity: Mapping[str, float]
    traffic: tuple[TrafficPlan, ...]


def is_japanese(text: str) -> bool:
    """Return whether a text contains kana or kanji."""
    return _JAPANESE.search(text) is not None


def read_toml(path: Path) -> dict[str, Any]:
    """Read one TOML file.

    Raises:
        DemoDataError: If it is not valid TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DemoDataError(f"{path.name} is not valid TOML: {error}") from error


def read_series(path: Path = DATA / "catalogue.csv") -> tuple[Series, ...]:
    """Read the catalogue, in the order of the file.

    Raises:
        DemoDataError: If a row lacks its title, genre, themes or premise, or a title comes twice.
    """
    with path.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    seen: set[str] = set()
    series = []
    for number, row in enumerate(rows, start=1):
        missing = [name for name in ("title", "genre", "themes", "premise") if not (row.get(name) or "").strip()]
        if missing:
            raise DemoDataError(f"{path.name}, row {number}: {', '.join(missing)} must not be empty")
        if row["title"].casefold() in seen:
            raise DemoDataError(f"{path.name}, row {number}: there is already a series called {row['title']!r}")
        seen.add(row["title"].casefold())
        texts = {name: row[name] for name in ("title", "romaji", "japanese", "genre", "premise", "remembered_as")}
        themes = tuple(theme.strip() for theme in row["themes"].split(";"))
        series.append(Series(number=number, themes=themes, **texts))
    return tuple(series)


def read_intents(folder: Path = DATA / "intents") -> tuple[Intent, ...]:
    """Read all intents, in the order of their names.

    Raises:
        DemoDataError: If a file lacks a key, or a template occurs twice in it.
    """
    return tuple(_read_intent(path) for path in sorted(folder.glob("*.toml")))


def read_plan(path: Path = DATA / "plan.toml") -> Plan:
    """Read what is to be written.

    Raises:
        DemoDataError: If a key is missing or has the wrong type.
    """
    try:
        return TypeAdapter(Plan).validate_python(read_toml(path))
    except ValidationError as error:
        raise DemoDataError(f"{path.name}: {error}; see the keys of sources.Plan") from error


def _read_intent(path: Path) -> Intent:
    table = read_toml(path)
    missing = [key for key in ("about", "since", "documents", "plain", "templates", "unseen") if not table.get(key)]
    if missing:
        raise DemoDataError(f"intents/{path.name}: {', '.join(missing)} must be given")
    default = tuple(table["documents"])
    groups = {
        key: _parse_templates(table.get(key, ""), default)
        for key in ("plain", "templates", "new_words", "unseen", "unseen_new_words")
    }
    texts = [template.text for group in groups.values() for template in group]
    repeated = sorted({text for text in texts if texts.count(text) > 1})
    if repeated:
        raise DemoDataError(f"intents/{path.name}: template given twice: {repeated[0]!r}")
    return Intent(name=path.stem, about=table["about"], since=table["since"], **groups)


def _parse_templates(block: str, default: Sequence[str]) -> tuple[Template, ...]:
    templates = []
    for line in block.splitlines():
        text, arrow, documents = line.partition("=>")
        if not text.strip():
            continue
        ids = tuple(part.strip() for part in documents.split(",")) if arrow else tuple(default)
        templates.append(Template(text=text.strip(), documents=ids))
    return tuple(templates)
