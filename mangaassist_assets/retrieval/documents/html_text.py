"""HTML to plain text that keeps its headings, by the standard library's tolerant parser."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

from mangaassist_assets.retrieval.documents.text import drop_html_comments

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_SILENT = frozenset({"script", "style", "template", "noscript", "svg", "iframe", "object"})
# fmt: off
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "caption", "dd", "details", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "html", "legend", "li", "main",
    "nav", "ol", "p", "pre", "section", "summary", "table", "tbody", "tfoot", "thead", "tr", "ul",
})
# fmt: on
# The parser of Python 3.11 takes quadratic time on tags that never end, and raises on unknown `<![…`.
_DECLARATION = re.compile(r"<[!?][^<>]*>")
_STRAY_OPENING = re.compile(r"<(?![^<>]*>)")
_SPACES = re.compile(r"\s+")
_INNER_SPACES = re.compile(r"[ \t]+")
_BLANK_LINES = re.compile(r"\n{3,}")


class _TextExtractor(HTMLParser):
    """Collects text; headings become Markdown headings, list items start with a dash."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self.title_pieces: list[str] = []
        self._silent_tags: list[str] = []
        self._open_silent_tags: Counter[str] = Counter()
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002  # the parser's signature
        if tag in _SILENT:
            self._silent_tags.append(tag)
            self._open_silent_tags[tag] += 1
        elif tag == "title" and not self._silent_tags:
            self._in_title = True
        elif level := _HEADINGS.get(tag):
            self.pieces.append("\n\n" + "#" * level + " ")
        elif tag == "li":
            self.pieces.append("\n- ")
        elif tag == "br":
            self.pieces.append("\n")
        elif tag in {"td", "th"}:
            self.pieces.append(" ")
        elif tag == "tr":
            self.pieces.append("\n")
        elif tag in _BLOCKS:
            self.pieces.append("\n\n")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # `<svg/>` opens and closes at once; `<script/>` does not, says HTML, but silence would then last for ever.
        if tag not in _SILENT:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            while self._open_silent_tags[tag]:
                closed = self._silent_tags.pop()
                self._open_silent_tags[closed] -= 1
                if closed == tag:
                    break
        elif tag == "title":
            self._in_title = False
        elif tag in _HEADINGS or (tag in _BLOCKS and tag not in {"li", "tr"}):
            self.pieces.append("\n\n")

    def handle_data(self, data: str) -> None:
        if self._silent_tags:
            return
        if self._in_title:
            self.title_pieces.append(data)
        else:
            self.pieces.append(_SPACES.sub(" ", data))


def html_to_text(html: str) -> tuple[str | None, str]:
    """Return the `<title>` of a page, if any, and its text.

    Scripts, styles and comments are dropped; headings become Markdown headings (`## Returns`), list items start with
    a dash, paragraphs are separated by a blank line.
    """
    extractor = _TextExtractor()
    extractor.feed(_STRAY_OPENING.sub("&lt;", _DECLARATION.sub("", drop_html_comments(html))))
    extractor.close()
    lines = (_INNER_SPACES.sub(" ", line).strip() for line in "".join(extractor.pieces).split("\n"))
    text = _BLANK_LINES.sub("\n\n", "\n".join(lines)).strip()
    return _SPACES.sub(" ", "".join(extractor.title_pieces)).strip() or None, text
