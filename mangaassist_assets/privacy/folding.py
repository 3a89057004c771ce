"""Views of a text that make patterns simple: same length, so that every index is good for the original."""

from __future__ import annotations

import re

from mangaassist_assets.privacy.detections import Kind

_HALF_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_DASHES = dict.fromkeys(map(ord, "‐‑‒–—―−－﹣"), ord("-"))
_REST = {0x3000: ord(" "), 0x00A0: ord(" "), 0x202F: ord(" "), ord("’"): ord("'"), ord("‘"): ord("'")}
_FOLD = {**_HALF_WIDTH, **_DASHES, **_REST}
# Half of a broken character: no encoder takes it, so no finder may see it.
_SURROGATE = re.compile("[\ud800-\udfff]")
KANJI_DIGITS = str.maketrans("〇零一二三四五六七八九", "00123456789")
_LINE_END = re.compile(r"(?<![\n])(?<!\n\r)\r?\n(?!\r?\n)")
_LONG_VOWEL_DASH = re.compile(r"(?<=[0-9])ー(?=[0-9])")
_KANJI_RUN = re.compile(r"[〇零一二三四五六七八九][〇零一二三四五六七八九ー\- ]{2,}")

PLACEHOLDER = re.compile(rf"\[({'|'.join(Kind)})(?:_([0-9a-z]{{2}}))?\]")
# A private character, no word, digit or space: no pattern matches it, so nothing is ever found inside a placeholder.
MASK = "\ue000"


def fold(text: str) -> str:
    """Return the text with full-width forms, dashes and unusual spaces as ASCII, character by character."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text.translate(_FOLD))


def mask_placeholders(text: str) -> str:
    """Return the text with every placeholder overwritten by as many mask characters."""
    if "[" not in text:
        return text
    return PLACEHOLDER.sub(lambda match: MASK * len(match.group()), text)


def with_digits(folded: str) -> str:
    """Return a folded text whose runs of kanji digits (three or more: 「〇九〇」) are ASCII digits.

    A long-vowel mark between digits is the dash of somebody's keyboard.
    """
    if folded.isascii():
        return folded
    if _KANJI_RUN.search(folded):
        folded = _KANJI_RUN.sub(lambda match: match.group().translate(KANJI_DIGITS), folded)
    return _LONG_VOWEL_DASH.sub("-", folded)


def joined_lines(folded: str) -> str:
    """Return a folded text with a space for every single line's end; empty lines part what they parted."""
    return _LINE_END.sub(lambda match: " " * len(match.group()), folded)
