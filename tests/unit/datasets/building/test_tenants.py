"""Ranking datasets of several tenants: beside a query stand only passages that its shopper could be shown."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from upath import UPath

from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.building.ranking_versions import title_queries
from mangaassist_assets.datasets.building.rebuilding import rebuild, rebuild_reranker_dataset
from mangaassist_assets.datasets.building.recorded_searches import recorded_search, searches_to_parquet
from mangaassist_assets.datasets.building.reranker_dataset import RankingDatasetConfig, build_ranking_dataset
from mangaassist_assets.datasets.sources.training_corpus import (
    CORPUS_FILE,
    corpus_to_json,
    labelled_queries,
    read_corpus,
)
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.retrieval.evaluation import LabelledQuery, answerable_queries
from mangaassist_assets.retrieval.tenants import UNTENANTED, TenantScope
from tests.support.dataset_store import BUNDLE, fill, knowledge, put_dataset, put_knowledge, put_turns, reviewed_turn
from tests.unit.datasets.building.test_reranker_dataset import TRAIN_USER, finds, make_chunk, make_turn

OWNERS = ("StoreA", "StoreB", None)
CHUNKS = {
    chunk.chunk_id: chunk
    for number in range(30)
    for owner in OWNERS
    for chunk in [replace(make_chunk(f"{owner}-{number}.md"), tenant=owner)]
}
EVERYTHING = RankingDatasetConfig(random_negatives=8)


@pytest.fixture
def store(tmp_path) -> SnapshotStore:
    return SnapshotStore(UPath(tmp_path / "store"))


def owners_of(dataset, trace_id):
    rows = dataset.rows.filter(pl.col("example_id") == f"trace-{trace_id}")
    return {CHUNKS[chunk_id].tenant for chunk_id in rows["chunk_id"]}


def test_no_passage_of_another_tenant_stands_beside_a_query():
    shown = ["StoreB-1.md::0", "StoreA-1.md::0", "None-1.md::0"]
    turns = [
        make_turn("a", shown, ("StoreA-2.md",), tenant="StoreA", message="where is my parcel"),
        make_turn("n", shown, ("None-2.md",), message="do gift cards expire", user_key=f"{TRAIN_USER}x"),
    ]
    # The index answers as if it had no filter: what is another's is left out all the same.
    dataset = build_ranking_dataset(
        [], turns, chunks=CHUNKS, search=finds("StoreB-3.md::0", "StoreA-3.md::0", "None-3.md::0"), config=EVERYTHING
    )
    assert owners_of(dataset, "a") == {"StoreA", None}
    assert owners_of(dataset, "n") <= {None}
    assert dataset.provenance.passages_left_out["of another tenant"] >= 2


def test_the_live_index_is_searched_as_the_shopper_would():
    asked = []

    def search(query, scope):
        asked.append((query, scope))
        return []

    base = [Utterance(text="when do you open", relevant_documents=("StoreA-1.md",), tenant="StoreA")]
    turns = [
        make_turn("b", ["None-1.md::0"], ("StoreB-2.md",), tenant="StoreB", message="where is my parcel"),
        # A trace may say anything of its tenant; what is no name tells of none.
        make_turn("odd", ["None-1.md::0"], ("None-2.md",), tenant="\x00", message="gift cards"),
    ]
    dataset = build_ranking_dataset(base, turns, chunks=CHUNKS, search=search, config=EVERYTHING)
    scopes = {"when do you open": TenantScope.of("StoreA"), "where is my parcel": TenantScope.of("StoreB")}
    assert dict(asked) == {**scopes, "gift cards": UNTENANTED}
    assert set(dataset.searches) == {(query, scope.tenant) for query, scope in asked}


def test_a_document_of_another_tenant_answers_nobody_elses_question():
    turns = [
        make_turn("a", ["StoreA-1.md::0"], ("StoreB-1.md",), tenant="StoreA"),
        make_turn("b", ["StoreB-1.md::0", "StoreB-2.md::0"], ("StoreB-1.md",), tenant="StoreB", message="parcels"),
    ]
    dataset = build_ranking_dataset([], turns, chunks=CHUNKS, search=finds(), config=EVERYTHING)
    assert dataset.provenance.excluded["relevant document is of another tenant"] == 1


def test_the_same_message_of_two_tenants_is_no_contradiction():
    turns = [
        make_turn(
            owner, [f"{owner}-1.md::0", f"{owner}-2.md::0"], (f"{owner}-1.md",), tenant=owner, message="opening hours"
        )
        for owner in ("StoreA", "StoreB")
    ]
    dataset = build_ranking_dataset([], turns, chunks=CHUNKS, search=finds(), config=EVERYTHING)
    assert dataset.provenance.conflicts == ()


def test_titles_stand_in_as_queries_of_the_tenant_they_belong_to():
    chunks = [replace(make_chunk(f"{owner}.md"), title="Opening hours", tenant=owner) for owner in OWNERS]
    assert {(one.tenant, one.relevant_documents) for one in title_queries(chunks)} == {
        (owner, (f"{owner}.md",)) for owner in OWNERS
    }


def test_searches_are_recorded_by_tenant_and_without_tenants_as_they_always_were():
    plain = searches_to_parquet({("hours", None): ("c::0",)})
    assert pl.read_parquet(plain).columns == ["query", "rank", "chunk_id"]
    both = searches_to_parquet({("hours", None): ("c::0",), ("hours", "StoreA"): ("a::0", "c::0")})
    search = recorded_search(both)([])
    assert [hit.chunk_id for hit in search("hours", UNTENANTED)] == ["c::0"]
    assert [hit.chunk_id for hit in search("hours", TenantScope.of("StoreA"))] == ["a::0", "c::0"]


def test_a_version_of_several_tenants_is_built_again_to_the_byte(store):
    fill(store)
    put_knowledge(store, [replace(one, tenant="StoreA" if row < 2 else None) for row, one in enumerate(knowledge())])
    turns = [reviewed_turn(number, bundle=BUNDLE, user=None) for number in range(8)]
    put_turns(
        store, BUNDLE, [replace(turn, tenant="StoreA" if number % 2 else None) for number, turn in enumerate(turns)]
    )
    rebuilt = rebuild(store, put_dataset(store, BUNDLE), rebuild_reranker_dataset)
    assert (rebuilt.outcome, rebuilt.reason) == ("identical", None), rebuilt


def test_the_corpus_keeps_the_tenant_of_a_message_and_is_as_it_was_without_one(store):
    message = Utterance(text="hours", intent="i", relevant_documents=("a.md",))
    assert b"tenant" not in corpus_to_json([message])
    store.write("training_corpus", {CORPUS_FILE: corpus_to_json([message, replace(message, tenant="StoreA")])})
    assert [one.tenant for one in read_corpus(store)] == [None, "StoreA"]
    assert [one.tenant for one in labelled_queries(store)] == [None, "StoreA"]


def test_queries_whose_documents_are_anothers_are_left_out_of_an_evaluation():
    chunks = list(CHUNKS.values())

    def query(document, tenant=None):
        return LabelledQuery(text=document, relevant_documents=(document,), tenant=tenant)

    kept = [query("StoreA-1.md", "StoreA"), query("None-1.md", "StoreA"), query("None-1.md")]
    of_others = [query("StoreA-1.md"), query("StoreA-1.md", "StoreB")]
    found = answerable_queries([*kept, *of_others, query("gone.md")], chunks)
    assert (found.queries, found.of_others, found.gone) == (tuple(kept), tuple(of_others), (query("gone.md"),))
