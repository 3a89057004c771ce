"""Names in Latin letters that a sentence announces: "my name is …", "call me …", whether a list knows them or not."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mangaassist_assets.privacy.detections import Detection, Kind
from mangaassist_assets.privacy.names import cues
from mangaassist_assets.privacy.names.common_words import NEVER
from mangaassist_assets.privacy.names.lexicon import Lexicon, lexicon

_NEXT_WORD = re.compile(rf"[ \n]([{cues.LETTERS}]{{3,40}})(?![\w@:])")


def find_introductions(text: str) -> Iterator[Detection]:
    """Yield the names that a sentence announces ("my name is …"), whether a list knows them or not."""
    lower = text.lower()
    announced = any(word in lower for word in cues.INTRODUCING)
    for match in cues.INTRODUCTION.finditer(text) if announced else ():
        start, end = match.span("value")
        end = _with_listed_words(text, end - (text[end - 1] == "."))
        yield Detection(start, end, Kind.NAME, introduced=True)
    for match in cues.LOOSE_INTRODUCTION.finditer(text):
        start, end = match.span("value")
        listed = _with_listed_words(text, start - 1)
        if listed >= end:
            yield Detection(start, listed, Kind.NAME, introduced=True)


def _with_listed_words(text: str, end: int) -> int:
    """Return the end of an introduced name with the words of a name behind it ("my name is jane doe and i want")."""
    lists = lexicon()
    for _ in range(3):
        following = _NEXT_WORD.match(text, end)
        if following is None or not _goes_on_a_name(following.group(1).lower(), text, following.end(), lists):
            break
        end = following.end()
    return end


def _goes_on_a_name(word: str, text: str, end: int, lists: Lexicon) -> bool:
    if word in lists.never or word in cues.LEFT_AGAINST:
        return False
    if word in lists.clear_given or word in lists.clear_family or word not in lists.words:
        return True
    # A word of the dictionary that is a name as well, where a sentence begins or goes on behind it.
    behind = _NEXT_WORD.match(text, end)
    ends = not text[end : end + 1].strip() and behind is None
    return word in lists.doubtful and (
        ends or text[end] in ".,!?" or (behind is not None and behind[1].lower() in NEVER)
    )
