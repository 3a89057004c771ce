import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from mangaassist_assets.mining.clustering.communities import cluster_messages
from mangaassist_assets.mining.clustering.stability import StabilityConfig, cluster_stability
from tests.support.examples import examples


def blobs(sizes: list[int], *, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    return (np.eye(32)[truth] + rng.normal(size=(len(truth), 32)) * spread).astype(np.float32), truth


def test_groups_that_are_there_are_stable_and_groups_cut_out_of_fog_are_not():
    vectors, truth = blobs([30, 25, 20], spread=0.05)
    assert cluster_stability(vectors, truth).min() > 0.9
    fog = np.random.default_rng(1).normal(size=(80, 32)).astype(np.float32)
    arbitrary = np.arange(80) % 4
    assert cluster_stability(fog, arbitrary).max() < 0.5


def test_only_the_group_that_is_an_accident_scores_low():
    vectors, truth = blobs([40, 40], spread=0.05)
    cut = np.where((truth == 1) & (np.arange(80) % 2 == 0), 2, truth)
    scores = cluster_stability(vectors, cut)
    assert scores[0] > 0.9
    assert scores[1:].max() < 0.6


def test_the_same_messages_get_the_same_scores():
    vectors, truth = blobs([15, 15, 10], spread=0.3)
    np.testing.assert_array_equal(cluster_stability(vectors, truth), cluster_stability(vectors.copy(), truth))


def test_the_cost_is_bounded_however_many_messages_there_are():
    vectors, truth = blobs([400, 300], spread=0.05)
    sizes = []

    def counting(rows: np.ndarray) -> np.ndarray:
        sizes.append(len(rows))
        return cluster_messages(rows)

    scores = cluster_stability(vectors, truth, cluster=counting, config=StabilityConfig(rounds=3, most_messages=100))
    assert sizes == [100, 100, 100]
    assert scores.min() > 0.9


def test_noise_takes_part_but_gets_no_score_and_a_group_that_no_round_kept_is_unknown():
    vectors, truth = blobs([10, 10], spread=0.05)
    noisy = np.where(truth == 1, -1, 0)
    assert cluster_stability(vectors, noisy).shape == (1,)
    rare = np.array([*([0] * 19), 1])
    scores = cluster_stability(vectors, rare, config=StabilityConfig(rounds=1, most_messages=2))
    assert np.isnan(scores[1])


def test_nothing_has_no_scores_and_what_does_not_fit_is_refused():
    assert cluster_stability(np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int64)).shape == (0,)
    with pytest.raises(ValueError, match="3 embeddings but groups of shape"):
        cluster_stability(np.eye(3, dtype=np.float32), np.zeros(2, dtype=np.int64))
    with pytest.raises(ValueError, match="resampled"):
        cluster_stability(np.eye(5, dtype=np.float32), np.zeros(5, dtype=np.int64), cluster=lambda _: np.zeros(1))
    with pytest.raises(ValueError, match="share"):
        StabilityConfig(share=1.0)


@given(npst.arrays(np.int64, st.integers(1, 40), elements=st.integers(-1, 5)), st.integers(0, 9))
@settings(max_examples=examples(80), deadline=None)
def test_scores_lie_between_0_and_1_and_a_clusterer_that_repeats_the_groups_scores_1(groups, seed):
    rows = np.arange(len(groups), dtype=np.float32)[:, None]
    scores = cluster_stability(
        rows,
        groups,
        cluster=lambda kept: groups[kept[:, 0].astype(int)],
        config=StabilityConfig(rounds=4, seed=seed),
    )
    present = np.array([number in groups for number in range(len(scores))], dtype=bool)
    assert np.isnan(scores[~present]).all()
    known = scores[~np.isnan(scores)]
    np.testing.assert_allclose(known, 1.0)
