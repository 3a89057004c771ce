import numpy as np
import pytest

from mangaassist_assets.mining.clustering.layout import map_points
from tests.support.timing import growth


def blobs(sizes: list[int], *, dimension: int = 48, seed: int = 0):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    centres = rng.normal(size=(len(sizes), dimension)) * 3
    return (centres[groups] + rng.normal(size=(len(groups), dimension))).astype(np.float32), groups


def share_of_nearest_in_own_group(points, groups) -> float:
    distances = ((points[:, None, :] - points[None, :, :]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    return float((groups[distances.argmin(axis=1)] == groups).mean())


@pytest.mark.parametrize("count", range(8))
def test_few_messages_have_places(count):
    points = map_points(blobs([count])[0])
    assert points.shape == (count, 2)
    assert points.dtype == np.float32
    assert np.isfinite(points).all()


def test_messages_of_one_group_lie_together():
    vectors, groups = blobs([60, 40, 30])
    assert share_of_nearest_in_own_group(map_points(vectors), groups) > 0.97


def test_many_messages_lie_around_their_groups():
    vectors, groups = blobs([900, 400, 200, 100])
    points = map_points(vectors, groups=groups)
    assert share_of_nearest_in_own_group(points[::4], groups[::4]) > 0.9


def test_the_map_is_the_same_every_time():
    vectors, groups = blobs([900, 700])
    np.testing.assert_array_equal(map_points(vectors[:120]), map_points(vectors[:120].copy()))
    np.testing.assert_array_equal(map_points(vectors, groups=groups), map_points(vectors.copy(), groups=groups))


def test_points_fill_the_map_and_stay_in_it():
    for vectors, groups in (blobs([30, 20]), blobs([1000, 800])):
        points = map_points(vectors, groups=groups)
        assert np.abs(points).max() == pytest.approx(100, abs=0.01)


def test_equal_messages_lie_on_one_point():
    assert not map_points(np.ones((40, 8), dtype=np.float32)).any()
    assert not map_points(np.zeros((3, 8), dtype=np.float32)).any()


def test_many_groups_of_one_and_strange_numbers_of_groups_have_places():
    vectors, _ = blobs([1700])
    for groups in (np.arange(1700), np.where(np.arange(1700) % 2, -7, 10**9)):
        assert np.isfinite(map_points(vectors, groups=groups)).all()
    assert np.isfinite(map_points(vectors)).all()


def test_four_times_the_messages_take_less_than_eight_times_as_long():
    inputs = {count: blobs([100] * count, dimension=384) for count in (5, 20)}
    assert growth(lambda count: map_points(inputs[count][0], groups=inputs[count][1]), 5, 20, enough=8) < 8


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"3 embeddings but groups of shape \(2,\)"):
        map_points(np.ones((3, 2), dtype=np.float32), groups=np.zeros(2, dtype=np.int64))
    with pytest.raises(ValueError, match="row 1"):
        map_points(np.array([[1.0, 0.0], [np.inf, 0.0]], dtype=np.float32))
