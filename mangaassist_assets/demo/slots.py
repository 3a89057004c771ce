"""Filling templates: which series, article or event a message is about, and which documents would answer it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mangaassist_assets.demo.shop import Event, Good, Shop, Volume
from mangaassist_assets.demo.sources import DemoDataError, Series, Template

_BRACES = re.compile(r"\{([a-z_]+)\}")
_CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")
_MOST_RELEVANT = 16
_PLURALS = {"blind box": "blind boxes"}
_HELD_OUT_EVERY = 4


@dataclass(frozen=True, slots=True)
class Filled:
    """A message before noise: its text and the ids of the documents that answer it."""

    text: str
    documents: tuple[str, ...]


@dataclass(slots=True)
class _Subject:
    """What one message is about; slots of one message agree with each other through it."""

    volume: Volume | None = None
    theme: str | None = None
    good: Good | None = None
    event: Event | None = None
    branch: str | None = None
    documents: dict[str, list[str]] = field(default_factory=dict)


class SlotFiller:
    """Fills templates from the shop and `slots.toml`.

    Every fourth series is held out: only fillers made with `held_out=True` speak of it, and they speak of no other.
    """

    def __init__(self, shop: Shop, words: Mapping[str, Any], *, held_out: bool) -> None:
        self._shop = shop
        self._words = words
        self._themes = {
            theme: series
            for theme, series in shop.by_theme().items()
            if theme in words["theme_words"] and len(series) <= _MOST_RELEVANT
        }
        self._volumes = [volume for volume in shop.volumes if _is_held_out(volume.series) == held_out]
        self._goods = [good for good in shop.goods if _is_held_out(good.series) == held_out]
        if not self._volumes or not self._goods:
            raise DemoDataError("the catalogue is too small to hold out every fourth series; add rows to catalogue.csv")
        self._makers: dict[str, Callable[[_Subject, random.Random], str]] = {
            "title": lambda subject, rng: _as_remembered(self._volume(subject, rng).series.title, rng),
            "romaji": lambda subject, rng: self._volume(subject, rng).series.romaji,
            "japanese": lambda subject, rng: self._volume(subject, rng).series.japanese,
            "author": lambda subject, rng: self._volume(subject, rng).author,
            "vol": lambda subject, rng: self._volume_number(subject, rng, first=1),
            "later_vol": lambda subject, rng: self._volume_number(subject, rng, first=2),
            "plot": lambda subject, rng: self._volume(subject, rng).series.remembered_as,
            "liked": self._liked,
            "theme": self._theme,
            "theme_ja": self._theme_ja,
            "genre": self._genre,
            "good": lambda subject, rng: self._good(subject, rng).name,
            "goods_title": lambda subject, rng: self._good(subject, rng).series.title,
            "goods_kind": lambda subject, rng: self._good(subject, rng).kind,
            "goods_kinds": lambda subject, rng: _plural(self._good(subject, rng).kind),
            "event": self._event,
            "branch": self._branch,
            "order": lambda _, rng: f"MA-{rng.randrange(10**8):08d}",
        }

    def fill(self, template: Template, rng: random.Random) -> Filled:
        """Fill one template.

        Raises:
            DemoDataError: If the template names a slot or a document reference that does not exist.
        """
        subject = _Subject()
        text = _CHOICE.sub(lambda choice: rng.choice(choice.group(1).split("|")), template.text)
        self._choose_subject(_BRACES.findall(text), subject, rng)
        text = _BRACES.sub(lambda slot: self._slot(slot.group(1), subject, rng, template), text)
        text = " ".join(text.split())
        return Filled(text=text, documents=self._documents(template, subject))

    def _slot(self, name: str, subject: _Subject, rng: random.Random, template: Template) -> str:
        maker = self._makers.get(name)
        if maker is not None:
            return maker(subject, rng)
        values = self._words.get(name)
        if not isinstance(values, list):
            raise DemoDataError(f"template {template.text!r} has an unknown slot {{{name}}}; see slots.toml")
        value: str = rng.choice(values)
        return value

    def _choose_subject(self, slots: Sequence[str], subject: _Subject, rng: random.Random) -> None:
        """Choose the series first where a slot narrows the choice, so that later slots agree with it."""
        needs: list[Callable[[Series], object]] = []
        if "title" in slots or "author" in slots:
            needs.append(lambda _: True)
        if "plot" in slots:
            needs.append(lambda series: series.remembered_as)
        if "romaji" in slots or "japanese" in slots:
            needs.append(lambda series: series.japanese)
        if "liked" in slots:
            needs.append(lambda series: 1 <= len(self._shop.similar_to(series)) <= _MOST_RELEVANT)
        if "genre" in slots and "theme" in slots:
            needs.append(lambda series: any(theme in self._themes for theme in series.themes))
        if needs:
            subject.volume = rng.choice(
                [volume for volume in self._volumes if all(need(volume.series) for need in needs)]
            )
        if "genre" in slots and "theme" in slots and subject.volume is not None:
            subject.theme = rng.choice([theme for theme in subject.volume.series.themes if theme in self._themes])

    def _volume(self, subject: _Subject, rng: random.Random) -> Volume:
        if subject.volume is None:
            subject.volume = rng.choice(self._volumes)
        subject.documents.setdefault("@title", [subject.volume.series.document_id])
        return subject.volume

    def _volume_number(self, subject: _Subject, rng: random.Random, *, first: int) -> str:
        most = subject.volume.volumes if subject.volume is not None else 9
        return str(rng.randint(first, most))

    def _liked(self, subject: _Subject, rng: random.Random) -> str:
        series = self._volume(subject, rng).series
        subject.documents["@liked"] = [other.document_id for other in self._shop.similar_to(series)]
        return _as_remembered(series.title, rng)

    def _theme(self, subject: _Subject, rng: random.Random) -> str:
        if subject.theme is None:
            subject.theme = rng.choice(sorted(self._themes))
        self._note_theme(subject)
        spoken: str = rng.choice(self._words["theme_words"][subject.theme])
        return spoken

    def _theme_ja(self, subject: _Subject, rng: random.Random) -> str:
        japanese: Mapping[str, str] = self._words["theme_words_ja"]
        subject.theme = rng.choice(sorted(theme for theme in japanese if theme in self._themes))
        self._note_theme(subject)
        return japanese[subject.theme]

    def _note_theme(self, subject: _Subject) -> None:
        if subject.theme is not None:
            genre = subject.volume.series.genre if subject.volume is not None else None
            subject.documents["@theme"] = [
                series.document_id for series in self._themes[subject.theme] if genre in {None, series.genre}
            ]

    def _genre(self, subject: _Subject, rng: random.Random) -> str:
        if subject.volume is None:
            subject.volume = rng.choice(self._volumes)
        spoken: str = self._words["genre_words"][subject.volume.series.genre]
        return spoken

    def _good(self, subject: _Subject, rng: random.Random) -> Good:
        if subject.good is None:
            subject.good = rng.choice(self._goods)
        good = subject.good
        subject.documents["@good"] = [good.document_id]
        subject.documents["@goods_title"] = [
            other.document_id for other in self._shop.goods if other.series.number == good.series.number
        ]
        return good

    def _event(self, subject: _Subject, rng: random.Random) -> str:
        if subject.event is None:
            subject.event = rng.choice(self._shop.events)
        subject.documents["@event"] = [subject.event.document_id]
        spoken: str = rng.choice(self._words["event_words"][str(subject.event.number)])
        return spoken

    def _branch(self, subject: _Subject, rng: random.Random) -> str:
        if subject.branch is None:
            subject.branch = rng.choice(self._words["branch"])
        subject.documents["@branch_events"] = [
            event.document_id for event in self._shop.events if event.branch == subject.branch
        ]
        return subject.branch

    def _documents(self, template: Template, subject: _Subject) -> tuple[str, ...]:
        ids: list[str] = []
        for reference in template.documents:
            if not reference.startswith("@"):
                ids.append(reference)
            elif reference in subject.documents:
                ids.extend(subject.documents[reference])
            else:
                raise DemoDataError(f"template {template.text!r} points to {reference}, but has no slot that gives it")
        return tuple(dict.fromkeys(ids))


def _is_held_out(series: Series) -> bool:
    return series.number % _HELD_OUT_EVERY == 0


def _plural(kind: str) -> str:
    return _PLURALS.get(kind, f"{kind}s")


def _as_remembered(title: str, rng: random.Random) -> str:
    """Return a title as people say it: mostly right, sometimes without its article or its end."""
    roll = rng.random()
    if roll < 0.15 and title.startswith(("The ", "A ")):
        return title.split(" ", 1)[1]
    words = title.split()
    if roll < 0.27 and len(words) >= 5:
        return " ".join(words[:4] if words[3].lower() not in {"of", "the", "a", "for"} else words[:3])
    return title
