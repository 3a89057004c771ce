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


class CrowdedEmbedder(HashEmbedder):
    """A hash embedder whose vectors all lie around one place, as e5's do."""

    def __init__(self):
        super().__init__()
        self._place = np.full(self.dimension, 3.0 / np.sqrt(self.dimension), dtype=np.float32)
        self.centre = self._place / np.float32(np.sqrt(10.0))

    def embed(self, texts, **use):
        crowded = super().embed(texts, **use) + self._place
        return (crowded / np.linalg.norm(crowded, axis=1, keepdims=True)).astype(np.float32)


def mean_cosine(vectors):
    return float((vectors @ vectors.T)[~np.eye(len(vectors), dtype=bool)].mean())


def test_messages_of_a_model_whose_vectors_are_all_alike_are_told_apart():
    texts = [f"message number {number}" for number in range(60)]
    embedder = CrowdedEmbedder()
    assert mean_cosine(embedder.embed(texts)) > 0.8
    vectors, _ = embed_messages(texts, embedder=embedder)
    assert abs(mean_cosine(vectors)) < 0.1
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    plain, _ = embed_messages(texts, embedder=HashEmbedder())
    likeness = np.corrcoef((vectors @ vectors.T).ravel(), (plain @ plain.T).ravel())[0, 1]
    assert likeness > 0.9


def test_one_message_of_such_a_model_has_a_vector():
    vectors, _ = embed_messages(["alone"], embedder=CrowdedEmbedder())
    assert vectors.shape == (1, CrowdedEmbedder().dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert embed_messages([], embedder=CrowdedEmbedder())[0].shape == (0, CrowdedEmbedder().dimension)
