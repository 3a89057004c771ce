"""The claims of a search index, on a real OpenSearch, as a cluster and laid out as for OpenSearch Serverless."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mangaassist_assets.retrieval.errors import SearchIndexError
from mangaassist_assets.retrieval.generations import prune_generations
from mangaassist_assets.retrieval.search_index import SearchIndex
from resources.search.indexes import OpenSearchResource
from resources.search.opensearch_index import OpenSearchIndex, OpenSearchLayout, connect
from tests.support.knowledge import DIMENSION, store_chunks, vectors_of
from tests.support.search_index_claims import SearchIndexClaims, build

pytestmark = pytest.mark.integration

_READY = "OpenSearch ready at "
_START_SECONDS = 90.0


@pytest.fixture(scope="module")
def opensearch_url(repository_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = repository_root.parent / "shared" / "opensearch" / "opensearch"
    if not program.exists():
        pytest.skip("the OpenSearch beside the repository, ../shared/opensearch, is missing")
    if shutil.which("java") is None:
        pytest.skip("OpenSearch needs Java, and there is none on the path")
    folder = tmp_path_factory.mktemp("opensearch")
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(program), "0", str(folder / "data")],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OPENSEARCH_HEAP": "512m"},
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        url = None
        while url is None:
            content = log.read_text()
            url = next((line.removeprefix(_READY) for line in content.splitlines() if line.startswith(_READY)), None)
            if url is None and (process.poll() is not None or time.monotonic() > deadline):
                pytest.fail(f"OpenSearch did not start:\n{content[-2000:]}")
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def clean_url(opensearch_url: str) -> Iterator[str]:
    yield opensearch_url
    client = connect(opensearch_url, auth="none")
    for name in client.indices.get(index="*"):
        client.indices.delete(index=name)


@pytest.fixture
def index(clean_url: str) -> SearchIndex:
    return OpenSearchResource(url=clean_url, engine="lucene", auth="none", replicas=0).index()


class TestOpenSearch(SearchIndexClaims):
    """The claims, on OpenSearch."""


def index_without_refresh(url: str) -> SearchIndex:
    """Return one laid out as for Serverless but for the engine, which the local node lacks: faiss is native code."""
    layout = OpenSearchLayout(engine="lucene", replicas=0)
    index = OpenSearchIndex(connect(url, auth="none"), layout=layout, visibility_timeout_seconds=30)
    object.__setattr__(layout, "serverless", True)
    return index


def test_without_ids_and_refresh_a_generation_becomes_visible_by_waiting(clean_url):
    index = index_without_refresh(clean_url)
    report = build(index)
    assert index.count(report.generation) == 5
    client = connect(clean_url, auth="none")
    hits = client.search(index=report.generation, body={"query": {"match_all": {}}})["hits"]["hits"]
    assert sorted(hit["_source"]["chunk_id"] for hit in hits) == sorted(chunk.chunk_id for chunk in store_chunks())
    assert not {hit["_id"] for hit in hits} & {chunk.chunk_id for chunk in store_chunks()}


def test_without_ids_a_repeated_write_is_seen_before_sealing(clean_url, monkeypatch):
    index = index_without_refresh(clean_url)
    add = index.add

    def add_twice(generation, chunks, vectors):
        add(generation, chunks, vectors)
        add(generation, chunks, vectors)

    monkeypatch.setattr(index, "add", add_twice)
    with pytest.raises(SearchIndexError, match="holds 10 chunks instead of 5"):
        build(index)
    name = index.generations()[0]
    assert not index.state(name).sealed
    monkeypatch.undo()
    assert build(index).built


def test_with_ids_a_repeated_write_changes_nothing(index):
    chunks = store_chunks()
    index.create_generation("kb-x", dimension=DIMENSION)
    index.add("kb-x", chunks, vectors_of(chunks))
    index.add("kb-x", chunks, vectors_of(chunks))
    assert index.count("kb-x") == 5


def test_other_indexes_of_the_cluster_are_left_alone(index, clean_url):
    client = connect(clean_url, auth="none")
    client.indices.create(index="somebody-elses")
    generation = build(index).generation
    assert index.generations() == [generation]
    assert index.state("somebody-elses") is None


def test_stores_that_share_a_cluster_never_see_or_prune_each_others_generations(index, clean_url):
    other = OpenSearchResource(url=clean_url, alias="another-store", engine="lucene", auth="none", replicas=0).index()
    theirs = build(other).generation
    ours = build(index).generation
    assert theirs != ours
    assert (other.generations(), index.generations()) == ([theirs], [ours])
    index.swap_live(ours, expected=None)
    assert prune_generations(index, keep=0) == []
    assert other.state(theirs) is not None


def test_what_opensearch_refuses_is_raised_with_its_reason(index):
    chunks = store_chunks()
    index.create_generation("kb-x", dimension=DIMENSION)
    vectors = vectors_of(chunks)
    vectors[2] = float("nan")
    with pytest.raises(SearchIndexError, match="OpenSearch refused"):
        index.add("kb-x", chunks, vectors)


def test_an_alias_that_names_two_indexes_is_an_error(index, clean_url):
    client = connect(clean_url, auth="none")
    first, second = build(index).generation, build(index, store_chunks()[:2]).generation
    for name in (first, second):
        client.indices.put_alias(index=name, name="mangaassist-knowledge")
    with pytest.raises(SearchIndexError, match="remove it from all but one"):
        index.live_generation()


def test_a_cluster_that_is_not_there_is_named():
    index = OpenSearchResource(url="http://127.0.0.1:9", engine="lucene", auth="none", timeout_seconds=2).index()
    with pytest.raises(SearchIndexError, match="OpenSearch failed at reading the alias"):
        index.live_generation()


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="Serverless has no engine 'lucene'"):
        OpenSearchResource(url="http://127.0.0.1:9", engine="lucene", serverless=True, auth="none").index()
    with pytest.raises(ValueError, match="needs a username and a password"):
        OpenSearchResource(url="http://127.0.0.1:9", auth="basic").index()
