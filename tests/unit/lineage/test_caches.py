import numpy as np

from mangaassist_assets.lineage.caches import MessageVectors, TrainingScratch
from mangaassist_assets.mining.clustering.message_vectors import text_hash
from mangaassist_assets.retrieval.embedding_cache import EmbeddingCache
from mangaassist_assets.tracing.person_marks import PersonMarks

MARKS = PersonMarks("u-" + "0" * 20, frozenset(["t1"]), frozenset(["what only this person said"]))


def test_vectors_of_what_the_person_said_go_and_those_of_others_stay(tmp_path):
    cache = EmbeddingCache(tmp_path)
    mine, others = (text_hash(text) for text in (*MARKS.texts, "what somebody else said"))
    cache.write("model query", 2, [mine, others], np.eye(2, dtype=np.float32))
    vectors = MessageVectors(cache)
    assert vectors.holds(MARKS)
    assert (vectors.erase(MARKS), vectors.erase(MARKS)) == (1, 0)
    assert not vectors.holds(MARKS)
    assert cache.holds([others])


def test_every_unfinished_training_goes(tmp_path):
    scratch = TrainingScratch(tmp_path / "training")
    assert not scratch.holds(MARKS)
    (tmp_path / "training" / "0123" / "checkpoints").mkdir(parents=True)
    (tmp_path / "training" / "0123" / "checkpoints" / "step").write_bytes(b"weights")
    (tmp_path / "training" / "lock").write_text("")
    assert scratch.holds(MARKS)
    assert (scratch.erase(MARKS), scratch.erase(MARKS)) == (2, 0)
    assert not scratch.holds(MARKS)
