"""Index generations: names, verification, and an evaluation small enough to check by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mangaassist_assets.retrieval.errors import SearchIndexError
from mangaassist_assets.retrieval.evaluation import LabelledQuery, evaluate_retrieval
from mangaassist_assets.retrieval.generations import (
    GenerationSettings,
    build_generation,
    generation_name,
    verify_generation,
)
from mangaassist_assets.retrieval.tenants import ALL_TENANTS
from resources.search.indexes import LanceDbSearchResource, SearchResource
from tests.support.knowledge import DIMENSION, HashEmbedder, store_chunks, vectors_of

SETTINGS = GenerationSettings(embedding_model_id="hash-embedder")


def name(chunks=None, *, dimension=DIMENSION, settings=SETTINGS, index_settings=None):
    return generation_name(
        store_chunks() if chunks is None else chunks,
        dimension=dimension,
        settings=settings,
        index_settings={"engine": "lancedb"} if index_settings is None else index_settings,
    )


@pytest.fixture
def index(tmp_path):
    return LanceDbSearchResource(path=str(tmp_path / "search")).index()


def test_a_name_depends_on_content_and_nothing_else():
    assert name() == name(list(reversed(store_chunks()))) == "kb-" + name().removeprefix("kb-")


def test_a_name_changes_with_everything_that_changes_results():
    chunk, *rest = store_chunks()
    other = dataclasses.replace
    names = {
        name(),
        name(rest),
        name([other(chunk, content_hash="0" * 64), *rest]),
        name([other(chunk, tenant="Store"), *rest]),
        name([other(chunk, chunk_id="x::0"), *rest]),
        name(dimension=8),
        name(settings=other(SETTINGS, embedding_model_id="other")),
        name(index_settings={"engine": "opensearch-lucene"}),
    }
    assert len(names) == 8


def test_nothing_and_ambiguous_chunks_are_refused(index):
    chunks = store_chunks()
    for chunk_list, vectors, reason in (
        ([], np.empty((0, DIMENSION), dtype=np.float32), "no chunks"),
        (chunks, vectors_of(chunks)[:2], "5 chunks need as many vectors"),
        ([chunks[0]] * 2, vectors_of([chunks[0]] * 2), "not unique"),
    ):
        with pytest.raises(ValueError, match=reason):
            build_generation(chunk_list, vectors, index, settings=SETTINGS)


def test_an_index_that_loses_chunks_is_left_unfinished(index, monkeypatch):
    chunks = store_chunks()
    add = index.add
    monkeypatch.setattr(index, "add", lambda generation, some, vectors: add(generation, some[1:], vectors[1:]))
    with pytest.raises(SearchIndexError, match="holds 4 chunks instead of 5"):
        build_generation(chunks, vectors_of(chunks), index, settings=SETTINGS)
    assert [index.state(one).sealed for one in index.generations()] == [False]


def test_a_sound_generation_passes_every_check(index):
    chunks = store_chunks()
    generation = build_generation(chunks, vectors_of(chunks), index, settings=SETTINGS).generation
    report = verify_generation(generation, chunks, vectors_of(chunks), index=index)
    assert report.passed
    assert report.problems == ()
    assert [check.name for check in report.checks] == [
        "finished",
        "count",
        "dimension",
        "vector_search",
        "keyword_search",
        "tenants_apart",
    ]


def test_verification_names_what_is_wrong(index):
    chunks = store_chunks()
    vectors = vectors_of(chunks)
    generation = build_generation(chunks, vectors, index, settings=SETTINGS).generation

    def failed(chunks=chunks, vectors=vectors, generation=generation):
        report = verify_generation(generation, chunks, vectors, index=index)
        assert report.passed == (not report.problems)
        return [problem.split(":")[0] for problem in report.problems]

    assert failed(generation="kb-none") == ["finished"]
    assert failed(vectors=np.ones((5, 8), dtype=np.float32)) == ["dimension"]
    assert failed(chunks=chunks[:4], vectors=vectors[:4]) == ["count"]
    assert failed(vectors=np.roll(vectors, 1, axis=0)) == ["vector_search"]
    strange = [dataclasses.replace(chunk, title="xyzzy", text="plugh") for chunk in chunks]
    assert failed(chunks=strange) == ["keyword_search"]


class LeakingIndex:
    """An index that forgot its filter."""

    def __init__(self, index):
        self._index = index

    def __getattr__(self, name):
        return getattr(self._index, name)

    def vector_search(self, generation, vector, *, scope, limit):  # noqa: ARG002
        return self._index.vector_search(generation, vector, scope=ALL_TENANTS, limit=limit)

    def keyword_search(self, generation, query, *, scope, limit):  # noqa: ARG002
        return self._index.keyword_search(generation, query, scope=ALL_TENANTS, limit=limit)


def test_verification_refuses_an_index_that_shows_one_tenants_documents_to_another(index):
    owners = ["StoreA", "StoreA", "StoreB", "StoreB", None]
    chunks = [dataclasses.replace(one, tenant=owner) for one, owner in zip(store_chunks(), owners, strict=True)]
    vectors = vectors_of(chunks)
    generation = build_generation(chunks, vectors, index, settings=SETTINGS).generation
    assert verify_generation(generation, chunks, vectors, index=index).problems == ()
    (problem,) = verify_generation(generation, chunks, vectors, index=LeakingIndex(index)).problems
    assert problem.startswith("tenants_apart: 5 chunks searched for by others than their tenants; shown: ")


def test_chunks_of_equal_content_stand_in_for_each_other(index):
    chunk = store_chunks()[0]
    chunks = [dataclasses.replace(chunk, chunk_id=f"copy-{number}::0") for number in range(30)]
    generation = build_generation(chunks, vectors_of(chunks), index, settings=SETTINGS).generation
    assert verify_generation(generation, chunks, vectors_of(chunks), index=index).problems == ()


def test_an_evaluation_measures_documents_by_their_best_chunk(index):
    chunks = store_chunks()
    generation = build_generation(chunks, vectors_of(chunks), index, settings=SETTINGS).generation
    returns = chunks[0]
    queries = [
        # Found first by its vector and by its words.
        LabelledQuery(text=f"{returns.title}\n{returns.text}", relevant_documents=("policies/returns.md",)),
        # One of two is found by words; the other is in no index.
        LabelledQuery(text="Osaka", relevant_documents=("policies/shipping.md", "policies/gone.md")),
        LabelledQuery(text="anything", relevant_documents=()),
    ]
    means = evaluate_retrieval(queries, generation, index=index, embedder=HashEmbedder())
    assert means["keyword"] == {
        **{f"recall@{cutoff}": 0.75 for cutoff in (1, 3, 5, 10)},
        "mrr@10": 1.0,
        "ndcg@10": pytest.approx((1 + 1 / (1 + 1 / np.log2(3))) / 2),
    }
    assert means["fused"]["recall@5"] == 0.75


def test_an_evaluation_refuses_what_it_cannot_measure(index):
    chunks = store_chunks()
    generation = build_generation(chunks, vectors_of(chunks), index, settings=SETTINGS).generation
    with pytest.raises(ValueError, match="none of 1 queries"):
        evaluate_retrieval(
            [LabelledQuery(text="a", relevant_documents=())], generation, index=index, embedder=HashEmbedder()
        )
    with pytest.raises(ValueError, match="dimension 8"):
        evaluate_retrieval(
            [LabelledQuery(text="a", relevant_documents=("b",))],
            generation,
            index=index,
            embedder=HashEmbedder(dimension=8),
        )


def test_the_base_resource_says_which_to_use():
    with pytest.raises(NotImplementedError, match="LanceDbSearchResource"):
        SearchResource().index()
