"""The shop behind the demo: its catalogue, goods, events and the folder of knowledge documents written from them."""

from __future__ import annotations

import csv
import io
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mangaassist_assets.demo.sources import DATA, DemoDataError, Series, read_series, read_toml

_GOODS_SERIES = 26
_GUIDE_TITLES_PER_THEME = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """What the shop knows of a series beyond its story: one row of `titles.csv` together with it."""

    series: Series
    author: str
    imprint: str
    volumes: int
    status: str
    age_rating: str
    price_usd: str
    in_stock: int
    synopsis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Good:
    """One article that is not a book: row `number` of `goods.csv`, counted from 1."""

    number: int
    series: Series
    kind: str
    price_usd: str
    in_stock: int
    description: str

    @property
    def name(self) -> str:
        """How the shop calls it."""
        return f"{self.series.title} {self.kind}"

    @property
    def document_id(self) -> str:
        """The id of its row in the knowledge folder."""
        return f"goods.csv#{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event: line `number` of `events.jsonl`, counted from 1."""

    number: int
    title: str
    branch: str

    @property
    def document_id(self) -> str:
        """The id of its line in the knowledge folder."""
        return f"events.jsonl#{self.number}"


@dataclass(frozen=True, slots=True)
class Shop:
    """The whole shop, made from the hand-written files and a seed."""

    volumes: tuple[Volume, ...]
    goods: tuple[Good, ...]
    events: tuple[Event, ...]

    def by_theme(self) -> dict[str, list[Series]]:
        """Return the series of every theme, in the order of the catalogue."""
        themes: dict[str, list[Series]] = defaultdict(list)
        for volume in self.volumes:
            for theme in volume.series.themes:
                themes[theme].append(volume.series)
        return dict(themes)

    def similar_to(self, series: Series) -> list[Series]:
        """Return what a bookseller would put beside a series: same genre and a common theme, or two common themes."""
        similar = []
        for volume in self.volumes:
            other = volume.series
            common = len(set(other.themes) & set(series.themes))
            if other.number != series.number and (common >= 2 or (common == 1 and other.genre == series.genre)):
                similar.append(other)
        return similar


def build_shop(seed: int) -> Shop:
    """Build the shop; the same seed and files give the same shop.

    Raises:
        DemoDataError: If a hand-written file is wrong.
    """
    words = read_toml(DATA / "catalogue_words.toml")
    series = read_series()
    volumes = _stock_volumes(series, words, random.Random(f"{seed}:volumes"))
    goods = _stock_goods(series, words["goods"], random.Random(f"{seed}:goods"))
    return Shop(volumes=volumes, goods=goods, events=_read_events(DATA / "knowledge" / "events.jsonl"))


def write_knowledge(shop: Shop, theme_words: Mapping[str, Sequence[str]], folder: Path) -> None:
    """Write the knowledge folder: the hand-written documents as they are, and the tables made from the catalogue."""
    source = DATA / "knowledge"
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        _write(folder / path.relative_to(source), path.read_text(encoding="utf-8"))
    _write(folder / "titles.csv", _titles_table(shop.volumes))
    _write(folder / "goods.csv", _goods_table(shop.goods))
    _write(folder / "guides" / "if-you-liked.md", _if_you_liked(shop, theme_words))


def _stock_volumes(series: Sequence[Series], words: Mapping[str, Any], rng: random.Random) -> tuple[Volume, ...]:
    names = [f"{family} {given}" for family in words["family_names"] for given in words["given_names"]]
    if len(names) < len(series):
        raise DemoDataError(f"catalogue_words.toml: {len(names)} author names for {len(series)} series; add names")
    authors = rng.sample(names, len(series))
    # A third of the authors have a second series, so that "anything else by ..." has an answer.
    for index in range(2, len(authors), 6):
        authors[index] = authors[index - 2]
    volumes = []
    for entry, author in zip(series, authors, strict=True):
        if entry.genre not in words["age_ratings"] or entry.genre not in words["second_sentences"]:
            raise DemoDataError(f"catalogue_words.toml: genre {entry.genre!r} needs age_ratings and second_sentences")
        count = max(2, min(28, round(rng.lognormvariate(1.9, 0.6))))
        volumes.append(
            Volume(
                series=entry,
                author=author,
                imprint=rng.choice(words["imprints"]),
                volumes=count,
                status=rng.choice(words["statuses"]),
                age_rating=rng.choice(words["age_ratings"][entry.genre]),
                price_usd=rng.choice(("8.99", "9.99", "10.99", "11.99", "12.99", "14.99")),
                in_stock=rng.choice((0, 0, 1, 2, 4, 6, 9, 12, 18, 25, 40)),
                synopsis=f"{entry.premise} {rng.choice(words['second_sentences'][entry.genre])}",
            )
        )
    return tuple(volumes)


def _stock_goods(series: Sequence[Series], kinds: Mapping[str, Sequence[str]], rng: random.Random) -> tuple[Good, ...]:
    goods: list[Good] = []
    chosen = sorted(rng.sample(series, _GOODS_SERIES), key=lambda entry: entry.number)
    for entry in chosen:
        for kind in sorted(rng.sample(sorted(kinds), rng.choice((2, 2, 3, 3)))):
            price, about = kinds[kind]
            goods.append(
                Good(
                    number=len(goods) + 1,
                    series=entry,
                    kind=kind,
                    price_usd=price,
                    in_stock=rng.choice((0, 0, 0, 2, 5, 8, 15)),
                    description=about,
                )
            )
    return tuple(goods)


def _read_events(path: Path) -> tuple[Event, ...]:
    events = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            events.append(Event(number=number, title=record["title"], branch=record["branch"]))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DemoDataError(
                f"{path.name}, line {number}: needs an object with title and branch ({error})"
            ) from error
    return tuple(events)


def _titles_table(volumes: Iterable[Volume]) -> str:
    return _table(
        {
            "title": volume.series.title,
            "japanese_title": volume.series.japanese,
            "romaji_title": volume.series.romaji,
            "author": volume.author,
            "imprint": volume.imprint,
            "genre": volume.series.genre,
            "themes": "; ".join(volume.series.themes),
            "volumes": str(volume.volumes),
            "status": volume.status,
            "age_rating": volume.age_rating,
            "price_usd": volume.price_usd,
            "copies_in_stock": str(volume.in_stock),
            "synopsis": volume.synopsis,
        }
        for volume in volumes
    )


def _goods_table(goods: Iterable[Good]) -> str:
    return _table(
        {
            "title": good.name,
            "series": good.series.title,
            "kind": good.kind,
            "price_usd": good.price_usd,
            "pieces_in_stock": str(good.in_stock),
            "description": good.description,
        }
        for good in goods
    )


def _if_you_liked(shop: Shop, theme_words: Mapping[str, Sequence[str]]) -> str:
    themes = shop.by_theme()
    lines = ["# If you liked this, try that", "", "Our booksellers' lists, by what a story is about.", ""]
    for theme in sorted(theme_words):
        if theme not in themes:
            raise DemoDataError(f"slots.toml, theme_words: no series of catalogue.csv has the theme {theme!r}")
        titles = [f"{entry.title} ({entry.genre})" for entry in themes[theme][:_GUIDE_TITLES_PER_THEME]]
        lines += [f"## Stories about {theme_words[theme][0]}", f"Try {', '.join(titles)}.", ""]
    return "\n".join(lines)


def _table(rows: Iterable[Mapping[str, str]]) -> str:
    buffer = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(buffer, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)
    return buffer.getvalue()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))
