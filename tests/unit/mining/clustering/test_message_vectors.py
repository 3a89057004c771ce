import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.mining.clustering.message_vectors import embed_messages, text_hash
from mangaassist_assets.retrieval import embedding_cache
from mangaassist_assets.retrieval.embedding_cache import EmbeddingCache
from mangaassist_assets.retrieval.errors import EmbeddingError
from tests.support.knowledge import HashEmbedder


@pytest.fixture
def cache(tmp_path):
    return EmbeddingCache(tmp_path / "cache")


def test_a_repeated_message_is_embedded_once_and_a_known_one_never_again(cache):
    embedder = HashEmbedder()
    first, report = embed_messages(["where is it?", "hi", "where is it?"], embedder=embedder, cache=cache)
    assert (report.embedded, report.reused) == (2, 0)
    np.testing.assert_array_equal(first[0], first[2])

    embedder = HashEmbedder()
    second, report = embed_messages(["new", "hi", "where is it?"], embedder=embedder, cache=cache)
    assert (report.embedded, report.reused, embedder.embedded) == (1, 2, ["new"])
    np.testing.assert_array_equal(second[1:], first[[1, 0]])


def test_short_texts_go_first_so_that_batches_waste_no_padding(cache):
    embedder = HashEmbedder()
    embed_messages(["a long one", "b", "four"], embedder=embedder, cache=cache)
    assert embedder.embedded == ["b", "four", "a long one"]


def test_without_a_cache_everything_is_embedded_and_nothing_kept(tmp_path):
    vectors, report = embed_messages(["a", "b", "a"], embedder=HashEmbedder())
    assert (report.embedded, report.reused, vectors.shape) == (2, 0, (3, 16))
    assert not list(tmp_path.iterdir())


def test_no_messages_give_no_vectors(cache):
    vectors, report = embed_messages([], embedder=HashEmbedder(), cache=cache)
    assert (vectors.shape, vectors.dtype, report.embedded) == ((0, 16), np.float32, 0)


def test_a_killed_run_keeps_what_was_embedded(cache, monkeypatch):
    monkeypatch.setattr(embedding_cache, "BATCH_SIZE", 2)

    class DyingEmbedder(HashEmbedder):
        def embed(self, texts, *, use="passage"):
            if len(self.embedded) >= 4:
                raise KeyboardInterrupt
            return super().embed(texts, use=use)

    with pytest.raises(KeyboardInterrupt):
        embed_messages(list("abcdefg"), embedder=DyingEmbedder(), cache=cache)
    _, report = embed_messages(list("abcdefg"), embedder=HashEmbedder(), cache=cache)
    assert (report.embedded, report.reused) == (3, 4)


def test_no_text_reaches_the_disk(cache, tmp_path):
    text = "my parcel for somebody@example.com is lost"
    embed_messages([text], embedder=HashEmbedder(), cache=cache)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert written
    assert b"somebody" not in written
    assert not [path for path in tmp_path.rglob("*") if "parcel" in path.name]


@pytest.mark.parametrize("spoil", [lambda v: v * np.nan, lambda v: v * 2, lambda v: v[:, :3], lambda v: v[:1]])
def test_vectors_that_cannot_be_used_are_refused_and_not_kept(cache, spoil):
    class Spoilt(HashEmbedder):
        def embed(self, texts, *, use="passage"):
            return spoil(super().embed(texts, use=use))

    with pytest.raises(EmbeddingError, match="hash-embedder answered"):
        embed_messages(["a", "b"], embedder=Spoilt(), cache=cache)
    _, report = embed_messages(["a", "b"], embedder=HashEmbedder(), cache=cache)
    assert report.reused == 0


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=4), max_size=12))
@settings(deadline=None)
def test_row_i_is_the_vector_of_message_i_whatever_the_messages_are(texts):
    vectors, report = embed_messages(texts, embedder=HashEmbedder())
    np.testing.assert_array_equal(vectors, HashEmbedder().embed(texts))
    assert report.embedded == len(set(texts))


def test_texts_that_look_alike_or_hold_half_a_character_have_hashes_of_their_own():
    assert len({text_hash(text) for text in ("a", "A", "a ", "\ud800", "\ud801", "")}) == 6
