import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from mangaassist_assets.mining.clustering.neighbours import approximate_neighbours, find_neighbours, nearest_neighbours


def unit_vectors(count: int, *, dimension: int = 32, groups: int = 12, seed: int = 0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, dimension))
    vectors = centres[rng.integers(0, groups, count)] + rng.normal(size=(count, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_exact_neighbours_are_the_nearest_and_never_the_row_itself():
    vectors = unit_vectors(50)
    indices, similarities = nearest_neighbours(vectors, neighbours=5, block_rows=8)
    full = vectors @ vectors.T
    np.fill_diagonal(full, -9)
    assert not (indices == np.arange(50)[:, None]).any()
    np.testing.assert_allclose(similarities, -np.sort(-full, axis=1)[:, :5], atol=1e-4)
    np.testing.assert_allclose(similarities, np.take_along_axis(full, indices, axis=1), atol=1e-4)


def test_of_equally_near_rows_the_first_ones_are_neighbours():
    vectors = np.repeat(np.eye(2, dtype=np.float32), 6, axis=0)
    indices, _ = nearest_neighbours(vectors, neighbours=3)
    assert indices[0].tolist() == [1, 2, 3]
    assert indices[3].tolist() == [0, 1, 2]
    assert indices[11].tolist() == [6, 7, 8]


@pytest.mark.parametrize("search", [nearest_neighbours, approximate_neighbours])
def test_fewer_rows_than_wanted_neighbours_give_what_there_is(search):
    for count in range(4):
        indices, similarities = search(unit_vectors(count), neighbours=5)
        assert indices.shape == similarities.shape == (count, max(0, count - 1))
        for row in range(count):
            assert row not in indices[row][np.isfinite(similarities[row])]


def test_lists_find_nearly_all_of_the_nearest():
    vectors = unit_vectors(3000, groups=40)
    exact, _ = nearest_neighbours(vectors, neighbours=10)
    found, similarities = approximate_neighbours(vectors, neighbours=10)
    shared = [len(set(ours) & set(theirs)) for ours, theirs in zip(found.tolist(), exact.tolist(), strict=True)]
    assert np.mean(shared) / 10 > 0.9
    assert not (found == np.arange(3000)[:, None]).any()
    assert (np.diff(similarities, axis=1) <= 0).all()


def test_looking_into_every_list_is_exact():
    vectors = unit_vectors(600)
    exact, similarities = nearest_neighbours(vectors, neighbours=7)
    found, near = approximate_neighbours(vectors, neighbours=7, lists=20, probes=20)
    np.testing.assert_allclose(near, similarities, atol=2e-5)
    assert (found == exact).mean() > 0.99


def test_a_row_alone_in_its_list_has_itself_as_missing_neighbour():
    vectors = np.eye(6, dtype=np.float32)
    indices, similarities = approximate_neighbours(vectors, neighbours=3, lists=6, probes=1)
    assert np.isneginf(similarities).all()
    assert (indices == np.arange(6)[:, None]).all()


def test_the_search_is_exact_up_to_the_limit_and_by_lists_above():
    vectors = unit_vectors(400)
    np.testing.assert_array_equal(
        find_neighbours(vectors, neighbours=5, exact_up_to=400)[0], nearest_neighbours(vectors, neighbours=5)[0]
    )
    np.testing.assert_array_equal(
        find_neighbours(vectors, neighbours=5, exact_up_to=399, probes=2)[0],
        approximate_neighbours(vectors, neighbours=5, probes=2)[0],
    )


@given(
    npst.arrays(
        np.float32,
        st.tuples(st.integers(1, 40), st.integers(1, 4)),
        elements=st.floats(-1, 1, width=32, allow_nan=False),
    ),
    st.integers(1, 6),
    st.integers(1, 4),
)
@settings(deadline=None)
def test_any_vectors_have_distinct_neighbours_in_falling_order_the_same_twice(vectors, neighbours, probes):
    indices, similarities = approximate_neighbours(vectors, neighbours=neighbours, probes=probes)
    again, _ = approximate_neighbours(vectors.copy(), neighbours=neighbours, probes=probes)
    np.testing.assert_array_equal(indices, again)
    assert (similarities[:, 1:] <= similarities[:, :-1]).all()
    for row, (columns, near) in enumerate(zip(indices, similarities, strict=True)):
        found = columns[np.isfinite(near)].tolist()
        assert len(set(found)) == len(found)
        assert row not in found
        assert (columns[~np.isfinite(near)] == row).all()
