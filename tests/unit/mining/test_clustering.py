import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from mangaassist_assets.mining.clustering import ClusteringConfig, cluster_messages, nearest_neighbours


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


def test_neighbours_are_exact_and_never_the_row_itself():
    vectors, _ = blobs([25, 25])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    indices, similarities = nearest_neighbours(unit, neighbours=5, block_rows=8)
    full = unit @ unit.T
    np.fill_diagonal(full, -9)
    assert not (indices == np.arange(50)[:, None]).any()
    np.testing.assert_allclose(similarities, -np.sort(-full, axis=1)[:, :5], atol=1e-4)


def test_broken_embeddings_are_refused_by_row():
    vectors = np.ones((4, 3), dtype=np.float32)
    vectors[2, 1] = np.nan
    with pytest.raises(ValueError, match="row 2"):
        cluster_messages(vectors)
    with pytest.raises(ValueError, match="shape"):
        cluster_messages(np.ones(4, dtype=np.float32))


def test_settings_under_which_the_walk_cannot_settle_are_refused():
    with pytest.raises(ValueError, match=r"inflation 1\.0 above 1"):
        ClusteringConfig(inflation=1.0)


arrays = npst.arrays(
    np.float32,
    st.tuples(st.integers(0, 30), st.integers(1, 5)),
    elements=st.floats(-10, 10, width=32, allow_nan=False),
)


@given(arrays)
@settings(max_examples=150, deadline=None)
def test_any_vectors_are_grouped_the_same_way_twice_and_none_is_left_out(vectors):
    labels = cluster_messages(vectors)
    assert labels.shape == (len(vectors),)
    assert cluster_messages(vectors.copy()).tolist() == labels.tolist()
    assert sorted(set(labels.tolist())) == list(range(len(set(labels.tolist()))))
