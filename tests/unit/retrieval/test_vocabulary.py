"""The store's own words: which fields of its knowledge name works and their people."""

from __future__ import annotations

from mangaassist_assets.retrieval.knowledge_chunks import store_phrases
from mangaassist_assets.retrieval.types import Chunk


def chunk(title: str, **metadata: str) -> Chunk:
    return Chunk(
        chunk_id=f"{title}::0", document_id=title, position=0, title=title, text="", content_hash="", metadata=metadata
    )


def test_titles_authors_and_characters_are_the_stores_own_words() -> None:
    phrases = store_phrases([chunk("Salt Harbour", author="Nao Invented; Ken Example", 作者="架空花子", romaji="Shio")])
    assert phrases == ("Ken Example", "Nao Invented", "Nao Invented; Ken Example", "Salt Harbour", "Shio", "架空花子")


def test_other_fields_are_not() -> None:
    assert store_phrases([chunk("Orders", contact="Jane Invented", premise="Jane goes home")]) == ("Orders",)


def test_a_text_of_a_thousand_words_is_no_phrase() -> None:
    assert store_phrases([chunk("x", author="word " * 1000)]) == ()
