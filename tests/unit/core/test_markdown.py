"""A text from outside is words on a page, whatever its author meant it to be."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mangaassist_assets.core.markdown import as_text, bullets, code, link, plain
from tests.support.hostile_pages import hostile_pages
from tests.support.hostile_texts import HOSTILE_TEXTS

# As Dagster's page reads it: CommonMark with GitHub's tables and strikethrough. HTML is on: no page is stricter.
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
WORDS = {"inline", "text", "paragraph_open", "paragraph_close", "softbreak"}
LINKED = re.compile(r"(https?:\/\/|www\.)[-.\w]+|[-.\w+]+@[-\w]+(?:\.[-\w]+)+", re.IGNORECASE)
"""What GitHub's Markdown makes a link of in any text (mdast-util-gfm-autolink-literal)."""
LETTERS = st.text(st.sampled_from("|\n\r<>[]()*_`#\\!-+=~&;:.@/^{}$\"' a1返\u2028w"), max_size=24)


def kinds_of(markdown: str) -> set[str]:
    """Return what a Markdown is made of."""
    tokens = MARKDOWN.parse(markdown)
    return {token.type for token in tokens} | {child.type for token in tokens for child in token.children or ()}


def shown(markdown: str) -> str:
    """Return the words that a person sees."""
    return "".join(
        child.content
        for token in MARKDOWN.parse(markdown)
        for child in token.children or ()
        if child.type != "softbreak"
    )


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_a_hostile_text_is_words_alone(text: str) -> None:
    markdown = plain(text)
    assert kinds_of(markdown) <= WORDS
    assert not LINKED.search(shown(markdown))
    assert kinds_of(f"| a | b |\n|---|---|\n| {markdown} | x |") <= WORDS | {
        *("table_open", "thead_open", "tr_open", "th_open", "th_close", "tr_close", "thead_close"),
        *("tbody_open", "td_open", "td_close", "tbody_close", "table_close"),
    }


@given(LETTERS)
def test_any_text_is_one_line_of_words_and_reads_as_it_was(text: str) -> None:
    markdown = plain(text)
    assert "\n" not in markdown
    assert kinds_of(markdown) <= WORDS
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    assert shown(markdown).replace("\u2060", "") == words
    assert as_text(markdown) == words


@given(LETTERS)
def test_any_text_stays_in_its_cell_and_in_its_list(text: str) -> None:
    row = MARKDOWN.parse(f"| a | b |\n|---|---|\n| {plain(text)} | x |")
    assert [token.type for token in row].count("td_open") == 2
    listed = kinds_of(bullets([text, "second"]))
    assert listed <= WORDS | {"bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"}
    assert [token.type for token in MARKDOWN.parse(bullets([text, "second"]))].count("list_item_open") == 2


@given(LETTERS)
def test_any_text_is_a_code_span(text: str) -> None:
    assert kinds_of(f"x {code(text)} y") <= WORDS | {"code_inline"}


def test_a_long_text_is_cut_before_it_is_escaped() -> None:
    assert plain("*" * 10, longest=4) == "\\*\\*\\*…"


def test_names_stay_readable() -> None:
    assert plain("order_status of 3 shoppers (0.5)") == "order_status of 3 shoppers (0.5)"


def test_a_link_goes_to_a_page_and_nowhere_else() -> None:
    assert link("a]b", "http://127.0.0.1:5000/#/x?tag=a b>)") == "[a\\]b](http://127.0.0.1:5000/#/x?tag=a%20b%3E%29)"
    for url in ("javascript:alert(1)", "data:text/html,x", "/graphql", "file:///etc/passwd", "sqlite:////a/mlflow.db"):
        assert link("a]b", url) == "a\\]b"


@pytest.mark.parametrize(("name", "markdown"), hostile_pages().items())
def test_what_is_shown_as_markdown_has_no_picture_no_html_and_no_link_of_its_authors(name: str, markdown: str) -> None:
    kinds = kinds_of(markdown)
    assert not kinds & {"image", "html_inline", "html_block", "fence", "code_block"}
    assert name == "links" or "link_open" not in kinds
    assert not LINKED.search(shown(markdown))
    headings = [line for line in markdown.splitlines() if line.startswith("#")]
    assert not [line for line in headings if line.startswith("# heading")]
