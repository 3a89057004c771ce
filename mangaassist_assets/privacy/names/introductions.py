"""Names that an English sentence announces ("my name is …"), whether a list knows them or not."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mangaassist_assets.privacy.detections import Detection, Kind
from mangaassist_assets.privacy.names import cues
from mangaassist_assets.privacy.names.lexicon import lexicon

_NEXT_WORD = re.compile(rf"[ ]([{cues.LETTERS}]{{3,40}})(?![\w@])")


def find_introductions(text: str) -> Iterator[Detection]:
    """Yield the announced names of a folded text."""
    for match in cues.INTRODUCTION.finditer(text):
        start, end = match.span("value")
        end = _with_listed_words(text, end - (text[end - 1] == "."))
        yield Detection(start, end, Kind.NAME, introduced=True)
    for match in cues.LOOSE_INTRODUCTION.finditer(text):
        start, end = match.span("value")
        listed = _with_listed_words(text, start - 1)
        if listed >= end:
            yield Detection(start, listed, Kind.NAME, introduced=True)


def _with_listed_words(text: str, end: int) -> int:
    """Return the end of an introduced name with up to two listed ones behind it ("my name is sarah connor can i")."""
    lists = lexicon()
    for _ in range(2):
        following = _NEXT_WORD.match(text, end)
        if following is None:
            break
        word = following.group(1).lower()
        if not (word in lists.clear_given or word in lists.clear_family):
            break
        end = following.end()
    return end
