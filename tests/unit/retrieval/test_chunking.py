"""Cutting documents into chunks, and the Parquet form of chunks."""

from __future__ import annotations

import dataclasses
import io
import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.retrieval.chunking import (
    ChunkingSettings,
    chunk_documents,
    chunks_to_parquet,
    parquet_to_chunks,
)
from mangaassist_assets.retrieval.documents.documents import KnowledgeDocument
from mangaassist_assets.retrieval.documents.text import count_units
from tests.support.examples import examples


def document(text, **changes):
    return dataclasses.replace(KnowledgeDocument(document_id="a.md", title="Returns", text=text), **changes)


def cut(text, **settings):
    return [(c.title, c.text) for c in chunk_documents([document(text)], ChunkingSettings(**settings))]


def test_each_section_is_cut_alone_under_the_path_of_its_headings():
    text = "# Returns\nIntro.\n\n## Books\nThirty days.\n\n### Used\nNever.\n## Figures\n\n## Cards\nAlways.\n"
    assert cut(text) == [
        ("Returns", "Intro."),
        ("Returns > Books", "Thirty days."),
        ("Returns > Books > Used", "Never."),
        ("Returns > Cards", "Always."),
    ]


def test_hash_signs_in_code_are_no_headings():
    assert cut("```\n# not a heading\n```\n\n#1 bestseller") == [
        ("Returns", "```\n# not a heading\n```\n\n#1 bestseller")
    ]


def test_paragraphs_are_packed_up_to_the_budget():
    text = "\n\n".join(" ".join([word] * 5) for word in "abcd")
    assert [count_units(text) for _, text in cut(text, max_units=10, min_units=0)] == [10, 10]


def test_a_small_remainder_joins_the_chunk_before():
    text = f"{'a ' * 10}\n\nb b"
    assert len(cut(text, max_units=10, min_units=3)) == 1
    assert len(cut(text, max_units=10, min_units=2)) == 2


def test_long_paragraphs_are_cut_between_sentences_and_those_between_words():
    text = "One two three. Four five six! " + "w " * 12 + "."
    assert [text for _, text in cut(text, max_units=6, min_units=0)][:2] == [
        "One two three. Four five six!",
        "w w w w w w",
    ]


def test_japanese_is_cut_between_its_sentences():
    text = "発売前の単行本は予約できます。" * 3
    assert [text for _, text in cut(text, max_units=20, min_units=0)] == ["発売前の単行本は予約できます。"] * 3


def test_a_record_is_one_chunk_however_long():
    chunks = chunk_documents([document("w " * 1_000, kind="record", document_id="t.csv#1")])
    assert [(chunk.chunk_id, chunk.text) for chunk in chunks] == [("t.csv#1::0", "w " * 1_000)]


def test_a_document_of_headings_alone_is_not_lost():
    assert cut("# Returns\n## Closed on Mondays") == [("Returns", "# Returns\n## Closed on Mondays")]


def test_the_hash_is_of_the_content_alone():
    one, two = chunk_documents([document("x"), document("x", document_id="b.md", metadata={"a": "b"})])
    assert one.content_hash == two.content_hash
    assert one.chunk_id != two.chunk_id
    assert chunk_documents([document("x", title="Other")])[0].content_hash != one.content_hash


def test_two_documents_of_one_id_are_refused():
    with pytest.raises(ValueError, match=r"two documents have the id 'a\.md'"):
        chunk_documents([document("x"), document("y")])


@settings(max_examples=examples(150), deadline=None)
@given(st.text(alphabet="ab 。.\n#-漢x", max_size=300), st.integers(1, 12))
def test_no_word_is_lost_and_no_chunk_exceeds_its_budget(text, budget):
    chunks = cut(text, max_units=budget, min_units=0)
    if not any(line.startswith("#") for line in text.split("\n")):
        assert "".join("".join(t.split()) for _, t in chunks) == "".join(text.split())
        assert all(count_units(text) <= budget for _, text in chunks)


def test_chunks_survive_parquet_and_equal_chunks_give_equal_bytes():
    documents = [
        document(f"Text {number}.\n\n## More\nÜ 漢字", document_id=f"{number}.md", metadata={"z": "1", "a": "2"})
        for number in range(40)
    ]
    chunks = chunk_documents(documents)
    shuffled = chunks[:]
    random.Random(1).shuffle(shuffled)
    assert chunks_to_parquet(shuffled) == chunks_to_parquet(chunks)
    assert sorted(parquet_to_chunks(chunks_to_parquet(chunks)), key=lambda c: c.chunk_id) == sorted(
        chunks, key=lambda c: c.chunk_id
    )


def test_no_chunks_are_a_table_of_the_schema():
    assert parquet_to_chunks(chunks_to_parquet([])) == []


def test_another_table_is_refused():
    buffer = io.BytesIO()
    pl.DataFrame({"chunk_id": ["a"]}).write_parquet(buffer)
    with pytest.raises(ValueError, match="not a table of chunks"):
        parquet_to_chunks(buffer.getvalue())


def test_a_budget_must_leave_room():
    with pytest.raises(ValueError, match="min_units < max_units"):
        ChunkingSettings(max_units=10, min_units=10)
