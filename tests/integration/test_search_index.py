"""The claims of a search index, on LanceDB; and what only a folder on disk can go through."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mangaassist_assets.retrieval.errors import SearchIndexError
from mangaassist_assets.retrieval.search_index import SearchIndex
from mangaassist_assets.retrieval.tenants import UNTENANTED, TenantScope, tenant_name
from resources.search.indexes import LanceDbSearchResource
from tests.support.knowledge import DIMENSION, store_chunks, vectors_of
from tests.support.search_index_claims import SearchIndexClaims, build

pytestmark = pytest.mark.integration


@pytest.fixture
def index(tmp_path: Path) -> SearchIndex:
    return LanceDbSearchResource(path=str(tmp_path / "search")).index()


class TestLanceDb(SearchIndexClaims):
    """The claims, on LanceDB."""


@settings(max_examples=20, deadline=None)
@given(
    names=st.lists(
        st.text(alphabet=st.sampled_from("'\"\\;-=%_*aAé\u0301 本"), min_size=1, max_size=12)
        | st.sampled_from(["' OR 1=1 --", "x') OR ('1'='1", "NULL", "-"]),
        min_size=2,
        max_size=5,
    )
)
def test_whatever_tenants_are_called_each_finds_its_own_and_nobodys(names, tmp_path_factory):
    tenants = sorted({tenant_name(name) for name in names if name.strip()})
    assume(tenants)
    index = LanceDbSearchResource(path=str(tmp_path_factory.mktemp("search"))).index()
    owners = [*tenants, None, *tenants][:5]
    chunks = [
        replace(chunk, tenant=owner) for chunk, owner in zip(store_chunks(), [*owners, *[None] * 5], strict=False)
    ]
    generation = build(index, chunks).generation
    for tenant in (*tenants, None, "nobody"):
        hits = index.vector_search(generation, vectors_of(chunks)[0], scope=TenantScope.of(tenant), limit=9)
        assert {hit.chunk_id for hit in hits} == {one.chunk_id for one in chunks if one.tenant in {tenant, None}}


def test_another_process_sees_what_was_built_and_swapped(index, tmp_path, repository_root):
    generation = build(index).generation
    index.swap_live(generation, expected=None)
    script = (
        "import sys; from mangaassist_assets.retrieval.tenants import UNTENANTED; "
        "from resources.search.indexes import LanceDbSearchResource as R; i = R(path=sys.argv[1]).index(); "
        "g = i.live_generation(); hits = i.keyword_search(g, 'return', scope=UNTENANTED, limit=1); "
        "print(g, i.count(g), hits[0].document_id)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "search")],
        cwd=repository_root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [generation, "5", "policies/returns.md"]


def test_a_reader_survives_that_a_generation_is_deleted_and_built_again(index, tmp_path):
    chunks = store_chunks()
    vectors = vectors_of(chunks)
    generation = build(index).generation
    assert index.vector_search(generation, vectors[1], scope=UNTENANTED, limit=1)[0].chunk_id == chunks[1].chunk_id
    another = LanceDbSearchResource(path=str(tmp_path / "search")).index()
    another.delete_generation(generation)
    assert build(another).built
    assert index.vector_search(generation, vectors[1], scope=UNTENANTED, limit=1)[0].chunk_id == chunks[1].chunk_id
    assert index.keyword_search(generation, "returned", scope=UNTENANTED, limit=1)[0].chunk_id == chunks[0].chunk_id


def test_a_folder_that_a_killed_builder_left_behind_is_replaced(index, tmp_path):
    name = build(index).generation
    index.delete_generation(name)
    (tmp_path / "search" / f"{name}.lance" / "data").mkdir(parents=True)
    assert not index.state(name).sealed
    assert index.generations() == [name]
    assert build(index).built
    assert index.count(name) == 5


def test_a_builder_that_is_killed_leaves_nothing_live_and_is_built_again(index, tmp_path, repository_root):
    script = (
        "import os, signal, sys\n"
        "from resources.search.indexes import LanceDbSearchResource as R\n"
        "from tests.support.search_index_claims import build\n"
        "index = R(path=sys.argv[1]).index()\n"
        "index.seal = lambda generation: os.kill(os.getpid(), signal.SIGKILL)\n"
        "build(index)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "search")], cwd=repository_root, check=False)
    assert done.returncode == -9
    (name,) = index.generations()
    assert not index.state(name).sealed
    assert index.count(name) == 5
    assert index.live_generation() is None
    assert build(index).built
    assert index.keyword_search(name, "returned", scope=UNTENANTED, limit=1)[0].document_id == "policies/returns.md"


def test_a_damaged_alias_file_says_what_to_write(index, tmp_path):
    generation = build(index).generation
    index.swap_live(generation, expected=None)
    (tmp_path / "search" / "alias.json").write_text('{"schema": 1')
    with pytest.raises(SearchIndexError, match=f"alias.json is damaged.*{generation}"):
        index.live_generation()


def test_the_alias_file_tells_what_was_live_before(index, tmp_path):
    first, second = build(index).generation, build(index, store_chunks()[:2]).generation
    index.swap_live(first, expected=None)
    index.swap_live(second, expected=first)
    content = json.loads((tmp_path / "search" / "alias.json").read_text())
    assert (content["live"], content["previous"]) == (second, first)
    assert not list((tmp_path / "search").glob(".alias.json.*"))


@pytest.mark.parametrize("name", ["../kb", "KB-1", "", "a/b", "kb 1", "x" * 64])
def test_a_generation_cannot_be_named_out_of_the_folder(index, name):
    with pytest.raises(ValueError, match="is no name for a generation"):
        index.create_generation(name, dimension=DIMENSION)


def test_a_search_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SearchIndexError, match="cannot create the search folder"):
        build(LanceDbSearchResource(path=str(tmp_path / "file" / "search")).index())
