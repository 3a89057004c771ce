"""What every search index must do; the tests of each engine inherit these claims and give the fixture `index`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from mangaassist_assets.retrieval.chunking import chunk_documents
from mangaassist_assets.retrieval.documents.documents import KnowledgeDocument
from mangaassist_assets.retrieval.errors import AliasMovedError, SearchIndexError
from mangaassist_assets.retrieval.generations import (
    GenerationReport,
    GenerationSettings,
    build_generation,
    prune_generations,
    verify_generation,
)
from mangaassist_assets.retrieval.going_live import LiveSwap
from mangaassist_assets.retrieval.search_index import SearchIndex
from mangaassist_assets.retrieval.tenants import ALL_TENANTS, UNTENANTED, TenantScope
from mangaassist_assets.retrieval.types import Chunk, Vectors
from tests.support.going_live import let_live
from tests.support.knowledge import DIMENSION, store_chunks, vectors_of

SETTINGS = GenerationSettings(embedding_model_id="hash-embedder", batch_size=2)
LOGGER = logging.getLogger(__name__)
SETTINGS_OF_MANY = GenerationSettings(embedding_model_id="hash-embedder")
TENANTS = ("CustomerA", "customera", "O'Brien", "' OR 1=1 --", "株式会社ほん")
SUBJECTS = ("lantern", "harbor", "winter", "orchard")
THINGS = ("dragon", "baker", "violin", "comet", "tiger")


def build(index: SearchIndex, chunks: list[Chunk] | None = None) -> GenerationReport:
    chunks = store_chunks() if chunks is None else chunks
    return build_generation(chunks, vectors_of(chunks), index, settings=SETTINGS)


class SearchIndexClaims:
    """Claims about a `SearchIndex`; each test gets an empty one."""

    @pytest.fixture
    def chunks(self) -> list[Chunk]:
        return store_chunks()

    @pytest.fixture
    def vectors(self, chunks: list[Chunk]) -> Vectors:
        return vectors_of(chunks)

    @pytest.fixture
    def generation(self, index: SearchIndex) -> Iterator[str]:
        return build(index).generation

    def test_a_chunk_is_its_own_nearest(self, index, generation, chunks, vectors):
        for chunk, vector in zip(chunks, vectors, strict=True):
            hits = index.vector_search(generation, vector, scope=UNTENANTED, limit=3)
            assert len(hits) == 3
            assert (hits[0].chunk_id, hits[0].document_id) == (chunk.chunk_id, chunk.document_id)
            assert (hits[0].title, hits[0].text) == (chunk.title, chunk.text)
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    @pytest.mark.parametrize(
        ("query", "document"),
        [
            ("may I return volume 3?", "policies/returns.md"),
            ("RETURNING", "policies/returns.md"),
            ("予約", "guides/japanese.md"),
            ("東京で受け取りたい", "guides/japanese.md"),
            ("cafe", "guides/cafe.md"),
            ('"quoted" AND ( NOT', "guides/cafe.md"),
            ("osaka\x00\ud800", "policies/shipping.md"),
            ("insured " * 20_000, "policies/shipping.md"),
        ],
    )
    def test_keywords_find_the_chunk_that_has_them(self, index, generation, query, document):
        assert index.keyword_search(generation, query, scope=UNTENANTED, limit=3)[0].document_id == document

    @pytest.mark.parametrize("query", ["", "   ", "\x00", "!!! ((", "*", "\\", "xyzzy~2^3", "x" * 100_000])
    def test_a_query_without_known_words_finds_nothing(self, index, generation, query):
        assert index.keyword_search(generation, query, scope=UNTENANTED, limit=3) == []

    def test_no_search_goes_without_a_scope(self, index, generation, vectors):
        with pytest.raises(TypeError, match="scope"):
            index.vector_search(generation, vectors[0], limit=1)
        with pytest.raises(TypeError, match="scope"):
            index.keyword_search(generation, "volume", limit=1)

    def test_of_a_thousand_random_queries_none_is_answered_by_another_tenant(self, index):
        """Five tenants and nobody have the same twenty documents but for a word: the nearest are mostly another's."""
        generator = np.random.default_rng(7)
        topics = [f"{subject} of the {thing}" for subject in SUBJECTS for thing in THINGS]
        bases = generator.normal(size=(len(topics), DIMENSION))
        owners = [
            (topic, tenant, copy) for topic in range(len(topics)) for tenant in (*TENANTS, None) for copy in (1, 2)
        ]
        chunks = chunk_documents(
            [
                KnowledgeDocument(
                    document_id=f"{number}.md",
                    title="Shelf",
                    text=f"The shelf tells the {topics[topic]}, copy {copy}.",
                    tenant=tenant,
                )
                for number, (topic, tenant, copy) in enumerate(owners)
            ]
        )
        near = np.stack([bases[topic] for topic, _, _ in owners]) + 0.01 * generator.normal(
            size=(len(chunks), DIMENSION)
        )
        vectors = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
        generation = build_generation(chunks, vectors, index, settings=SETTINGS_OF_MANY).generation
        tenant_of = {chunk.chunk_id: chunk.tenant for chunk in chunks}
        assert verify_generation(generation, chunks, vectors, index=index, minimum_keyword_found=0.0).problems == ()

        for _ in range(1_000):
            topic = int(generator.integers(len(topics)))
            tenant = (*TENANTS, None)[int(generator.integers(len(TENANTS) + 1))]
            limit = int(generator.integers(1, 13))
            scope = TenantScope.of(tenant)
            vector = bases[topic] + 0.05 * generator.normal(size=DIMENSION)
            vector = (vector / np.linalg.norm(vector)).astype(np.float32)
            admitted = 80 if tenant is not None else 40
            for hits in (
                index.vector_search(generation, vector, scope=scope, limit=limit),
                index.keyword_search(generation, f"shelf {topics[topic]}", scope=scope, limit=limit),
            ):
                assert {tenant_of[hit.chunk_id] for hit in hits} <= {tenant, None}
                # What others have takes no place: as many are found as were asked for, and the right ones first.
                assert len(hits) == min(limit, admitted)
                best = 4 if tenant is not None else 2
                assert all(topics[topic] in hit.text for hit in hits[:best])

    @pytest.mark.parametrize(
        "tenant", ["' OR 1=1 --", "x' OR tenant_key IS NOT NULL --", '"', "*", "-", "\\'", "o'neil"]
    )
    def test_a_hostile_name_of_a_tenant_finds_what_is_its_own_and_nothing_else(self, index, tenant):
        chunks = [
            replace(chunk, tenant=owner)
            for chunk, owner in zip(store_chunks(), ["Store", "store", tenant, None, "o'neill"], strict=True)
        ]
        generation = build(index, chunks).generation
        vectors = vectors_of(chunks)
        found = index.vector_search(generation, vectors[0], scope=TenantScope.of(tenant), limit=9)
        assert {hit.chunk_id for hit in found} == {chunks[2].chunk_id, chunks[3].chunk_id}
        found = index.keyword_search(generation, "volume shipping 予約 tea", scope=TenantScope.of(tenant), limit=9)
        assert {hit.chunk_id for hit in found} <= {chunks[2].chunk_id, chunks[3].chunk_id}

    def test_a_shopper_finds_what_is_theirs_and_nobodys_and_all_tenants_is_everything(self, index, chunks):
        owned = [replace(chunk, tenant="Store" if number < 3 else None) for number, chunk in enumerate(chunks)]
        generation = build(index, owned).generation
        vector = vectors_of(owned)[0]

        def found(scope):
            return {hit.document_id for hit in index.vector_search(generation, vector, scope=scope, limit=9)}

        assert found(UNTENANTED) == {"guides/japanese.md", "guides/cafe.md"}
        assert len(found(TenantScope.of("Store"))) == 5
        # Names are compared with their case.
        assert found(TenantScope.of("store")) == found(UNTENANTED)
        assert len(found(ALL_TENANTS)) == 5

    def test_equal_content_of_another_tenant_is_another_generation(self, index, generation, chunks):
        assert build(index, [replace(chunk, tenant="Store") for chunk in chunks]).generation != generation

    def test_equal_content_is_built_once(self, index, generation, chunks):
        again = build(index, list(reversed(chunks)))
        assert (again.generation, again.built) == (generation, False)
        assert index.generations() == [generation]

    def test_a_generation_left_unfinished_is_built_anew(self, index, chunks, vectors):
        name = build(index).generation
        index.delete_generation(name)
        index.create_generation(name, dimension=DIMENSION)
        index.add(name, chunks[:2], vectors[:2])
        assert not index.state(name).sealed

        report = build(index)

        assert (report.generation, report.built) == (name, True)
        assert index.count(name) == len(chunks)
        assert index.state(name).sealed
        assert verify_generation(name, chunks, vectors, index=index, minimum_keyword_found=1.0).problems == ()

    def test_a_finished_generation_does_not_change(self, index, generation, chunks, vectors):
        with pytest.raises(SearchIndexError, match=f"{generation} is finished"):
            index.add(generation, chunks, vectors)
        with pytest.raises(SearchIndexError, match=f"{generation} is finished"):
            index.create_generation(generation, dimension=DIMENSION)
        assert index.count(generation) == len(chunks)

    def test_an_unknown_generation_is_named(self, index, generation):
        for call in (
            lambda: index.count("kb-none"),
            lambda: index.vector_search("kb-none", np.ones(DIMENSION, dtype=np.float32), scope=UNTENANTED, limit=1),
            lambda: index.keyword_search("kb-none", "volume", scope=UNTENANTED, limit=1),
            lambda: index.swap_live("kb-none", expected=None),
            lambda: index.delete_generation("kb-none"),
        ):
            with pytest.raises(SearchIndexError, match=f"kb-none.*{generation}"):
                call()
        assert index.state("kb-none") is None

    def test_the_alias_moves_only_from_where_it_is_expected(self, index, generation, chunks):
        other = build(index, chunks[:3]).generation
        assert index.live_generation() is None
        with pytest.raises(AliasMovedError):
            index.swap_live(generation, expected=other)
        index.swap_live(generation, expected=None)
        assert index.live_generation() == generation
        with pytest.raises(AliasMovedError) as caught:
            index.swap_live(other, expected=None)
        assert caught.value.actual == generation
        index.swap_live(other, expected=generation)
        assert index.live_generation() == other

    @pytest.mark.parametrize("some_are_live", [False, True])
    def test_of_many_swaps_at_once_one_wins(self, index, chunks, some_are_live):
        first, *others = [build(index, chunks[: size + 1]).generation for size in range(5)]
        before = first if some_are_live else None
        if before is not None:
            index.swap_live(before, expected=None)
        barrier = threading.Barrier(len(others))

        def swap(name: str) -> str | None:
            barrier.wait()
            try:
                index.swap_live(name, expected=before)
            except AliasMovedError:
                return None
            return name

        with ThreadPoolExecutor(len(others)) as pool:
            winners = [winner for winner in pool.map(swap, others) if winner is not None]
        assert winners == [index.live_generation()]

    def test_an_unfinished_generation_cannot_go_live(self, index):
        index.create_generation("kb-half", dimension=DIMENSION)
        with pytest.raises(SearchIndexError, match="kb-half is not finished"):
            index.swap_live("kb-half", expected=None)
        assert index.live_generation() is None

    def test_the_live_generation_cannot_be_deleted(self, index, generation):
        index.swap_live(generation, expected=None)
        with pytest.raises(SearchIndexError, match=f"{generation} is live"):
            index.delete_generation(generation)
        assert index.count(generation) == 5

    def test_pruning_keeps_the_live_the_newest_and_the_protected(self, index, chunks):
        names = [build(index, chunks[: size + 1]).generation for size in range(5)]
        index.create_generation("kb-half", dimension=DIMENSION)
        index.swap_live(names[0], expected=None)
        assert index.generations() == [*names, "kb-half"]

        assert prune_generations(index, keep=1, protect=[names[1]]) == names[2:4]
        assert index.generations() == [names[0], names[1], names[4], "kb-half"]

        a_day_on = index.state("kb-half").created_at + 24 * 3_600_000
        assert prune_generations(index, keep=1, now_ms=a_day_on) == [names[1], "kb-half"]

    def test_going_live_prunes_but_never_the_generation_before(self, index, chunks):
        names = [build(index, chunks[: size + 1]).generation for size in range(5)]
        assert let_live(index, names[0], keep=5) == LiveSwap(previous=None, swapped=True, pruned=())
        swap = let_live(index, names[3], keep=1)
        assert swap == LiveSwap(previous=names[0], swapped=True, pruned=(names[1], names[2]))
        assert index.live_generation() == names[3]
        assert index.generations() == [names[0], names[3], names[4]]
        assert let_live(index, names[3], keep=1) == LiveSwap(previous=names[3], swapped=False, pruned=())
        assert index.generations() == [names[0], names[3], names[4]]

    def test_what_cannot_be_deleted_is_warned_of_and_the_alias_has_moved(self, index, chunks, monkeypatch, caplog):
        first, second = (build(index, chunks[: size + 1]).generation for size in range(2))

        def refuse(generation):
            raise SearchIndexError(f"{generation} is read-only")

        monkeypatch.setattr(index, "delete_generation", refuse)
        swap = let_live(index, second, keep=1)
        assert swap == LiveSwap(previous=None, swapped=True, pruned=())
        assert index.live_generation() == second
        assert f"{first} is read-only" in caplog.text

    def test_searches_go_on_while_a_generation_is_built_and_swapped(self, index, generation, chunks, vectors):
        index.swap_live(generation, expected=None)
        stop = threading.Event()
        seen: set[str] = set()

        def search() -> int:
            searches = 0
            while not stop.is_set():
                live = index.live_generation()
                seen.add(live)
                assert (
                    index.vector_search(live, vectors[0], scope=UNTENANTED, limit=1)[0].chunk_id == chunks[0].chunk_id
                )
                assert (
                    index.keyword_search(live, "returned volumes", scope=UNTENANTED, limit=1)[0].chunk_id
                    == chunks[0].chunk_id
                )
                searches += 1
            return searches

        with ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(search) for _ in range(2)]
            live = generation
            try:
                for size in (1, 2, 3):
                    new = build(index, chunks[:size]).generation
                    index.swap_live(new, expected=live)
                    live = new
            finally:
                stop.set()
            assert all(reader.result() > 0 for reader in readers)
        assert len(seen) > 1
