"""The embedding cache: what is embedded, what reused, and what survives kills, damage and company."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mangaassist_assets.retrieval import embedding_cache
from mangaassist_assets.retrieval.chunking import chunk_documents, embedding_text
from mangaassist_assets.retrieval.documents.documents import KnowledgeDocument
from mangaassist_assets.retrieval.embedding_cache import EmbeddingCache, embed_chunks, embed_contents
from mangaassist_assets.retrieval.errors import EmbeddingError
from tests.support.knowledge import HashEmbedder


def chunks_of(*texts):
    return chunk_documents(
        [KnowledgeDocument(document_id=f"{number}.md", title="T", text=text) for number, text in enumerate(texts)]
    )


@pytest.fixture
def cache(tmp_path):
    return EmbeddingCache(tmp_path / "cache")


def test_only_new_content_is_embedded(cache):
    embedder = HashEmbedder()
    first, report = embed_chunks(chunks_of("a", "b", "a"), embedder, cache)
    assert (report.embedded, report.reused) == (2, 0)

    embedder = HashEmbedder()
    second, report = embed_chunks(chunks_of("b", "c", "a"), embedder, cache)
    assert (report.embedded, report.reused) == (1, 2)
    assert embedder.embedded == ["T\nc"]
    np.testing.assert_array_equal(second[[0, 2]], first[[1, 0]])


def test_rows_are_in_the_order_of_the_chunks(cache):
    chunks = chunks_of("a much longer text", "b", "middle one")
    vectors, _ = embed_chunks(chunks, HashEmbedder(), cache)
    np.testing.assert_array_equal(vectors, HashEmbedder().embed([embedding_text(c.title, c.text) for c in chunks]))
    assert vectors.dtype == np.float32


def test_models_and_dimensions_do_not_share_vectors(cache):
    chunks = chunks_of("a")
    for embedder in (HashEmbedder("m:1"), HashEmbedder("m/1"), HashEmbedder("m:1", dimension=8), HashEmbedder("../m")):
        vectors, report = embed_chunks(chunks, embedder, cache)
        assert report.embedded == 1
        assert vectors.shape == (1, embedder.dimension)


def test_a_killed_run_keeps_the_batches_it_finished(cache, monkeypatch):
    monkeypatch.setattr(embedding_cache, "BATCH_SIZE", 2)

    class DyingEmbedder(HashEmbedder):
        def embed(self, texts, *, use="passage"):
            if len(self.embedded) >= 4:
                raise KeyboardInterrupt
            return super().embed(texts, use=use)

    chunks = chunks_of(*"abcdefg")
    with pytest.raises(KeyboardInterrupt):
        embed_chunks(chunks, DyingEmbedder(), cache)
    _, report = embed_chunks(chunks, HashEmbedder(), cache)
    assert (report.embedded, report.reused) == (3, 4)


def test_a_damaged_segment_is_put_aside_and_embedded_again(cache, tmp_path, caplog):
    chunks = chunks_of("a", "b")
    before, _ = embed_chunks(chunks, HashEmbedder(), cache)
    segment = next((tmp_path / "cache").rglob("*.parquet"))
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 0xFF
    segment.write_bytes(content)

    after, report = embed_chunks(chunks, HashEmbedder(), cache)

    assert report.embedded == 2
    assert "is damaged" in caplog.text
    np.testing.assert_array_equal(after, before)
    assert list((tmp_path / "cache").rglob("*.damaged"))


def test_leftovers_of_a_killed_writer_are_ignored(cache, tmp_path):
    embed_chunks(chunks_of("a"), HashEmbedder(), cache)
    folder = next((tmp_path / "cache").iterdir())
    (folder / ".0123.tmp").write_bytes(b"half")
    assert embed_chunks(chunks_of("a"), HashEmbedder(), cache)[1].embedded == 0


def test_many_writers_at_once_lose_nothing(cache, tmp_path):
    chunks = chunks_of(*(f"text {number}" for number in range(30)))

    def embed(number):
        return embed_chunks(chunks[number : number + 10], HashEmbedder(), EmbeddingCache(tmp_path / "cache"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(embed, [0, 5, 10, 15, 20] * 3))
    vectors, report = embed_chunks(chunks, HashEmbedder(), cache)
    assert report.embedded == 0
    np.testing.assert_array_equal(vectors, HashEmbedder().embed([f"T\ntext {number}" for number in range(30)]))
    assert not list((tmp_path / "cache").rglob(".*"))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda v: v[:-1], "of shape"),
        (lambda v: v.astype(np.float64), "float64"),
        (lambda v: v * 2, "not of length one"),
        (lambda v: np.where(np.arange(len(v))[:, None] == 1, np.nan, v).astype(np.float32), "1 of 3 vectors"),
    ],
)
def test_vectors_that_cannot_be_used_are_refused_and_not_kept(cache, tmp_path, spoil, reason):
    class SpoiledEmbedder(HashEmbedder):
        def embed(self, texts, *, use="passage"):
            return spoil(super().embed(texts, use=use))

    with pytest.raises(EmbeddingError, match=reason):
        embed_chunks(chunks_of("a", "b", "c"), SpoiledEmbedder(), cache)
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(EmbeddingError, match="embedding cache"):
        embed_chunks(chunks_of("a"), HashEmbedder(), EmbeddingCache(tmp_path / "file"))


def test_progress_counts_contents_up_to_all_of_them(cache, monkeypatch):
    monkeypatch.setattr(embedding_cache, "BATCH_SIZE", 2)
    embed_chunks(chunks_of("a"), HashEmbedder(), cache)
    seen = []
    texts = {chunk.content_hash: chunk.text for chunk in chunks_of(*"abcde")}
    embed_contents(texts, HashEmbedder(), cache, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 5), (3, 5), (5, 5)]


def test_no_chunks_give_no_vectors(cache):
    vectors, report = embed_chunks([], HashEmbedder(), cache)
    assert vectors.shape == (0, 16)
    assert (report.embedded, report.reused) == (0, 0)


def test_vectors_of_some_contents_are_forgotten_of_every_model_and_others_stay(cache):
    chunks = chunks_of("a", "b", "c")
    gone, kept = [chunks[0].content_hash], [one.content_hash for one in chunks[1:]]
    embedder = HashEmbedder()
    embed_chunks(chunks, embedder, cache)
    cache.write("another", 2, [*gone, "f" * 64], np.eye(2, dtype=np.float32))
    assert cache.holds(gone)
    assert cache.forget(gone) == 2
    assert not cache.holds(gone)
    assert cache.forget(gone) == 0
    assert cache.read(embedder.model_id, embedder.dimension, kept).keys() == set(kept)
    assert cache.holds(["f" * 64])
    assert not cache.holds([])


def test_a_damaged_segment_goes_with_what_is_forgotten(cache, tmp_path):
    chunks = chunks_of("a", "b")
    embed_chunks(chunks[:1], HashEmbedder(), cache)
    segment = next((tmp_path / "cache").rglob("*.parquet"))
    segment.write_bytes(segment.read_bytes()[:-1])
    embed_chunks(chunks[1:], HashEmbedder(), cache)
    (segment.parent / "old.damaged").write_bytes(b"?")
    assert cache.forget([chunks[0].content_hash]) == 0
    assert not segment.exists()
    assert not list((tmp_path / "cache").rglob("*.damaged"))
