"""How a crowd types: greetings, asides, slips of the finger, missing capitals, emoji.

Digits never change, so that a volume or order number stays what it was; Japanese gets no keyboard noise.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mangaassist_assets.demo.sources import is_japanese

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
# The keys beside each key of a QWERTY keyboard, in its own row.
_NEIGHBOURS = {
    key: row[max(0, place - 1) : place] + row[place + 1 : place + 2] for row in _ROWS for place, key in enumerate(row)
}
_TYPEABLE_WORD = re.compile(r"[A-Za-z]{4,}")
_SHORTEST_TO_GARNISH = 4


@dataclass(frozen=True, slots=True)
class Garnish:
    """Words around a message, and the share of messages each kind of noise befalls (`rates`)."""

    openers: tuple[str, ...]
    closers: tuple[str, ...]
    asides: tuple[str, ...]
    closers_ja: tuple[str, ...]
    rates: Mapping[str, float]


def make_noisy(text: str, garnish: Garnish, rng: random.Random) -> str:
    """Return the message as somebody in a hurry would have typed it."""
    if is_japanese(text):
        return f"{text} {rng.choice(garnish.closers_ja)}" if rng.random() < garnish.rates["closer"] else text
    rates = garnish.rates
    if rng.random() < rates["typo"]:
        text = slip(text, rng)
        if rng.random() < rates["second_typo"]:
            text = slip(text, rng)
    if rng.random() < rates["no_final_mark"]:
        text = text.rstrip(".?!") or text
    if len(text.split()) >= _SHORTEST_TO_GARNISH:
        text = _surround(text, garnish, rng)
    if rng.random() < rates["lower_case"]:
        return re.sub(r"ma-(\d{8})", r"MA-\1", text.lower())
    if rng.random() < rates["shouting"]:
        return text.upper()
    return text


def slip(text: str, rng: random.Random) -> str:
    """Return the text with one slip of the finger in one of its longer words; without such a word, unchanged."""
    words = list(_TYPEABLE_WORD.finditer(text))
    if not words:
        return text
    word = rng.choice(words)
    position = word.start() + rng.randrange(1, len(word.group()) - 1)
    character = text[position]
    kind = rng.choice(("neighbour", "drop", "double", "swap"))
    if kind == "neighbour":
        replacement = rng.choice(_NEIGHBOURS[character.lower()])
        return text[:position] + replacement + text[position + 1 :]
    if kind == "drop":
        return text[:position] + text[position + 1 :]
    if kind == "double":
        return text[:position] + character + text[position:]
    return text[:position] + text[position + 1] + character + text[position + 2 :]


def _surround(text: str, garnish: Garnish, rng: random.Random) -> str:
    before = after = False
    if rng.random() < garnish.rates["aside"]:
        aside = rng.choice(garnish.asides)
        before = rng.random() < 0.5
        after = not before
        full_stop = "" if text[-1] in ".?!" else "."
        text = f"{aside} {text}" if before else f"{text}{full_stop} {aside}"
    if not before and rng.random() < garnish.rates["opener"]:
        text = f"{rng.choice(garnish.openers)} {text}"
    if not after and rng.random() < garnish.rates["closer"]:
        closer = rng.choice(garnish.closers)
        comma = "," if text[-1].isalnum() and closer[0].isalnum() else ""
        text = f"{text}{comma} {closer}"
    return text


def read_garnish(table: Mapping[str, Sequence[str]], rates: Mapping[str, float]) -> Garnish:
    """Take the garnish out of `slots.toml`."""
    return Garnish(
        openers=tuple(table["opener"]),
        closers=tuple(table["closer"]),
        asides=tuple(table["aside"]),
        closers_ja=tuple(table["closer_ja"]),
        rates=rates,
    )
