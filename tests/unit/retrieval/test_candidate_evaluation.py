"""The candidate generation beside the live one, on queries whose documents are known."""

from __future__ import annotations

import dataclasses

import pytest

from mangaassist_assets.retrieval.evaluation import LabelledQuery, evaluate_candidate
from mangaassist_assets.retrieval.generations import GenerationSettings, build_generation
from resources.search.indexes import LanceDbSearchResource
from tests.support.knowledge import HashEmbedder, store_chunks, vectors_of

SETTINGS = GenerationSettings(embedding_model_id="hash-embedder")
CHUNKS = store_chunks()
QUERIES = [
    LabelledQuery(text="returned within thirty days", relevant_documents=("policies/returns.md",)),
    LabelledQuery(text="a preordered volume", relevant_documents=("policies/preorders.md",)),
]


@pytest.fixture
def index(tmp_path):
    return LanceDbSearchResource(path=str(tmp_path / "search")).index()


def build(index, chunks):
    return build_generation(chunks, vectors_of(chunks), index, settings=SETTINGS).generation


def evaluate(index, candidate, queries=QUERIES, chunks=CHUNKS):
    return evaluate_candidate(candidate, queries, chunks, index=index, embedder=HashEmbedder())


def test_the_first_candidate_stands_alone(index):
    candidate = build(index, CHUNKS)
    found = evaluate(index, candidate)
    assert found.live is None
    assert list(found.means) == [candidate]
    assert found.figures()["live"] == "none yet"


def test_a_candidate_is_compared_with_the_live_generation_on_the_same_queries(index):
    live = build(index, [chunk for chunk in CHUNKS if chunk.document_id != "policies/returns.md"])
    index.swap_live(live, expected=None)
    candidate = build(index, CHUNKS)
    found = evaluate(index, candidate)
    assert list(found.means) == [candidate, live]
    assert found.means[candidate]["keyword"]["recall@10"] > found.means[live]["keyword"]["recall@10"]
    assert {(row["generation"], row["search"]) for row in found.figures()["figures"]} == {
        (generation, search) for generation in (candidate, live) for search in ("vector", "keyword", "fused")
    }
    assert str(found).startswith(f"2 labelled queries; fused search on {candidate}: {{'recall@1'")


def test_a_live_candidate_is_evaluated_once(index):
    candidate = build(index, CHUNKS)
    index.swap_live(candidate, expected=None)
    assert list(evaluate(index, candidate).means) == [candidate]


def test_queries_of_another_tenants_documents_are_left_out_and_counted(index):
    chunks = [
        dataclasses.replace(chunk, tenant="osaka") if chunk.document_id == "policies/returns.md" else chunk
        for chunk in CHUNKS
    ]
    found = evaluate(index, build(index, chunks), chunks=chunks)
    assert (found.queries, found.queries_of_others) == (1, 1)


def test_without_a_labelled_query_there_is_nothing_to_measure(index):
    found = evaluate(index, build(index, CHUNKS), queries=[])
    assert (found.means, found.figures()["figures"]) == ({}, [])
    assert str(found).endswith("nothing to measure")


def test_queries_whose_documents_are_gone_are_left_out_counted_and_named(index):
    renamed = [
        *QUERIES,
        LabelledQuery(text="shipping", relevant_documents=("policies/renamed.md",)),
        LabelledQuery(text="returned", relevant_documents=("policies/returns.md", "policies/renamed.md")),
    ]
    found = evaluate(index, build(index, CHUNKS), queries=renamed)
    assert (found.queries, found.queries_gone, found.gone_documents) == (3, 1, ("policies/renamed.md",))
    assert found.figures()["gone_documents"] == [{"document": "policies/renamed.md"}]
