"""The retrieval pipeline: what its routing decides, and that all who run it get the same candidates."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from mangaassist_assets.retrieval.evaluation import LabelledQuery, evaluate_retrieval
from mangaassist_assets.retrieval.pipeline import PrecomputedEmbedder, RetrievalPipeline, live_pipeline
from mangaassist_assets.retrieval.tenants import UNTENANTED
from mangaassist_assets.retrieval.types import RetrievalRouting
from tests.support.store_chatbot import HashEmbedder, MemoryIndex

# By vector shipping is first, by keywords gift cards are.
QUERY = "gift cards: shipping costs 4 euros. parcels take two days"


class Index(MemoryIndex):
    """The tiny store, whose keyword search finds it all in the reverse order."""

    def keyword_search(self, generation, query, *, scope, limit):
        return self.vector_search(generation, HashEmbedder().embed([query])[0], scope=scope, limit=4)[::-1][:limit]

    def state(self, generation):  # noqa: ARG002
        return None


def routing(**values):
    return RetrievalRouting(
        **{"vector_candidates": 4, "keyword_candidates": 4, "rerank_candidates": 4, "selected_chunks": 2, **values}
    )


def pipeline(index=None, embedder=None, tracer=None, **values):
    parts = {} if tracer is None else {"tracer": tracer}
    return RetrievalPipeline(
        index=index or Index(),
        embedder=embedder or HashEmbedder(),
        generation="kb-test-1",
        routing=routing(**values),
        **parts,
    )


def documents(hits):
    return [one.hit.document_id for one in hits]


def test_the_routing_says_how_deep_is_searched_and_how_much_is_kept():
    found = pipeline(vector_candidates=3, keyword_candidates=2, rerank_candidates=3).search(QUERY, scope=UNTENANTED)
    assert (len(found.by_vector), len(found.by_keyword), len(found.candidates)) == (3, 2, 3)
    assert [one.retrieval_rank for one in found.candidates] == [1, 2, 3]


def test_the_routing_weighs_the_searches():
    by_vector, by_keyword = (
        documents(pipeline(**{weight: 10.0}).search(QUERY, scope=UNTENANTED).candidates)
        for weight in ("vector_weight", "keyword_weight")
    )
    assert by_vector[0] != by_keyword[0]
    assert by_vector == by_keyword[::-1]


def test_without_keyword_candidates_there_is_no_keyword_search():
    found = pipeline(keyword_candidates=0).search(QUERY, scope=UNTENANTED)
    assert found.by_keyword == []
    assert [one.hit for one in found.candidates] == list(found.by_vector)


def test_a_reranker_reorders_and_ties_keep_the_order_of_retrieval():
    one = pipeline()
    found = one.search(QUERY, scope=UNTENANTED).candidates
    relevances = [0.2, 0.9, 0.2, 0.5]
    retrieved = one.select(QUERY, found, lambda *_: relevances)
    assert [hit.retrieval_rank for hit in retrieved.candidates] == [2, 4, 1, 3]
    assert [hit.rerank_rank for hit in retrieved.candidates] == [1, 2, 3, 4]
    assert [hit.relevance for hit in retrieved.selected] == [0.9, 0.5]


def test_without_a_reranker_the_first_candidates_are_selected():
    one = pipeline()
    found = one.search(QUERY, scope=UNTENANTED).candidates
    retrieved = one.select(QUERY, found)
    assert (list(retrieved.candidates), list(retrieved.selected)) == (found, found[:2])
    assert {hit.relevance for hit in retrieved.candidates} == {None}


def test_nothing_found_is_never_reranked():
    def fail(*_):
        raise AssertionError

    assert list(pipeline().select(QUERY, [], fail).candidates) == []


class Recorder:
    """A tracer that keeps the spans in the order in which they open."""

    def __init__(self):
        self.spans = []

    @contextmanager
    def span(self, name):
        self.spans.append((str(name), {}))
        yield self

    def set(self, attributes):
        self.spans[-1][1].update({str(key): value for key, value in attributes.items()})


def test_every_stage_is_traced_in_its_order():
    recorder = Recorder()
    one = pipeline(tracer=recorder)
    one.select(QUERY, one.search(QUERY, scope=UNTENANTED).candidates, lambda *_: [0.1, 0.2, 0.3, 0.4])
    assert [name for name, _ in recorder.spans] == ["embed_query", "vector_search", "keyword_search", "rerank_chunks"]
    assert recorder.spans[-1][1]["rerank_ranks"] == [4, 3, 2, 1]


class CountingEmbedder(HashEmbedder):
    def __init__(self):
        self.calls = []

    def embed(self, texts, *, use="passage"):
        self.calls.append(list(texts))
        return super().embed(texts, use=use)


def test_queries_that_are_known_beforehand_are_embedded_at_once():
    counting = CountingEmbedder()
    one = live_pipeline(Index(), counting, routing(), queries=["a", QUERY])
    known = one.search(QUERY, scope=UNTENANTED).candidates
    assert counting.calls == [["a", QUERY]]
    assert known == pipeline().search(QUERY, scope=UNTENANTED).candidates
    one.search("another", scope=UNTENANTED)
    assert counting.calls[1:] == [["another"]]
    embedder = PrecomputedEmbedder(counting, [])
    assert (embedder.model_id, embedder.embed([]).shape) == (counting.model_id, (0, counting.dimension))


def test_without_a_live_generation_there_is_nothing_to_search():
    with pytest.raises(LookupError, match="materialize live_index first"):
        live_pipeline(Index(live=None), HashEmbedder(), routing())


@pytest.mark.parametrize("weight", ["vector_weight", "keyword_weight"])
def test_the_evaluation_measures_what_the_pipeline_finds(weight):
    deep = {"vector_candidates": 4, "keyword_candidates": 4, "rerank_candidates": 8, weight: 10.0}
    query = LabelledQuery(text=QUERY, relevant_documents=("policies/shipping.md",))
    means = evaluate_retrieval([query], "kb-test-1", index=Index(), embedder=HashEmbedder(), routing=routing(**deep))
    found = documents(pipeline(**deep).search(QUERY, scope=UNTENANTED).candidates)
    assert means["fused"]["mrr@10"] == 1 / (1 + found.index("policies/shipping.md"))
