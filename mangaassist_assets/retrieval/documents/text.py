"""Cleaning of text from outside, before it is stored, embedded or searched for."""

from __future__ import annotations

import re
import unicodedata

# C0 and C1 controls but for tab and newline, and the zero-width no-break space that editors leave behind.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]")
_LINE_ENDS = re.compile("\r\n?|\u2028|\u2029|\x0b|\x0c|\x85")
_HTML_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_SPACES = re.compile(r"\s+")
# Chinese characters, kana and half-width kana: written without spaces, one token each for most tokenizers.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
_UNITS = re.compile(f"[{_CJK}]|[^\\s{_CJK}]+")
_LONG_WORD = 12

# One clause per term: OpenSearch refuses a query of more than 1,024, and no chat message needs as many.
MAX_QUERY_CHARACTERS = 1_000


def clean_text(text: str) -> str:
    """Return text in NFC with newlines as line ends, without control characters and lone surrogates."""
    text = text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text
    return unicodedata.normalize("NFC", _CONTROLS.sub("", _LINE_ENDS.sub("\n", text)))


def drop_html_comments(text: str) -> str:
    """Return text without its HTML comments; one that never ends takes the rest of the text with it."""
    return _HTML_COMMENT.sub("", text)


def count_units(text: str) -> int:
    """Return about how many tokens a text has: words, longer ones more than once, and each CJK character."""
    return sum(1 + len(match.group()) // _LONG_WORD for match in _UNITS.finditer(text))


def keyword_query(text: str) -> str:
    """Return a text as a search engine may safely get it: clean, on one line, at most 1,000 characters."""
    return _SPACES.sub(" ", clean_text(text[: 4 * MAX_QUERY_CHARACTERS])).strip()[:MAX_QUERY_CHARACTERS]
