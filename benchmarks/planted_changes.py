"""Sets of real messages, and the changes that are planted in them: a typing error, a word more, less, or another one.

A set is distinct messages by their near-duplicate keys, each with what it asks for: the intent of hwu64, Bitext, the
domains of MultiDoGO, the Japanese messages and the demo; of FeedbackQA's questions the passage that answers them.
Japanese has no spaces: its words are those of SudachiPy, its typing errors are of kana.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from clustering_sets import DATA, all_labelled, distinct
from japanese_sets import read_messages

from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.demo.generator import compose_messages
from mangaassist_assets.demo.sources import read_plan
from mangaassist_assets.privacy.names.morphology import core_dictionary

CHANGES = ("typo", "added", "dropped", "replaced")
BANDS = ((15, "<15"), (30, "15-29"), (60, "30-59"), (120, "60-119"), (10**9, "120+"))
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_HIRAGANA = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん"
_JAPANESE = re.compile(r"[぀-ヿ㐀-鿿]")


@dataclass(frozen=True, slots=True)
class RealSet:
    """Messages of one source: key → what it asks for, in a fixed order."""

    name: str
    asked: Mapping[str, str]

    def words(self) -> list[str]:
        """Return all its words, as often as they are said."""
        return [key[start:end] for key in self.asked for start, end in words_in(key)]


def real_sets() -> Iterator[RealSet]:
    """Yield the sets; a key with two intents keeps the more frequent one."""
    sources = {name: distinct(rows) for name, rows in all_labelled().items()}
    sources["feedbackqa"] = list(_questions())
    sources["japanese store"] = [(one.text, one.intent) for one in read_messages()]
    messages = compose_messages(read_plan())
    demo = [*messages.training, *(turn.message for turns in messages.traffic.values() for turn in turns)]
    for language, japanese in (("en", False), ("ja", True)):
        rows = [(one.text, one.intent) for one in demo if bool(_JAPANESE.search(one.text)) == japanese]
        sources[f"demo {language}"] = rows
    for name, rows in sources.items():
        keyed = distinct([(key, intent) for text, intent in rows if (key := normalise_text(text))])
        yield RealSet(name, dict(sorted(keyed)))


def band_of(key: str) -> str:
    """Return the band of a message's length in characters."""
    return next(name for limit, name in BANDS if len(key) < limit)


def words_in(key: str) -> list[tuple[int, int]]:
    """Return where the words of a key begin and end."""
    if not _JAPANESE.search(key):
        return [one.span() for one in re.finditer(r"\S+", key)]
    return [(one.begin(), one.end()) for one in _TOKENIZER.tokenize(key) if one.surface().strip()]


def changed(key: str, change: str, vocabulary: Sequence[str], draw: random.Random) -> str | None:
    """Return the key with a planted change, as a key; None where it has no place for one.

    Nothing is left to recognise where the only word is dropped or replaced.
    """
    if change == "typo":
        planted = _mistyped(key, draw)
    else:
        words = words_in(key)
        if len(words) < 2 and change != "added":
            return None
        start, end = draw.choice(words)
        space = "" if _JAPANESE.search(key) else " "
        new = "" if change == "dropped" else draw.choice(vocabulary)
        if change == "added":
            start, end, new = draw.choice(((start, start, f"{new}{space}"), (end, end, f"{space}{new}")))
        planted = key[:start] + new + key[end:]
    again = normalise_text(planted) if planted else ""
    return again if again and again != key else None


def _mistyped(key: str, draw: random.Random) -> str | None:
    """Return a key with a letter dropped, doubled, changed or swapped with the next, in a word of three or more."""
    japanese = bool(_JAPANESE.search(key))
    wanted = r"[぀-ヿ]{2,}" if japanese else r"[^\W\d_]{3,}"
    words = list(re.finditer(wanted, key))
    if not words:
        return None
    word = draw.choice(words)
    place = draw.randrange(word.start(), word.end() - 1)
    kind = draw.randrange(4)
    letter = draw.choice(_HIRAGANA if japanese else _LETTERS)
    middle = ("", key[place] * 2, letter, key[place + 1] + key[place])[kind]
    return key[:place] + middle + key[place + (2 if kind == 3 else 1) :]


def _questions() -> Iterator[tuple[str, str]]:
    for file in sorted((DATA / "feedbackqa").rglob("*.json")):
        if file.name.startswith("feedback_"):
            continue
        for one in json.loads(file.read_text("utf-8"))["examples"]:
            yield one["question"], f"{one['source']}/{one['passage_id']}"


_TOKENIZER = core_dictionary().tokenizer("C")
