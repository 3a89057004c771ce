"""The knowledge in chunks: what is stored of it, what is shown, and tenants that must not get lost."""

from __future__ import annotations

import json

import pytest

from mangaassist_assets.retrieval.chunking import parquet_to_chunks
from mangaassist_assets.retrieval.knowledge_chunks import REJECTS_FILE, chunk_knowledge
from mangaassist_assets.retrieval.stored_knowledge import CHUNKS_FILE, VOCABULARY_FILE
from mangaassist_assets.retrieval.tenants import LostTenantsError


def write_titles(folder, *records):
    (folder / "titles.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "returns.md").write_text("# Returns\n\nThirty days with the receipt.", encoding="utf-8")
    write_titles(tmp_path, {"title": "Berserk", "store": "osaka"}, {"title": "Monster"})
    (tmp_path / "scan.pdf").write_bytes(b"%PDF")
    return tmp_path


def chunk(folder, **options):
    return chunk_knowledge(folder, **{"tenant_attribute": "store", **options})


def test_documents_are_counted_by_tenant_and_rejects_named(folder):
    found = chunk(folder)
    figures = found.figures()
    assert (figures["documents"], figures["dagster/row_count"]) == (3, len(found.chunks))
    assert {row["tenant"]: row["documents"] for row in figures["documents_by_tenant"]} == {"(none)": 2, "osaka": 1}
    (reject,) = figures["rejects"]
    assert reject["file"] == "scan.pdf"


def test_the_files_give_back_the_chunks_and_the_stores_words(folder):
    found = chunk(folder)
    files = found.files()
    assert parquet_to_chunks(files[CHUNKS_FILE]) == list(found.chunks)
    assert "Berserk" in json.loads(files[VOCABULARY_FILE])
    assert json.loads(files[REJECTS_FILE])[0]["file"] == "scan.pdf"


def test_a_document_that_becomes_everybodys_is_reported_and_losing_all_tenants_is_refused(folder):
    before = chunk(folder).chunks
    assert chunk(folder, before=before).opened == []
    write_titles(folder, {"title": "Berserk"}, {"title": "Monster", "store": "osaka"})
    assert chunk(folder, before=before).opened == ["titles.jsonl#1"]
    with pytest.raises(LostTenantsError, match="by the attribute 'shop'"):
        chunk(folder, before=before, tenant_attribute="shop")
