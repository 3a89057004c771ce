"""What is not ours in Markdown that people look at: names, answers, reasons and titles stay plain words.

A text from outside (a reviewer's answer, a tag of a trace, a name that a model gave) that reaches Dagster's or MLflow's
page unescaped is a page of its author's: an image in it is loaded by whoever looks, from this server or from his.
Dagster shows as Markdown: `MetadataValue.md` and the description of a check's result. MLflow: descriptions and `.md`
files. Whatever goes there and is not written in this code goes through `plain`, `code` or `link`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from urllib.parse import quote, urlsplit

# An underscore within a word is one: names of fields and intents stay readable in the file as well.
_MARKUP = re.compile(r"([\\`*\[\]|~]|(?<![^\W_])_|_(?![^\W_]))")
# GitHub's Markdown makes links of these although they are in no brackets, and after all escapes are resolved (Dagster's
# page does). U+2060, the word joiner, is seen by nobody and ends it.
_LINKED = re.compile(r"(?<=https)(?=:)|(?<=http)(?=:)|(?<=ftp)(?=:)|(?<=www)(?=\.)|(?=@)", re.IGNORECASE)
_JOINER = "\u2060"
_ESCAPED = re.compile(r"\\([\\`*\[\]|~_+=:#.)-])")
_FIRST = re.compile(r"^([-+=:#]|[0-9]{1,9}(?=[.)](?:\s|$)))")
_LINK_SAFE = ":/?#[]@!$&'*+,;=%~-._"


def plain(text: str, *, longest: int | None = None) -> str:
    """Return a text as one line of words: no link, picture, HTML, emphasis, heading, list, table cell or line break.

    Args:
        text: From anywhere.
        longest: Characters it is cut to, before anything is escaped.
    """
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    if longest is not None and len(line) > longest:
        line = f"{line[: longest - 1]}…"
    line = _LINKED.sub(_JOINER, line)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _MARKUP.sub(r"\\\1", line)
    return _FIRST.sub(_first_escaped, line)


def as_text(markdown: str) -> str:
    """Return what `plain` was given, its white space and what cannot be printed apart: for a terminal."""
    return html.unescape(_ESCAPED.sub(r"\1", markdown).replace(_JOINER, ""))


def code(text: str) -> str:
    """Return a text as a code span: for what is copied, such as a digest."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return f"`{line.replace('`', chr(39)).replace('|', '¦')}`" if line else ""


def link(text: str, url: str) -> str:
    """Return a link to a page, with a text from anywhere; the text alone where the address is not http or https.

    A tracking server may be a database (`sqlite:///…`), which has no pages.
    """
    if urlsplit(url).scheme not in {"http", "https"}:
        return plain(text)
    return f"[{plain(text)}]({quote(url, safe=_LINK_SAFE)})"


def bullets(texts: Iterable[str]) -> str:
    """Return texts from anywhere as a list."""
    return "\n".join(f"- {plain(text)}" for text in texts)


def _first_escaped(found: re.Match[str]) -> str:
    first = found.group()
    # Of a number it is the full stop behind it that would start a list.
    return f"{first}\\" if first[0].isdigit() else f"\\{first}"
